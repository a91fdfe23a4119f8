//! The memory that is held for peers: a budget of the whole program, and leases of it.
//!
//! Whatever a peer can make us hold takes a [`Lease`] before it is read, and gives it back when it has left: heads, hellos,
//! TLS records, bodies, what a relay could not deliver yet, pipes, and the kernel's buffers of sockets that are not read.
//! Each connection is a [`Holder`]: what it holds, since when nothing of it has moved, and for whom. The limit is a part of
//! what the operating system gives us ([`crate::operate::resources`]), so that a peer meets our 503 and never the kernel's
//! killer, which ends everybody's tunnels.
//!
//! What no connection holds (accounts of upload budgets, the log's queue, answers of DNS) comes off the limit first: marks and shares are
//! parts of the rest, because nothing can be ended for it. Three marks, from below: [`HeldBytes::CALM`], [`HeldBytes::HIGH`], the limit. Above HIGH nothing that is large already may
//! grow: it is not read any more until there is room. What is small ([`SMALL`]) still may, up to the limit. Beyond
//! it, a part is set aside for what is small and whose client has much of its share left ([`budget`]), and no such client may have much of that: so a new client gets its tunnel at once while
//! others press, who wait for their own. And above HIGH connections are ended, down to CALM, after a search that is made rarely, so that
//! an attack does not make every request search for something to end ([`choose`]); a few at a time, and in turns with what begins instead,
//! where it is for who holds much anyway.
//!
//! Not here: how much a thing costs, which stands where it is held, and what a connection that is ended tells its client.

mod budget;
mod choose;
mod flowing;
mod flows;
mod kernel;
mod kind;
mod lease;
mod ledger;
pub mod read;
mod seats;
mod sock_diag;
mod sync;
mod waiting;

pub use budget::{HeldBytes, Holder, NoRoom, SMALL};
pub use choose::is_flow;
pub use flowing::{Flowing, Told};
pub use kernel::{FIRST_LOOK, LAST_LOOK, Queued, count_unread, count_until_closed, first_look, queued};
pub use kind::Kind;
pub use lease::Lease;
pub(super) use sock_diag::owner;
