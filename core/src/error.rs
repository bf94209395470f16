//! One opaque error for the whole engine: what was being done, to which input, why, what to do next.
//!
//! An [`Error`] has a [`Kind`] (the domain that failed), a flag that says whether the same call may succeed
//! when tried again, a message in plain words, and the error that caused it, if any.

use std::fmt;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The domain in which an [`Error`] arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A setting is missing, out of range or contradicts another.
    Config,
    /// A column is unknown, has the wrong type, or an expression does not fit the schema.
    Schema,
    /// Bytes do not follow the format they were said to be in.
    Decode,
    /// A file, socket, broker or other outside system failed.
    Connector,
    /// Operator state is over its bound or cannot be restored.
    State,
    /// A compute device is missing or failed.
    Device,
}

impl Kind {
    /// The stable name of this kind in lower case, as Python's `.code` and the metrics give it.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Schema => "schema",
            Kind::Decode => "decode",
            Kind::Connector => "connector",
            Kind::State => "state",
            Kind::Device => "device",
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why an operation failed; see the [module documentation](self).
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    retriable: bool,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind` with a message that says where, why and what to do.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, retriable: false, message: message.into(), source: None }))
    }

    /// An error of [`Kind::Config`].
    pub fn config(message: impl Into<String>) -> Error {
        Error::new(Kind::Config, message)
    }

    /// An error of [`Kind::Schema`].
    pub fn schema(message: impl Into<String>) -> Error {
        Error::new(Kind::Schema, message)
    }

    /// An error of [`Kind::Decode`].
    pub fn decode(message: impl Into<String>) -> Error {
        Error::new(Kind::Decode, message)
    }

    /// An error of [`Kind::Connector`].
    pub fn connector(message: impl Into<String>) -> Error {
        Error::new(Kind::Connector, message)
    }

    /// An error of [`Kind::State`].
    pub fn state(message: impl Into<String>) -> Error {
        Error::new(Kind::State, message)
    }

    /// An error of [`Kind::Connector`] from an operating-system call; interrupted, timed-out and
    /// would-block calls are retriable.
    pub fn io(doing: impl Into<String>, error: std::io::Error) -> Error {
        use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        let retriable = matches!(error.kind(), Interrupted | TimedOut | WouldBlock);
        Error::connector(doing).with_source(error).retriable_if(retriable)
    }

    /// The same error with the error that caused it.
    pub fn with_source(mut self, source: impl Into<Source>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// The same error, marked as retriable or not.
    pub fn retriable_if(mut self, retriable: bool) -> Error {
        self.0.retriable = retriable;
        self
    }

    /// The same error with `doing` put in front of its message: the outer step that was under way.
    pub fn context(mut self, doing: impl fmt::Display) -> Error {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    /// The domain that failed.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether the same call may succeed when tried again.
    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind.code())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Error {
        use arrow::error::ArrowError as A;
        match error {
            A::CsvError(_) | A::JsonError(_) | A::ParseError(_) | A::IpcError(_) => Error::decode("cannot decode the input"),
            A::IoError(..) => Error::connector("cannot read or write Arrow data"),
            _ => Error::schema("the columns do not fit the operation"),
        }
        .with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_whole_chain_once() {
        let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer");
        let error = Error::io("cannot read from 127.0.0.1:9", cause).context("source `payments`");
        assert_eq!(error.to_string(), "source `payments`: cannot read from 127.0.0.1:9: no answer");
        assert_eq!(error.kind(), Kind::Connector);
        assert!(error.is_retriable());
    }
}
