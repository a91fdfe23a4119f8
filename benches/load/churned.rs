//! What the programs that open and end tunnels at random have in common.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::spent;

/// What the proxy holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Held {
    pub(crate) descriptors: usize,
    pub(crate) kib: u64,
}

impl Held {
    fn now(pid: u32) -> io::Result<Self> {
        Ok(Held { descriptors: spent::open_descriptors(pid)?, kib: spent::resident(pid)? })
    }

    /// Once it has not changed for two seconds, or after `patience`.
    pub(crate) async fn at_rest(pid: u32, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + patience;
        let (mut before, mut same) = (Held::now(pid)?, 0);
        while same < 8 && Instant::now() < deadline {
            sleep(Duration::from_millis(250)).await;
            let now = Held::now(pid)?;
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
        Ok(before)
    }
}

/// What is sent, over and over.
static BLOCK: [u8; 8192] = [7; 8192];

/// Sends so many bytes.
pub(crate) async fn write(to: &mut (impl AsyncWriteExt + Unpin), mut left: u64) -> io::Result<()> {
    while left > 0 {
        let part = left.min(BLOCK.len() as u64) as usize;
        to.write_all(&BLOCK[..part]).await?;
        left -= part as u64;
    }
    Ok(())
}

/// Reads so many bytes.
pub(crate) async fn read(from: &mut (impl AsyncReadExt + Unpin), mut left: u64) -> io::Result<()> {
    let mut block = vec![0; 8192];
    while left > 0 {
        let part = left.min(block.len() as u64) as usize;
        match from.read(&mut block[..part]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left -= count as u64,
        }
    }
    Ok(())
}

/// A random number below `bound`.
pub(crate) fn below(bound: u64) -> u64 {
    RandomState::new().build_hasher().finish() % bound.max(1)
}

/// A random time, shorter than `longest`.
pub(crate) fn random(longest: Duration) -> Duration {
    Duration::from_millis(below(longest.as_millis() as u64))
}
