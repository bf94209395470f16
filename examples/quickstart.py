"""What each card spends per second, from a file of events to a table: ``python examples/quickstart.py``."""

from pathlib import Path

import thalweg as tw

payments = tw.read_ndjson(str(Path(__file__).parent / "quickstart" / "payments.ndjson"))
spent = (
    payments.event_time("ts", unit="ms")
    .window(tw.tumbling("1s"), by="card")
    .agg(n=tw.count(), total=tw.sum("amount"), most=tw.max("amount"))
)
print(spent.collect())
