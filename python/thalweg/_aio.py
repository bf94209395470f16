"""Asynchronous iteration: the engine works in a thread of the event loop's pool while other tasks run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg._native import Batches, Table

# Seconds of work per step: a cancelled task leaves a thread that is busy for no longer than this.
_STEP = 0.05


class AsyncBatches:
    """What `async for` iterates over; made by `Stream.__aiter__`."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __aiter__(self) -> AsyncBatches:
        return self

    async def __anext__(self) -> Table:
        while True:
            batch = await asyncio.to_thread(self._batches.pull, _STEP)
            if batch is not None:
                return batch
            if self._batches.ended:
                raise StopAsyncIteration
