//! How a record becomes a line: what every format does, and the formats whose lines are JSON objects.
//!
//! Not here: Squid's formats ([`super::squid`]), and which format is configured ([`super::format()`]).

use jiff::Timestamp;

use super::record::{Record, Schema, write_seal_head};

/// How a record becomes a line.
pub trait Format: Send + Sync {
    /// Appends the line with its newline to `out`, or nothing if this format has no line for that event.
    fn write(&self, record: &Record<'_>, out: &mut Vec<u8>);

    /// The schema of its lines: seals are written in it. A format whose lines are not JSON objects is never sealed.
    fn schema(&self) -> Schema {
        Schema::Json
    }

    /// Appends the beginning of a seal's line: what the format's readers find in every record. Returns how many objects are left
    /// open.
    fn write_seal_head(&self, time: Timestamp, instance: &str, out: &mut Vec<u8>) -> usize {
        write_seal_head(self.schema(), time, instance, out)
    }
}

/// `format: json`.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Format for Json {
    fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        record.write_json(out);
    }
}

/// `format: ecs`.
#[derive(Clone, Copy, Debug)]
pub struct Ecs;

impl Format for Ecs {
    fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        record.write_ecs(out);
    }

    fn schema(&self) -> Schema {
        Schema::Ecs
    }
}

/// `format: ocsf`.
#[derive(Clone, Copy, Debug)]
pub struct Ocsf;

impl Format for Ocsf {
    fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        record.write_ocsf(out);
    }

    fn schema(&self) -> Schema {
        Schema::Ocsf
    }
}
