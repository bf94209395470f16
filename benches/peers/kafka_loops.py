"""confluent-kafka with orjson: what one would write to have records as Python objects, and objects as records."""

import sys
from typing import Any

import protocol


def main() -> None:
    """Serves on the brokers named on the command line."""
    try:
        import confluent_kafka as kafka
        import orjson
    except ImportError:
        protocol.missing("confluent-kafka and orjson")
        return
    bootstrap = sys.argv[1]

    def read(topic: str) -> tuple[Any, ...]:
        settings = {"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False}
        consumer = kafka.Consumer(settings)
        place = kafka.TopicPartition(topic, 0, kafka.OFFSET_BEGINNING)
        end = consumer.get_watermark_offsets(place)[1]
        consumer.assign([place])
        rows = []
        while len(rows) < end:
            rows.extend(orjson.loads(message.value()) for message in consumer.consume(10_000, 1.0))
        consumer.close()
        return (len(rows),)

    def write(topic: str, count: int) -> tuple[Any, ...]:
        producer = kafka.Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        for row in range(count):
            value = {
                "ts": 1_700_000_040_000 + row // 100,
                "key": row * 7_919 % 10_000,
                "value": row * 104_729 % 1_000_003 / 1e4,
                "user": f"user-{row * 15_485_863 % 100_000_000:08}",
                "page": f"/shop/checkout/{row % 10}",
            }
            while True:
                try:
                    producer.produce(topic, orjson.dumps(value))
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.flush()
        return (count,)

    def answer(question: dict[str, Any]) -> tuple[Any, ...]:
        return read(question["key"]) if question["query"] == "read" else write(question["key"], question["size"])

    protocol.serve(f"confluent-kafka {kafka.version()} and orjson", answer)


main()
