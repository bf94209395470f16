"""What each card spends per second, from a file of events to a table: ``python examples/quickstart.py``."""

from pathlib import Path

import thalweg as tw

per_card = (
    tw.read_ndjson(str(Path(__file__).parent / "quickstart" / "payments.ndjson"))
    .event_time("ts", max_delay="500ms")
    .filter("amount > 0")
    .window(tw.tumbling("1s"), by="card")
    .agg(n=tw.count(), amount_sum=tw.sum("amount"))
    .collect()
)
print(per_card)
