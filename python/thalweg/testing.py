r"""For tests of pipelines: inputs written out step by step on a clock of their own, and results beside literal tables.

Example:
    >>> payments = tw.testing.source(
    ...     ["ts: int64 | card: string\n100 | a\n900 | b", tw.testing.pause("5s"), "ts | card\n1_200 | a"]
    ... )
    >>> counts = payments.event_time("ts").window(tw.tumbling("1s")).agg(n=tw.count()).collect()
    >>> tw.testing.assert_table(counts, "window_start | n\n0 | 2\n1_000 | 1")
"""

from typing import Any

from thalweg._native import Step, abort, difference, eof, pause, rows, source

__all__ = ["Step", "abort", "assert_table", "difference", "eof", "pause", "rows", "source"]


def assert_table(result: Any, expected: Any) -> None:
    """Raises AssertionError, showing the difference, unless results are as expected.

    Args:
        result: A `Table` or any Arrow object.
        expected: A literal table, whose types are those of the result; or rows as an Arrow object, a list of dicts or a
            dict of lists. Its columns are those that are compared.
    """
    __tracebackhide__ = True
    found = difference(result, expected)
    if found is not None:
        raise AssertionError(found)
