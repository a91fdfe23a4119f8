//! The suite itself, without a test harness: the rows of the threat catalogue, the attacks as bytes, the world in which they
//! are sent, and the verdict on the result of each. The tests run it against egressd, `against.rs` against any proxy.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "compiled into the tests and into the program that compares, and each uses its own part of it"
)]

pub mod case;
pub mod cases;
pub mod catalogue;
pub mod drive;
pub mod hello;
pub mod origin_reads;
pub mod table;
pub mod verdict;
pub mod world;
