"""fastavro and Google's protobuf over the messages of a file, each behind its length in four bytes."""

import io
import sys
from pathlib import Path
from typing import Any

import protocol

FIELDS = [("ts", "long", 3), ("key", "int", 5), ("value", "double", 1), ("card", "string", 9), ("city", "string", 9)]


def messages(path: str) -> list[bytes]:
    """The messages of the file, in memory."""
    data, found, at = Path(path).read_bytes(), [], 0
    while at < len(data):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        found.append(data[start:at])
    return found


def event() -> Any:
    """The class of the messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="event.proto", syntax="proto3")
    made = file.message_type.add(name="Event")
    for number, (name, _, kind) in enumerate(FIELDS, 1):
        made.field.add(name=name, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Event"))


def main() -> None:
    """Serves decoding of the file named on the command line."""
    try:
        import fastavro
        from google import protobuf
    except ImportError:
        protocol.missing("fastavro protobuf")
        return
    found = messages(sys.argv[1])
    fields = [{"name": name, "type": kind} for name, kind, _ in FIELDS]
    schema = fastavro.parse_schema({"type": "record", "name": "Event", "fields": fields})
    made = event()

    def answer(question: dict[str, Any]) -> tuple[int]:
        if question["query"] == "avro":
            rows = [fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None) for message in found]
        else:
            rows = [(one.ts, one.key, one.value, one.card, one.city) for one in map(made.FromString, found)]
        return (len(rows),)

    protocol.serve(f"fastavro {fastavro.__version__}, protobuf {protobuf.__version__}", answer)


if __name__ == "__main__":
    main()
