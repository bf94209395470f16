//! The engine's log events, handed to Python's `logging` under the name "thalweg".

use std::fmt::{Debug, Write};

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Forwards events of level INFO and above. The engine's threads wait for nothing that holds the interpreter's
/// lock, so taking it here cannot block for ever.
struct Bridge;

impl Subscriber for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("thalweg")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            _ => 20,
        };
        // Without an interpreter there is no one to tell.
        Python::try_attach(|py| {
            if let Err(error) = log(py, level, text.message + &text.fields) {
                recover(py, error);
            }
        });
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

fn log(py: Python<'_>, level: u8, text: String) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("thalweg",))?;
    logger.call_method1("log", (level, "%s", text)).map(drop)
}

/// A logger that raises must not end the stream, but Ctrl-C that happened to come while it was logging must: it is
/// made pending again, for the next look at the signals.
fn recover(py: Python<'_>, error: PyErr) {
    if !error.is_instance_of::<PyKeyboardInterrupt>(py) {
        error.write_unraisable(py, None);
    } else if let Err(failure) = py.import("_thread").and_then(|thread| thread.call_method0("interrupt_main")) {
        failure.write_unraisable(py, None);
    }
}

/// The message of an event, then its fields as ` name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Begins forwarding.
pub fn register() {
    // It is set already if the module is imported a second time in one process.
    let _ = tracing::subscriber::set_global_default(Bridge);
}
