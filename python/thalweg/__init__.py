"""Embedded stream processing on Arrow columns.

A stream is a source and the steps that its rows go through. Arrow tables of any library come in and go out
without a copy; no Python object is made per event.

Example:
    >>> import thalweg as tw
    >>> payments = tw.read_parquet("payments/*.parquet").event_time("ts", max_delay="500ms")
    >>> per_card = payments.window(tw.tumbling("1min"), by="card").agg(n=tw.count(), total=tw.sum("amount"))
    >>> per_card.collect().to_polars()
    >>> odd = payments.detect(tw.anomaly.ewma(alpha=0.05), on="amount", by="card").filter("is_anomaly")
    >>> with odd.run(sink=tw.write_ndjson("alerts.ndjson")) as query:
    ...     query.wait()

Sources: `from_arrow`, `read_parquet`, `read_arrow`, `read_ndjson`, `read_csv`, `listen_tcp`, `listen_udp`,
`listen_unix`.
Steps: the methods of `Stream`. Results: `Stream.collect`, `for batch in stream`, `async for`, `Stream.run`, `run`.
Tests of pipelines: `testing`.
The engine logs to the logger "thalweg".
"""

import logging as _logging

from thalweg import anomaly, testing
from thalweg._native import (
    Aggregate,
    Batches,
    Config,
    ConfigError,
    ConnectorError,
    Context,
    DecodeError,
    DeviceError,
    DroppedRowsWarning,
    HeldBack,
    Query,
    Schema,
    SchemaError,
    Sink,
    StateError,
    Stream,
    Table,
    ThalwegError,
    Window,
    Windowed,
    __version__,
    approx_distinct,
    arg_max,
    arg_min,
    callback,
    collect_list,
    corr,
    count,
    count_distinct,
    covar,
    delta,
    first,
    from_arrow,
    histogram,
    hopping,
    last,
    listen_tcp,
    listen_udp,
    listen_unix,
    max,
    mean,
    median,
    min,
    quantile,
    rate,
    read_arrow,
    read_csv,
    read_ndjson,
    read_parquet,
    rolling,
    run,
    session,
    std,
    sum,
    top_k,
    tumbling,
    var,
    write_ndjson,
    write_parquet,
    zscore,
)

_logging.getLogger("thalweg").addHandler(_logging.NullHandler())

__all__ = [
    "Aggregate",
    "Batches",
    "Config",
    "ConfigError",
    "ConnectorError",
    "Context",
    "DecodeError",
    "DeviceError",
    "DroppedRowsWarning",
    "HeldBack",
    "Query",
    "Schema",
    "SchemaError",
    "Sink",
    "StateError",
    "Stream",
    "Table",
    "ThalwegError",
    "Window",
    "Windowed",
    "__version__",
    "anomaly",
    "approx_distinct",
    "arg_max",
    "arg_min",
    "callback",
    "collect_list",
    "corr",
    "count",
    "count_distinct",
    "covar",
    "delta",
    "first",
    "from_arrow",
    "histogram",
    "hopping",
    "last",
    "listen_tcp",
    "listen_udp",
    "listen_unix",
    "max",
    "mean",
    "median",
    "min",
    "quantile",
    "rate",
    "read_arrow",
    "read_csv",
    "read_ndjson",
    "read_parquet",
    "rolling",
    "run",
    "session",
    "std",
    "sum",
    "testing",
    "top_k",
    "tumbling",
    "var",
    "write_ndjson",
    "write_parquet",
    "zscore",
]
