//! How the line of a seal begins, in each schema: with the members by which readers of records know what a line is. Not here: what
//! the seal says ([`crate::wire::seal`]).

use jiff::Timestamp;

use super::super::json::Object;
use super::ecs::{ECS_VERSION, write_observer};
use super::members::{ECS_ROOM, OCSF_ROOM, Schema};
use super::ocsf::write_metadata;
use super::schema::milliseconds_since_1970;

/// The word for a seal where a record has that of its event.
const SEAL: &str = "seal";

/// Appends the beginning of a seal's line, as records of the schema have these members. Returns how many objects are open.
pub(in crate::telemetry) fn write_seal_head(
    schema: Schema,
    time: Timestamp,
    instance: &str,
    out: &mut Vec<u8>,
) -> usize {
    match schema {
        Schema::Json => {
            let mut line = Object::open(out);
            line.plain("time", Some(time));
            line.word("event", Some(SEAL));
            line.bytes("instance", Some(instance.as_bytes()), 256);
            return 1;
        }
        Schema::Ecs => {
            let mut line = Object::open_sparse(out);
            line.plain("@timestamp", Some(time));
            line.group("ecs", |ecs| ecs.word("version", Some(ECS_VERSION)));
            line.group("event", |event| {
                event.word("kind", Some("event"));
                event.words("category", &["network"]);
                event.words("type", &["info"]);
                event.word("action", Some(SEAL));
                event.word("dataset", Some("egressd.access"));
                event.word("module", Some("egressd"));
            });
            line.group("observer", |observer| write_observer(Some(instance), observer));
            line.begin(ECS_ROOM);
        }
        // None of the classes that records have: a seal is about no traffic. The base event, other, informational.
        Schema::Ocsf => {
            let mut line = Object::open_sparse(out);
            line.number("class_uid", Some(0));
            line.number("category_uid", Some(0));
            line.number("activity_id", Some(99));
            line.word("activity_name", Some("Seal"));
            line.number("type_uid", Some(99));
            line.number("severity_id", Some(1));
            line.number("time", Some(milliseconds_since_1970(time)));
            line.group("metadata", |metadata| write_metadata(&[], time, SEAL, metadata));
            line.begin(OCSF_ROOM).bytes("instance", Some(instance.as_bytes()), 256);
        }
    }
    2
}
