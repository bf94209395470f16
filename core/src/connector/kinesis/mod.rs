//! Amazon Kinesis Data Streams as a source and a sink, by AWS's own client.

mod failure;
mod session;
mod settings;
mod sink;

pub use self::sink::KinesisSink;
pub use crate::connector::records::Value;
