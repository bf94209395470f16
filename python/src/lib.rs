//! `thalweg._native`: the engine as a Python module. Everything public is re-exported by the package `thalweg`;
//! each file here mirrors a part of it. Rows cross the border as Arrow columns, never one by one.

use pyo3::prelude::*;

mod aggregate;
mod arrow;
mod call;
mod config;
mod custom;
mod detect;
mod error;
mod format;
mod held_back;
mod kafka;
mod kinesis;
mod log;
mod model;
mod process;
mod query;
mod registry;
mod sink;
mod source;
mod storage;
mod stream;
mod table;
mod testing;
mod window;

/// The engine of `thalweg`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    log::register();
    error::register(module)?;
    query::register(module)?;
    detect::register(module)?;
    aggregate::register(module)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<stream::PyStream>()?;
    module.add_class::<stream::PyWindowed>()?;
    module.add_class::<window::PyWindow>()?;
    module.add_class::<aggregate::PyAggregate>()?;
    module.add_class::<query::PyBatches>()?;
    module.add_class::<query::PyQuery>()?;
    module.add_class::<held_back::PyHeldBack>()?;
    module.add_class::<table::PyTable>()?;
    module.add_class::<arrow::PyColumns>()?;
    module.add_class::<config::PyConfig>()?;
    module.add_class::<sink::PySink>()?;
    module.add_class::<process::PyContext>()?;
    module.add_class::<testing::PyStep>()?;
    module.add_class::<format::PyFormat>()?;
    module.add_class::<registry::PyRegistry>()?;
    module.add_function(wrap_pyfunction!(source::from_arrow, module)?)?;
    module.add_function(wrap_pyfunction!(source::read_parquet, module)?)?;
    module.add_function(wrap_pyfunction!(source::read_arrow, module)?)?;
    module.add_function(wrap_pyfunction!(source::read_ndjson, module)?)?;
    module.add_function(wrap_pyfunction!(source::read_debezium, module)?)?;
    module.add_function(wrap_pyfunction!(source::read_csv, module)?)?;
    module.add_function(wrap_pyfunction!(source::read_avro, module)?)?;
    module.add_function(wrap_pyfunction!(source::read_protobuf, module)?)?;
    module.add_function(wrap_pyfunction!(format::protobuf, module)?)?;
    module.add_function(wrap_pyfunction!(format::protobuf_confluent, module)?)?;
    module.add_function(wrap_pyfunction!(format::json_confluent, module)?)?;
    module.add_function(wrap_pyfunction!(format::avro, module)?)?;
    module.add_function(wrap_pyfunction!(format::avro_confluent, module)?)?;
    module.add_function(wrap_pyfunction!(format::avro_single_object, module)?)?;
    module.add_function(wrap_pyfunction!(format::debezium_avro, module)?)?;
    module.add_function(wrap_pyfunction!(source::watch, module)?)?;
    module.add_function(wrap_pyfunction!(source::listen_tcp, module)?)?;
    module.add_function(wrap_pyfunction!(source::listen_udp, module)?)?;
    module.add_function(wrap_pyfunction!(source::listen_unix, module)?)?;
    module.add_class::<kafka::PyOffsets>()?;
    module.add_class::<kafka::PyRepartition>()?;
    module.add_function(wrap_pyfunction!(kafka::read_kafka, module)?)?;
    module.add_function(wrap_pyfunction!(kafka::write_kafka, module)?)?;
    module.add_function(wrap_pyfunction!(kinesis::read_kinesis, module)?)?;
    module.add_function(wrap_pyfunction!(kinesis::write_kinesis, module)?)?;
    module.add_function(wrap_pyfunction!(window::tumbling, module)?)?;
    module.add_function(wrap_pyfunction!(window::hopping, module)?)?;
    module.add_function(wrap_pyfunction!(window::cumulate, module)?)?;
    module.add_function(wrap_pyfunction!(window::global_window, module)?)?;
    module.add_function(wrap_pyfunction!(window::count_window, module)?)?;
    module.add_function(wrap_pyfunction!(window::session, module)?)?;
    module.add_function(wrap_pyfunction!(window::rolling, module)?)?;
    module.add_function(wrap_pyfunction!(custom::custom, module)?)?;
    module.add_function(wrap_pyfunction!(sink::write_parquet, module)?)?;
    module.add_function(wrap_pyfunction!(sink::write_csv, module)?)?;
    module.add_function(wrap_pyfunction!(sink::write_ndjson, module)?)?;
    module.add_function(wrap_pyfunction!(sink::write_arrow, module)?)?;
    module.add_function(wrap_pyfunction!(sink::callback, module)?)?;
    module.add_function(wrap_pyfunction!(testing::source, module)?)?;
    module.add_function(wrap_pyfunction!(testing::rows, module)?)?;
    module.add_function(wrap_pyfunction!(testing::pause, module)?)?;
    module.add_function(wrap_pyfunction!(testing::eof, module)?)?;
    module.add_function(wrap_pyfunction!(testing::abort, module)?)?;
    module.add_function(wrap_pyfunction!(testing::difference, module)?)?;
    module.add_function(wrap_pyfunction!(query::run, module)?)
}
