//! Every field of the access log, once: its name, its type, how it is written, and the note of a `logformat` that
//! shows it.
//!
//! To add a field, add a row here and set it where its value is known. For what a request knows, that is
//! [`crate::session::request`]: its record does not compile without the field. JSON lines, their bound, [`FIELDS`] and
//! what is checked against them (`docs/log.md`, the tests' reader of records) follow from the row. A field that a
//! `logformat` should show as `%{name}note` has a row in [`Note`](crate::words::logformat::Note) too, and does not
//! compile with only one of the two.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::event::{Cause, Event};
use super::recognised::{LoggedAws, LoggedGit};
use super::sealed::PLACE_BYTES;
use super::table::{Field, LINE_BOUND, fields, widest};
use super::target::{LoggedTarget, Raw};
use crate::config::ShortHash;
use crate::rules::{Mode, RuleSource};
use crate::wire::auth_scheme::AuthScheme;
use crate::wire::head::Version;
use crate::words::client::{ClientAddr, PeerAddr, Protocol};
use crate::words::outcome::{Decision, Ending};

const _: () = assert!(
    widest(FIELDS) + PLACE_BYTES < LINE_BOUND,
    "the longest record would be cut: give the new field less room"
);

fields! {
    /// One event. It borrows everything: it is built where the event happens, and turned into a line at once. Start
    /// from [`Record::new`]; what does not apply stays `None` and is written as `null`.
    pub struct Record<'a> {
        // In the order of the line. `= "name in the line" [how it is written, and for text its most bytes as
        // written]`; `table` explains these words.
        always {
            /// When it happened.
            time: Timestamp = "time" [time];
            /// UUIDv7 of the request; the same in the reply's `X-Request-Id`.
            id: Uuid = "id" [plain];
            /// What happened.
            event: Event = "event" [word] note Event;
            /// The listener's name.
            listener: &'a str = "listener" [text 256] note Listener;
        }
        where_known {
            /// The client.
            client: ClientAddr = "client" [plain];
            /// The address that connected.
            peer: PeerAddr = "peer" [plain] note Peer;
            /// The first proven identity, with its kind.
            identity: &'a str = "identity" [text 1024];
            /// The request's method.
            method: Raw<'a> = "method" [text 64];
            /// The target of the request.
            target: LoggedTarget<'a> = "target" [target 4096];
            /// The host name in the ClientHello.
            sni: Raw<'a> = "sni" [text 1024];
            /// The policy that decided.
            policy: &'a str = "policy" [text 256] note Policy;
            /// Its mode.
            mode: Mode = "mode" [word] note Mode;
            /// The text of the rule that decided.
            rule: &'a str = "rule" [text 1024] note Rule;
            /// Its `file:line`.
            rule_source: &'a RuleSource = "rule_source" [shown 2048] note RuleSource;
            /// The verdict.
            decision: Decision = "decision" [word] note Decision;
            /// Why it was refused, or in report mode would have been refused.
            reason: Cause = "reason" [word];
            /// The address that was dialled.
            upstream: SocketAddr = "upstream" [plain];
            /// Our own address of that connection.
            upstream_local: SocketAddr = "upstream_local" [plain];
            /// The HTTP status that the client saw.
            status: u16 = "status" [number];
            /// Bytes from the client that went upstream.
            sent: u64 = "sent" [number] note Sent;
            /// Bytes from upstream that went to the client.
            received: u64 = "received" [number] note Received;
            /// From the complete head to now.
            duration: Duration = "duration_ms" [milliseconds];
            /// The lookup.
            dns: Duration = "dns_ms" [milliseconds];
            /// The dial.
            connect: Duration = "connect_ms" [milliseconds] note Connect;
            /// How a tunnel ended.
            ending: Ending = "ending" [word] note Ending;
            /// The request's `User-Agent`.
            user_agent: Raw<'a> = "user_agent" [text 1024];
            /// The first 12 hex digits of the hash of the configuration that decided.
            config: ShortHash = "config" [plain] note Config;
            /// Host name of this replica.
            instance: &'a str = "instance" [text 256] note Instance;
            /// What the client speaks to egressd; that of the tunnel, for a request inside one.
            protocol: Protocol = "protocol" [word] note Protocol;
            /// The address that was meant, where the name in the ClientHello decided.
            original: SocketAddr = "original" [plain] note Original;
            /// For a request inside a tunnel: the tunnel's `id`.
            tunnel: Uuid = "tunnel" [plain] note Tunnel;
            /// How many records like this one were not written before it, if their rate is bounded.
            suppressed: u64 = "suppressed" [number] note Suppressed;
            /// The scheme of credentials that were refused.
            auth_scheme: AuthScheme = "auth_scheme" [word] note AuthScheme;
            /// By whose credentials it came to AWS, where its rule asks.
            aws: LoggedAws<'a> = "aws" [object 512];
            /// What it asked of a Git repository, where its rule asks. It may take the room that the rest of the line leaves.
            git: LoggedGit<'a> = "git" [object 2816];
        }
        // The last member of the line is `cut`, which the writer makes from what it cut.
        for_squid_alone {
            /// Bytes of our own reply, which `received` does not count.
            reply: u64;
            /// The response's `Content-Type`.
            content_type: Raw<'a>;
            /// The request's version.
            version: Version;
        }
    }
}

impl<'a> Record<'a> {
    /// A record with only these values.
    pub fn new(event: Event, time: Timestamp, id: Uuid, listener: &'a str) -> Self {
        Record::bare(time, id, event, listener)
    }
}
