"""Formats that need more than a name: what they make goes where `format=` takes one.

| format | what it is | read from | written to |
|---|---|---|---|
| `avro` | Avro records alone, all of one writer's schema | Kafka, Kinesis | Kafka, Kinesis |
| `avro_confluent` | Avro records behind the number that a registry has for their schema | likewise | likewise |
| `avro_single_object` | Avro records behind the fingerprint of their writer's schema | likewise | likewise |
| `debezium_avro` | change events of Debezium in Avro, as `avro_confluent`, for the rows they are about | likewise | |
| `json_confluent` | objects of JSON behind the number of their schema | likewise | likewise |
| `protobuf` | messages of protocol buffers, in sockets each behind its length | likewise, sockets | Kafka, Kinesis |
| `protobuf_confluent` | messages of protocol buffers by a file of Confluent's registry | Kafka, Kinesis | likewise |

Object container files of Avro are read by `read_avro`, files of messages by `read_protobuf`, files of change events in
JSON by `read_debezium`; elsewhere these have the name "debezium".

Of each Avro writer's schema the fields are decoded that bear the names of columns, and are cast to their types; other
fields are passed over, and a column without a field is null. So columns stay while writers change their schemas. A
`reader_schema` resolves records as Avro's specification has it, with defaults and aliases. With one, where there is but
one writer's schema, and for Protobuf, columns need not be given.

Example:
    >>> payments = tw.read_kafka("localhost:9092", "payments", format=tw.formats.avro(schema), end="latest")
"""

from thalweg._native import (
    Format,
    avro,
    avro_confluent,
    avro_single_object,
    debezium_avro,
    json_confluent,
    protobuf,
    protobuf_confluent,
)

__all__ = [
    "Format",
    "avro",
    "avro_confluent",
    "avro_single_object",
    "debezium_avro",
    "json_confluent",
    "protobuf",
    "protobuf_confluent",
]
