"""Asynchronous iteration: the engine works in a thread of its own while other tasks run."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg._native import Batches, Table

# Seconds of work per step: a cancelled task leaves a thread that is busy for no longer than this.
_STEP = 0.05


class AsyncBatches:
    """What `async for` iterates over; made by `Stream.__aiter__`."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        # Not a thread of the event loop's pool, which has many: an io_uring belongs to the one that used it first.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="thalweg")

    def __aiter__(self) -> AsyncBatches:
        return self

    async def __anext__(self) -> Table:
        loop = asyncio.get_running_loop()
        while True:
            batch = await loop.run_in_executor(self._thread, self._batches.pull, _STEP)
            if batch is not None:
                return batch
            if self._batches.ended:
                raise StopAsyncIteration

    def __del__(self) -> None:
        # An abandoned run ends in its thread, too, where what the kernel still has of its memory can be had back.
        batches = [self._batches]
        del self._batches
        with suppress(RuntimeError):  # at the interpreter's exit no more work is taken
            self._thread.submit(batches.clear)
        self._thread.shutdown(wait=False)
