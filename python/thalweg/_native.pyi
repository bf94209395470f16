import builtins as _builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias, final

import pandas as pd
import polars as pl
import pyarrow as pa

__version__: str

class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

class _ArrowSchema(Protocol):
    def __arrow_c_schema__(self) -> object: ...

_Path: TypeAlias = str | PathLike[str]
_Duration: TypeAlias = str | timedelta | Literal[0]
_Columns: TypeAlias = str | Sequence[str]
_SchemaLike: TypeAlias = dict[str, str] | dict[str, _ArrowSchema] | dict[str, Any] | _ArrowSchema
_SinkLike: TypeAlias = Sink | Callable[[Table], object]
_Offsets: TypeAlias = dict[tuple[str, int], int]
_Rows: TypeAlias = _ArrowStream | _ArrowArray | dict[str, Any] | None
_RowsFunction: TypeAlias = Callable[[Table, dict[Any, Any], Context], _Rows]
_TimerFunction: TypeAlias = Callable[[int, dict[Any, Any], Context], _Rows]
_Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
_Compression: TypeAlias = Literal["none", "gzip", "zstd", "lz4"]
_JsonText: TypeAlias = str | dict[str, Any]
_Reference: TypeAlias = Mapping[str, Any]
_Format: TypeAlias = Literal["ndjson", "debezium", "csv", "tsv", "arrow", "avro"] | Format
_Settings: TypeAlias = Mapping[str, str | int | bool]
_OAuth: TypeAlias = Callable[[], tuple[str, float] | tuple[str, float, str]]

class _AggregateObject(Protocol):
    def accumulate(self, state: Any, rows: Table, /) -> Any: ...
    def merge(self, state: Any, other: Any, /) -> Any: ...
    def finish(self, state: Any, /) -> Any: ...

class _ProcessObject(Protocol):
    def on_rows(self, rows: Table, state: dict[Any, Any], ctx: Context, /) -> _Rows: ...

class ThalwegError(Exception):
    """Anything that goes wrong in Thalweg."""

    code: str
    retriable: bool

class ConfigError(ThalwegError):
    """A setting is missing, out of range or contradicts another."""

class SchemaError(ThalwegError):
    """A column is unknown, has the wrong type, or an expression does not fit the columns."""

class DecodeError(ThalwegError):
    """Bytes do not follow the format they were said to be in."""

class ConnectorError(ThalwegError):
    """A file, socket, broker or other outside system failed."""

class StateError(ThalwegError):
    """Operator state is over its bound or cannot be restored."""

class DeviceError(ThalwegError):
    """A compute device is missing or failed."""

class DroppedRowsWarning(UserWarning):
    """Rows were late or did not decode, and nothing was told to take them."""

@final
class Schema:
    """Names and types of columns: a read-only mapping that Arrow libraries understand."""

    def keys(self) -> list[str]:
        """The names of the columns, in order."""
    def values(self) -> list[str]:
        """The types of the columns, in order."""
    def items(self) -> list[tuple[str, str]]:
        """Names with types, in order."""
    def __getitem__(self, name: str) -> str: ...
    def __contains__(self, name: object) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __eq__(self, other: object) -> bool: ...
    def __arrow_c_schema__(self) -> object: ...

@final
class Context:
    """One call of a function of `Stream.process`: which key it is for, when it is, and what the function asks for."""

    @property
    def time(self) -> int:
        """The greatest event time of the rows given, or the timer's; None on a stream without event time."""
    @property
    def watermark(self) -> int | None:
        """How far event time has come: rows at or before it are late. None before the first rows."""
    @property
    def key(self) -> Table:
        """The columns of the key, with one row."""
    def set_timer(self, time: int) -> None:
        """Lets `on_timer` be called for this key once the watermark has reached `time`."""
    def delete_timer(self, time: int) -> None:
        """Takes back a timer of this key, if there is one."""
    def clear(self) -> None:
        """Forgets the key after this call, with its state and all its timers."""

@final
class Format:
    """A format and what has to be known of it."""

@final
class SchemaRegistry:
    """Confluent's schema registry, or one that speaks as it does."""

    def __new__(
        cls,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        ca: _Path | None = None,
        timeout: _Duration | None = None,
        retries: int | None = None,
    ) -> SchemaRegistry: ...
    def schema(self, id: int) -> str | None:
        """The schema of a number, or None if the registry has none."""
    def version(self, subject: str, version: int | None = None) -> dict[str, Any]:
        """A version of a subject, the latest unless said, as a dict of `id`, `version` and `schema`."""
    def register(
        self,
        subject: str,
        schema: _JsonText,
        kind: Literal["avro", "json", "protobuf"] = "avro",
        references: Sequence[_Reference] = (),
    ) -> int:
        """Registers a schema under a subject; returns its number. `references` are the schemas that it refers to."""
    def conflicts(
        self,
        subject: str,
        schema: _JsonText,
        version: int | None = None,
        kind: Literal["avro", "json", "protobuf"] = "avro",
        references: Sequence[_Reference] = (),
    ) -> list[str]:
        """What stands in the way of registering a schema beside a version of a subject; empty if nothing does."""

@final
class Config:
    """The knobs of a run. What is left out keeps its default, which suits most."""

    def __new__(
        cls,
        *,
        io: Literal["auto", "uring", "portable"] | None = None,
        device: Literal["auto", "cpu", "gpu"] | None = None,
        backend: str | None = None,
        batch_rows: int | None = None,
        linger: _Duration | None = None,
        latency_target: _Duration | None = None,
        max_connections: int | None = None,
        max_line_bytes: int | None = None,
        connection_idle: _Duration | None = None,
        source_thread: bool | None = None,
        wait: Literal["spin", "yield", "park"] | None = None,
        workers: int | None = None,
        exchange: Literal["auto", "hash", "two_phases", "windows"] | None = None,
        max_keys: int | None = None,
        max_state_bytes: int | None = None,
        state_budget: int | None = None,
        over_budget: Literal["error", "backpressure", "shed"] | None = None,
        commit_every: _Duration | None = None,
        direct_io: bool | None = None,
        held_back_warning: _Duration | None = None,
    ) -> Config: ...

@final
class Table:
    """Rows in Arrow columns: the results of a run, or one batch of them."""

    @property
    def num_rows(self) -> int:
        """How many rows."""
    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
    @property
    def schema(self) -> Schema:
        """Names and types of the columns."""
    @property
    def late(self) -> Table:
        """The first rows that came after all their windows had fired."""
    @property
    def quarantined(self) -> Table:
        """The first rows that did not decode or had no event time: partition, offset, bytes, error."""
    def metrics(self) -> dict[str, Any]:
        """The counters of the run, the watermark and latencies."""
    def head(self, rows: int = 5) -> Table:
        """The first rows, without a copy."""
    def to_arrow(self) -> pa.Table:
        """As a pyarrow.Table, without a copy."""
    def to_polars(self) -> pl.DataFrame:
        """As a polars.DataFrame."""
    def to_pandas(self) -> pd.DataFrame:
        """As a pandas.DataFrame."""
    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def _repr_html_(self) -> str: ...

@final
class Batches:
    """The results of a stream as they come: an iterator, synchronous or not, of tables."""

    @property
    def ended(self) -> bool:
        """Whether there are no more batches."""
    @property
    def late(self) -> Table:
        """The first late rows, once the stream has ended."""
    @property
    def quarantined(self) -> Table:
        """The first quarantined rows, once the stream has ended."""
    def metrics(self) -> dict[str, Any]:
        """The counters now."""
    def snapshot(self) -> bytes:
        """The state of all steps, to go on from with `Stream.batches(restore=...)`."""
    def why_not_firing(self) -> HeldBack | None:
        """Why the earliest window that waits has not fired."""
    def pull(self, seconds: float = 0.05) -> Table | None:
        """The next batch if one is there within about `seconds`, else None."""
    def __iter__(self) -> Batches: ...
    def __next__(self) -> Table: ...
    def __aiter__(self) -> _AsyncTables: ...

class _AsyncTables(Protocol):
    def __aiter__(self) -> _AsyncTables: ...
    async def __anext__(self) -> Table: ...

@final
class Query:
    """A query that runs in the background."""

    @property
    def is_running(self) -> bool:
        """Whether the query has not ended yet, well or badly."""
    def stop(self) -> None:
        """Asks the query to finish; does not wait."""
    def wait(self, timeout: float | _Duration | None = None) -> dict[str, Any]:
        """Waits for the end of the query and returns its last counters."""
    def metrics(self) -> dict[str, Any]:
        """The counters now."""
    def why_not_firing(self) -> HeldBack | None:
        """Why the earliest window that waits has not fired."""
    def explain(self) -> str:
        """The plans of its streams in words, and the windows that share panes."""
    def __enter__(self) -> Query: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]: ...

@final
class HeldBack:
    """The earliest window that waits, and the partition that it waits for; `str()` says so, with what can be done."""

    @property
    def window_end(self) -> int:
        """The end of the earliest window that waits."""
    @property
    def watermark(self) -> int | None:
        """Event time up to which all rows have come."""
    @property
    def partition(self) -> str | None:
        """The partition that holds the watermark back."""
    @property
    def partition_watermark(self) -> int | None:
        """Event time up to which all rows of that partition have come."""
    @property
    def quiet_for(self) -> timedelta | None:
        """How long ago that partition last had rows, or began."""
    @property
    def unit(self) -> Literal["ms", "us", "ns"]:
        """What event times count."""

@final
class Sink:
    """Where results go."""

@final
class Window:
    """What windows a stream is cut into."""

@final
class Aggregate:
    """An aggregate of a window."""

    def sketch(self) -> Aggregate:
        """The sketch in place of the number that it tells, as binary."""

@final
class Detector:
    """An anomaly detector and its parameters."""

@final
class Scorer:
    """A detector with the history of one series, outside of a stream."""

    on: list[str]
    def __new__(cls, detector: Detector, on: _Columns) -> Scorer: ...
    def score(self, rows: _ArrowStream | _ArrowArray) -> list[float]:
        """The score of each row, NaN where there is none; the detector learns from each row before the next."""

    def save(self) -> bytes:
        """What is known, to go on from with `load`."""

    def load(self, state: bytes) -> None:
        """Takes up what `save` gave."""

@final
class Windowed:
    """A stream cut into windows, waiting for its aggregates."""

    def agg(self, **aggregates: Aggregate) -> Stream:
        """One row per window and group."""

@final
class Stream:
    """A stream of rows: a source and the steps that its rows go through."""

    @property
    def local_addr(self) -> str | None:
        """The address that clients connect to, if the source listens."""
    @property
    def schema(self) -> Schema:
        """Names and types of the columns that come out."""
    def event_time(
        self,
        column: str,
        unit: _Unit | None = None,
        max_delay: _Duration = 0,
        idle_timeout: _Duration | None = "5s",
        punctuated_by: str | None = None,
        advance_after: _Duration | None = None,
        max_skew: _Duration | None = None,
    ) -> Stream:
        """Takes the event time from a column."""
    def arrival_time(self, column: str) -> Stream:
        """Adds the time at which each row was taken in, and makes it the event time."""
    def filter(self, predicate: str) -> Stream:
        """Keeps the rows for which a SQL expression is true."""
    def with_columns(self, **columns: str) -> Stream:
        """Adds columns given as SQL expressions, or replaces those of the same name."""
    def select(self, *columns: str) -> Stream:
        """Keeps these columns or SQL expressions, in this order."""
    def window(
        self,
        spec: Window,
        by: _Columns | None = None,
        *,
        allowed_lateness: _Duration | None = None,
        early: _Duration | None = None,
        updates: bool = False,
        ttl: _Duration | None = None,
    ) -> Windowed:
        """Cuts the stream into windows; go on with `agg`."""
    def detect(
        self,
        detector: Detector,
        on: _Columns,
        by: _Columns | None = None,
        threshold: float | None = None,
        *,
        false_alarm_rate: float | None = None,
        top_k: tuple[int, int | _Duration] | None = None,
        p: bool = False,
        refractory: int | _Duration | None = None,
        region: int | None = None,
        expected: bool = False,
        attribution: bool = False,
        ttl: _Duration | None = None,
    ) -> Stream:
        """Adds `score`, `is_anomaly` and what else is asked for to every row."""
    def dedup(self, by: _Columns, within: _Duration) -> Stream:
        """Drops rows that repeat one of the same key whose event time is at most `within` away."""
    def heartbeat(
        self, by: _Columns, factor: float = 3.0, at_least: _Duration | None = None, warmup: int = 5
    ) -> Stream:
        """Tells which keys have fallen silent: a row for each silence when it begins."""
    def process(
        self,
        function: _RowsFunction | _ProcessObject | type[_ProcessObject],
        by: _Columns | None = None,
        schema: _SchemaLike | None = None,
        on_timer: _TimerFunction | None = None,
        time: str | None = None,
        ttl: _Duration | None = None,
        in_order: bool = False,
    ) -> Stream:
        """Gives the rows of each key to a function, with a state per key and timers in event time."""
    def explain(self, config: Config | None = None) -> str:
        """The plan in words, one step a line."""
    def collect(self, workers: int | None = None, config: Config | None = None) -> Table:
        """Reads a bounded input to its end and returns the results."""
    def batches(
        self, config: Config | None = None, workers: int | None = None, restore: bytes | None = None
    ) -> Batches:
        """The results as they come, going on from a snapshot if there is one."""
    def run(
        self,
        sink: _SinkLike,
        late: _SinkLike | None = None,
        quarantine: _SinkLike | None = None,
        config: Config | None = None,
        workers: int | None = None,
    ) -> Query:
        """Runs in the background."""
    def __iter__(self) -> Batches: ...
    def __aiter__(self) -> _AsyncTables: ...
    def _repr_html_(self) -> str: ...

def from_arrow(data: _ArrowStream | _ArrowArray) -> Stream:
    """The rows of an Arrow object."""

def read_parquet(path: _Path, *, storage_options: _Settings | None = None) -> Stream:
    """The rows of the Parquet files that a path or glob names."""

def read_arrow(
    path: _Path, compression: _Compression | None = None, *, storage_options: _Settings | None = None
) -> Stream:
    """The rows of the Arrow IPC files that a path or glob names."""

def read_ndjson(
    path: _Path,
    schema: _SchemaLike | None = None,
    compression: _Compression | None = None,
    *,
    storage_options: _Settings | None = None,
) -> Stream:
    """The lines of the files that a path or glob names, each a JSON object."""

def read_csv(
    path: _Path,
    schema: _SchemaLike | None = None,
    delimiter: str = ",",
    header: bool = True,
    compression: _Compression | None = None,
    *,
    storage_options: _Settings | None = None,
) -> Stream:
    """The rows of the CSV files that a path or glob names."""

def read_debezium(
    path: _Path,
    schema: _SchemaLike | None = None,
    compression: _Compression | None = None,
    *,
    storage_options: _Settings | None = None,
) -> Stream:
    """The rows that the change events of Debezium are about, in the JSON files that a path or glob names."""

def read_avro(
    path: _Path,
    schema: _SchemaLike | None = None,
    reader_schema: _JsonText | None = None,
    compression: _Compression | None = None,
    *,
    storage_options: _Settings | None = None,
) -> Stream:
    """The records of the Avro object container files that a path or glob names."""

def read_protobuf(
    path: _Path,
    descriptor_set: bytes | _Path,
    message: str,
    schema: _SchemaLike | None = None,
    compression: _Compression | None = None,
    *,
    storage_options: _Settings | None = None,
) -> Stream:
    """The messages of the files that a path or glob names, protocol buffers each behind its length."""

def watch(
    path: _Path,
    format: _Format | Literal["parquet"] = "ndjson",
    schema: _SchemaLike | None = None,
    *,
    poll: _Duration | None = None,
    settle: _Duration | None = None,
    existing: bool = True,
    end: Literal["latest"] | None = None,
    delimiter: str | None = None,
    header: bool = True,
    compression: _Compression | None = None,
    storage_options: _Settings | None = None,
) -> Stream:
    """The rows of files as they appear in a folder or below a prefix of an object store."""

def protobuf(
    descriptor_set: bytes | _Path,
    message: str,
    *,
    confluent: bool = False,
    registry: SchemaRegistry | None = None,
    subject: str | None = None,
    auto_register: bool = True,
) -> Format:
    """Messages of protocol buffers: in Kafka a record each, in sockets each behind its length."""

def protobuf_confluent(
    registry: SchemaRegistry, subject: str, *, message: str | None = None, version: int | None = None
) -> Format:
    """Messages of protocol buffers in the wire format of Confluent's schema registry."""

def json_confluent(
    registry: SchemaRegistry | None = None,
    *,
    subject: str | None = None,
    version: int | None = None,
    json_schema: _JsonText | None = None,
    auto_register: bool = True,
) -> Format:
    """Objects of JSON in the wire format of Confluent's schema registry."""

def avro(schema: _JsonText, *, reader_schema: _JsonText | None = None) -> Format:
    """Avro records alone, all of one writer's schema."""

def avro_confluent(
    schemas: SchemaRegistry | dict[int, _JsonText],
    *,
    subject: str | None = None,
    reader_schema: _JsonText | None = None,
    writer_schema: _JsonText | None = None,
    auto_register: bool = True,
) -> Format:
    """Avro records in the wire format of Confluent's schema registry."""

def debezium_avro(schemas: SchemaRegistry | dict[int, _JsonText], *, subject: str | None = None) -> Format:
    """Change events of Debezium in Avro, in the wire format of Confluent's schema registry."""

def avro_single_object(schemas: Sequence[_JsonText], *, reader_schema: _JsonText | None = None) -> Format:
    """Avro records in Avro's single-object encoding."""

class KafkaOffsets:
    """Ties `read_kafka` to `write_kafka`: the sink's transactions hold the offsets of what was read."""

    def __init__(self) -> None: ...

class KafkaRepartition:
    """A topic by which rows are shared out by key among programs."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        by: _Columns,
        partitions: int = 12,
        replication: int | None = None,
        config: _Settings | None = None,
        oauth: _OAuth | None = None,
    ) -> None: ...
    def create(self) -> None:
        """Makes the topic if it is not there."""
    def sink(self) -> Sink:
        """Where rows go."""
    def source(self, *, group: str, schema: _SchemaLike) -> Stream:
        """The rows of the keys that are dealt to this member of the group."""

def read_kafka(
    bootstrap: str,
    topics: _Columns | None = None,
    *,
    partitions: Sequence[tuple[str, int]] | None = None,
    group: str | None = None,
    start: Literal["earliest", "latest", "committed"] | int | datetime | _Offsets | None = None,
    end: Literal["latest"] | int | datetime | _Offsets | None = None,
    format: _Format | Literal["text", "bytes"] | None = None,
    schema: _SchemaLike | None = None,
    delimiter: str | None = None,
    metadata: _Columns | None = None,
    on_out_of_range: Literal["error", "earliest", "latest"] = "error",
    offsets: KafkaOffsets | None = None,
    config: _Settings | None = None,
    oauth: _OAuth | None = None,
) -> Stream:
    """The records of topics of Apache Kafka."""

def read_kinesis(
    stream: str,
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    application: str | None = None,
    start: Literal["trim_horizon", "latest"] | int | datetime | dict[str, str] | None = None,
    start_after: dict[str, str] | None = None,
    end: Literal["latest"] | int | datetime | None = None,
    format: _Format | Literal["text", "bytes"] | None = None,
    schema: _SchemaLike | None = None,
    delimiter: str | None = None,
    metadata: _Columns | None = None,
    consumer: str | None = None,
    on_expired: Literal["error", "trim_horizon"] = "error",
    failover: _Duration | None = None,
    shard_discovery: _Duration | None = None,
    settings: _Settings | None = None,
) -> Stream:
    """The records of a stream of Amazon Kinesis."""

def listen_tcp(
    addr: str,
    schema: _SchemaLike,
    format: _Format = "ndjson",
    end_on_disconnect: bool = False,
    delimiter: str | None = None,
    header: bool = True,
) -> Stream:
    """What clients send to a TCP address."""

def listen_udp(addr: str, schema: _SchemaLike, format: _Format = "ndjson", delimiter: str | None = None) -> Stream:
    """What comes to a UDP address."""

def listen_unix(
    path: _Path,
    schema: _SchemaLike,
    format: _Format = "ndjson",
    end_on_disconnect: bool = False,
    delimiter: str | None = None,
    header: bool = True,
) -> Stream:
    """What clients send to a Unix socket."""

def run(
    branches: Sequence[tuple[Stream, _SinkLike] | tuple[Stream, _SinkLike, _SinkLike | None]],
    quarantine: _SinkLike | None = None,
    config: Config | None = None,
    workers: int | None = None,
) -> Query:
    """Runs several streams of one source in the background, each bound to its own sink."""

def write_parquet(
    directory: _Path,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    max_age: _Duration | None = None,
    *,
    partition_by: _Columns | None = None,
    sort_by: _Columns | None = None,
    bloom_filters: _Columns | None = None,
    row_group_rows: int | None = None,
    zstd_level: int | None = None,
    storage_options: _Settings | None = None,
) -> Sink:
    """Writes Parquet files into a directory or an object store."""

def write_csv(
    directory: _Path,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    max_age: _Duration | None = None,
    *,
    partition_by: _Columns | None = None,
    sort_by: _Columns | None = None,
    delimiter: str = ",",
    header: bool = True,
    compression: _Compression | None = None,
    storage_options: _Settings | None = None,
) -> Sink:
    """Writes CSV files into a directory or an object store."""

def write_arrow(
    directory: _Path,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    max_age: _Duration | None = None,
    *,
    partition_by: _Columns | None = None,
    sort_by: _Columns | None = None,
    compression: Literal["none", "zstd", "lz4"] | None = None,
    storage_options: _Settings | None = None,
) -> Sink:
    """Writes Arrow IPC files into a directory or an object store."""

def write_ndjson(
    path: _Path,
    append: bool = False,
    *,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    max_age: _Duration | None = None,
    partition_by: _Columns | None = None,
    sort_by: _Columns | None = None,
    compression: _Compression | None = None,
    storage_options: _Settings | None = None,
) -> Sink:
    """Writes one JSON object per line: to a file, to standard output for "-", or in files of a directory."""

def write_kafka(
    bootstrap: str,
    topic: str,
    *,
    key: _Columns | None = None,
    value: str | None = None,
    format: Literal["ndjson", "csv", "tsv", "arrow"] | Format | None = None,
    delimiter: str | None = None,
    headers: _Columns | None = None,
    timestamp: str | None = None,
    transactional_id: str | None = None,
    offsets: KafkaOffsets | None = None,
    config: _Settings | None = None,
    oauth: _OAuth | None = None,
) -> Sink:
    """Writes rows to a topic of Apache Kafka, a record each."""

def write_kinesis(
    stream: str,
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    partition_key: _Columns | None = None,
    explicit_hash_key: str | None = None,
    value: str | None = None,
    format: Literal["ndjson", "csv", "tsv", "arrow"] | Format | None = None,
    delimiter: str | None = None,
    aggregate: bool = False,
    settings: _Settings | None = None,
) -> Sink:
    """Writes rows to a stream of Amazon Kinesis, a record each."""

def callback(function: Callable[[Table], object]) -> Sink:
    """Calls a function with each batch of results as a Table."""

def tumbling(size: _Duration, *, offset: _Duration = ..., zone: str | None = None) -> Window:
    """Windows that follow each other without gap or overlap."""

def hopping(size: _Duration, slide: _Duration, *, offset: _Duration = ..., zone: str | None = None) -> Window:
    """Windows of `size` that begin every `slide`."""

def cumulate(size: _Duration, step: _Duration, *, offset: _Duration = ..., zone: str | None = None) -> Window:
    """Windows that begin every `size` and end after every `step` of it."""

def count_window(rows: int, slide: int | None = None) -> Window:
    """Windows of so many rows of a key each, in the order in which they come."""

def session(gap: _Duration) -> Window:
    """Sessions: the rows of a key of which each is at most `gap` after the one before."""

def global_window(*, rows: int | None = None, every: _Duration | None = None, purge: bool = False) -> Window:
    """One window for all rows of a key, put out every `rows` rows, at multiples of `every`, and at the end."""

def rolling(*, rows: int | None = None, range: _Duration | None = None) -> Window:
    """A window for each row, of the rows of its key up to it: the last `rows`, or those of a `range` of time."""

def count(column: str | None = None, *, where: str | None = None) -> Aggregate:
    """How many rows, or in how many of them `column` is not null."""

def sum(column: str, *, where: str | None = None) -> Aggregate:
    """The sum of a column."""

def mean(column: str, *, where: str | None = None) -> Aggregate:
    """The mean of a column, as float64."""

def min(column: str, *, where: str | None = None) -> Aggregate:
    """The least value of a column, in its own type."""

def max(column: str, *, where: str | None = None) -> Aggregate:
    """The greatest value of a column, in its own type."""

def var(column: str, *, where: str | None = None) -> Aggregate:
    """The variance of a column as a sample (divided by one less than the count), as float64."""

def std(column: str, *, where: str | None = None) -> Aggregate:
    """The standard deviation of a column as a sample, as float64."""

def zscore(column: str, *, where: str | None = None) -> Aggregate:
    """How many standard deviations a row's value lies above the mean of the rows before it, below it if negative."""

def first(column: str, *, where: str | None = None) -> Aggregate:
    """The value of a column in the row that is earliest in event time, of those where it is not null."""

def last(column: str, *, where: str | None = None) -> Aggregate:
    """The value of a column in the row that is latest in event time, of those where it is not null."""

def arg_min(column: str, by: str, *, where: str | None = None) -> Aggregate:
    """The value of a column, of any type, in the row where `by` is least."""

def arg_max(column: str, by: str, *, where: str | None = None) -> Aggregate:
    """The value of a column, of any type, in the row where `by` is greatest."""

def count_distinct(column: str, *, where: str | None = None) -> Aggregate:
    """How many different values a column has, exactly."""

def approx_distinct(column: str, *, where: str | None = None) -> Aggregate:
    """How many different values a column has."""

def quantile(column: str, q: float, *, error: float = 0.01, where: str | None = None) -> Aggregate:
    """The value at the part `q`, from 0 to 1, of the values of a column in order, as float64."""

def median(column: str, *, error: float = 0.01, where: str | None = None) -> Aggregate:
    """The median of a column."""

def merge_distinct(column: str, *, where: str | None = None) -> Aggregate:
    """How many different values the sketches in a column hold together."""

def merge_quantile(column: str, q: float, *, error: float = 0.01, where: str | None = None) -> Aggregate:
    """The value at the part `q`, from 0 to 1, of the values that the sketches in a column hold together."""

def histogram(column: str, edges: Sequence[float], *, where: str | None = None) -> Aggregate:
    """How many values of a column lie in each bin, as a list."""

def covar(x: str, y: str, *, where: str | None = None) -> Aggregate:
    """The covariance of two columns as a sample, over the rows where both have a value."""

def corr(x: str, y: str, *, where: str | None = None) -> Aggregate:
    """Pearson's correlation of two columns, over the rows where both have a value."""

def top_k(column: str, k: int, *, where: str | None = None) -> Aggregate:
    """The `k` most frequent values of a column with their exact counts, the most frequent first."""

def collect_list(column: str, limit: int, *, where: str | None = None) -> Aggregate:
    """The values of a column in its first `limit` rows where it is not null, in order of event time, as a list."""

def rate(column: str | None = None, *, where: str | None = None) -> Aggregate:
    """How many rows there are, or how much the column adds up to, a second of the window, as float64."""

def delta(column: str, *, where: str | None = None) -> Aggregate:
    """The value of a column in the latest row less that in the earliest."""

def custom(
    function: _AggregateObject | _builtins.type[_AggregateObject],
    columns: _Columns,
    type: str | _ArrowSchema | Any,
    *,
    where: str | None = None,
) -> Aggregate:
    """An aggregate of your own: an object, or a class that is made one."""

def ewma(alpha: float = 0.05, warmup: int = 10) -> Detector:
    """Scores by the exponentially weighted z-score."""

def novelty(history: int = 4096, warmup: int = 64) -> Detector:
    """Scores by the distance to the nearest value of late, as a share of the range of late."""

def left_discord(length: int = 64, history: int = 4000) -> Detector:
    """Scores by the distance of the latest stretch to the nearest one before, in shape."""

def robust_z(window: int = 128, warmup: int = 20) -> Detector:
    """Scores by the distance from the median of late, in median distances."""

def cusum(allowance: float = 0.5, limit: float = 8.0, warmup: int = 100) -> Detector:
    """Scores lasting shifts by the sum of deviations from a key's first rows."""

def page_hinkley(allowance: float = 0.25, limit: float = 15.0, warmup: int = 30) -> Detector:
    """Scores lasting shifts by the sum of deviations from the mean since the latest shift."""

def random_cut_forest(
    number_of_trees: int = 50,
    sample_size: int = 256,
    shingle_size: int = 1,
    *,
    time_decay: float | None = None,
    output_after: int | None = None,
    thresholded: bool = False,
    seed: int = 42,
) -> Detector:
    """Scores by how soon random cuts part a row from the rows of late."""

def half_space_trees(
    number_of_trees: int = 25, height: int = 15, window_size: int = 250, *, seed: int = 42
) -> Detector:
    """Scores by how thinly the rows of the latest window lie where a row lies."""

def mahalanobis(alpha: float = 0.01, shrinkage: float = 0.1, warmup: int = 50) -> Detector:
    """Scores by how far a row lies from the means, along the way in which columns vary together."""

def knn(k: int = 5, history: int = 512, *, mean: bool = False, warmup: int = 50) -> Detector:
    """Scores by the distance to the k-th nearest of the latest rows, in deviations."""

def rolling_z(window: int = 128, warmup: int = 20) -> Detector:
    """Scores by the distance from the mean of the latest rows, in their standard deviations."""

def adwin(delta: float = 0.002, warmup: int = 30) -> Detector:
    """Scores lasting shifts by how far older and newer rows of a window differ in their means."""

def peaks_over_threshold(
    risk: float = 1e-4, *, level: float = 0.98, calibration: int = 300, depth: int = 0
) -> Detector:
    """Scores by how rare a value is by the tail of the most extreme ones, as a power of ten."""

def quantile_band(lower: float = 0.01, upper: float = 0.99, window: int = 4096, warmup: int = 64) -> Detector:
    """Scores by how far a value lies outside the band between two quantiles of late."""

def event_rate(every: _Duration, alpha: float = 0.05, warmup: int = 10) -> Detector:
    """Scores by how often rows come, beside how often they came before."""

def holt_winters(
    season: int = 0,
    second_season: int = 0,
    *,
    alpha: float = 0.1,
    beta: float = 0.01,
    gamma: float = 0.1,
    damping: float = 0.98,
    coverage: float = 0.99,
    residuals: int = 256,
) -> Detector:
    """Scores by the residuals of Holt-Winters, in half widths of a conformal interval."""

def ar_rls(order: int = 8, forgetting: float = 0.999, *, coverage: float = 0.99, residuals: int = 256) -> Detector:
    """Scores by the residuals of an autoregressive model, in half widths of a conformal interval."""

def loda(projections: int = 100, bins: int = 16, window_size: int = 256, *, seed: int = 42) -> Detector:
    """Scores by how rare a row is in histograms of random projections of it."""

def isolation_forest(
    number_of_trees: int = 50, sample_size: int = 128, window_size: int = 512, *, seed: int = 42
) -> Detector:
    """Scores by how few random cuts across random projections part a row from the others."""

def velocity(
    rows: dict[str | timedelta, int] | dict[str, int] | None = None,
    sums: dict[str | timedelta, float] | dict[str, float] | None = None,
    *,
    most_rows: int = 1024,
) -> Detector:
    """Scores by how much of a limit a key's rows reach within spans of event time: too many, or too much."""

def profile(
    names: str | Sequence[str] | None = None,
    place: tuple[str, str] | None = None,
    *,
    hours: bool = True,
    window: int = 256,
    warmup: int = 20,
    near: float = 10.0,
) -> Detector:
    """Scores by how unlike its key a row is, by its quantities, its hour, its names and its place at once."""

def impossible_travel(most_speed: float = 900.0, tolerance: float = 50.0) -> Detector:
    """Scores by how fast a key would have had to go from its latest row's place."""

def custom_detector(make: Callable[[], Any], threshold: float = 4.0, *, name: str | None = None) -> Detector:
    """A detector of your own: a class that is made once for each key, with a method `score(rows)`."""

def ensemble(
    detectors: Sequence[Detector], how: Literal["max", "mean"] = "max", weights: Sequence[float] | None = None
) -> Detector:
    """Several detectors as one: how rare the score of each is, the greatest or the mean."""

def auto() -> Detector:
    """The combination that is recommended for a series of which nothing is known, `auto-v1`."""

@final
class Step:
    """A step of a scripted input."""

_RowsLike: TypeAlias = str | _ArrowStream | _ArrowArray | list[dict[str, Any]] | dict[str, Any]

def source(steps: Sequence[Step | _RowsLike]) -> Stream:
    """A stream of these steps, which runs on a clock of its own that only `pause` moves."""

def rows(data: _RowsLike, partition: int = 0) -> Step:
    """Rows of a partition: a literal table, an Arrow object, a list of dicts or a dict of lists."""

def pause(duration: _Duration) -> Step:
    """Nothing comes while the clock goes on."""

def eof() -> Step:
    """The input ends here, whatever steps follow."""

def abort() -> Step:
    """The source fails here: the run ends with a ConnectorError."""

def difference(result: _ArrowStream | _ArrowArray, expected: _RowsLike) -> str | None:
    """In what results are other than expected; None if they are the same."""
