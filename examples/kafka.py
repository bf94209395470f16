"""What each card spends per second, from topic to topic: ``python examples/kafka.py HOST:PORT``.

``tests/services/kafka start`` starts a broker if there is none.
"""

import sys
import time

import thalweg as tw

brokers = sys.argv[1] if len(sys.argv) > 1 else "localhost:9092"
run = time.time_ns()  # topics of this run alone
payments, totals = f"payments-{run}", f"totals-{run}"

rows = {"ts": list(range(10_000)), "card": [f"card {n % 100}" for n in range(10_000)], "amount": list(range(10_000))}
try:
    import pyarrow as pa
except ImportError:
    sys.exit("this example makes its payments with pyarrow: pip install pyarrow")
tw.from_arrow(pa.table(rows)).run(sink=tw.write_kafka(brokers, payments, key="card")).wait()

schema = {"ts": "timestamp[ms]", "card": "string", "amount": "int64"}
per_card = (
    tw.read_kafka(brokers, payments, end="latest", schema=schema)
    .event_time("ts", max_delay="500ms")
    .window(tw.tumbling("1s"), by="card")
    .agg(n=tw.count(), amount=tw.sum("amount"))
)
per_card.run(sink=tw.write_kafka(brokers, totals, key="card", transactional_id=totals)).wait()

columns = {"card": "string", "n": "int64", "amount": "int64"}
print(tw.read_kafka(brokers, totals, end="latest", schema=columns).collect())
