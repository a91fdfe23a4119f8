//! Long bodies, inflated and read in steps: between two of them the other connections of the worker have their turn.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::yield_now;

use crate::state::limits::readers::{Readers, Turn};
use crate::transport::held::Lease;
use crate::wire::aws::{Form, FormCheck};
use crate::wire::git::inflate::{self, InflateError, Inflating};
use crate::wire::git::{FetchReader, FetchRequest};
use crate::words::aws::CredentialsError;

/// Whose request is read: those of one client have to wait for each other.
#[derive(Clone, Copy, Debug)]
pub(in crate::session::http) struct Whose<'w> {
    pub(in crate::session::http) readers: &'w Arc<Readers>,
    pub(in crate::session::http) client: IpAddr,
}

impl Whose<'_> {
    pub(super) async fn turn(self) -> Turn {
        self.readers.turn(self.client).await
    }
}

/// A body up to this is read in one step: some 1,300 ids.
const LONG: usize = 64 * 1024;

/// Whether its client has to wait for its other requests.
pub(super) fn is_long(body: &[u8]) -> bool {
    body.len() > LONG
}

/// The body, inflated to at most `most` bytes. Both are held while the one is made of the other.
pub(super) async fn inflated(body: Vec<u8>, most: usize, lease: &mut Lease) -> Result<Vec<u8>, String> {
    lease.set(body.capacity() + inflate::takes_at_most(body.len(), most));
    let inflated = {
        let mut inflating = Inflating::new(&body, most);
        loop {
            match inflating.step() {
                Ok(true) => break Ok(inflating.into_inflated()),
                Ok(false) => yield_now().await,
                Err(InflateError::TooLong) => break Err(too_long(most)),
                Err(error) => break Err(error.to_string()),
            }
        }
    };
    drop(body);
    lease.set(0);
    inflated
}

/// Why a request does not go on that is longer than its entry allows.
pub(super) fn too_long(most: usize) -> String {
    format!("a request of more than {most} bytes: raise `negotiation_limit`")
}

/// Reads a body whole: what it says, and its fixed form if the reader makes one.
pub(super) async fn read(mut reader: FetchReader<'_>) -> Result<(FetchRequest, Vec<u8>), String> {
    while !reader.step().map_err(|error| error.to_string())? {
        yield_now().await;
    }
    Ok(reader.into_parts())
}

/// Looks for credentials in a body that may be a form.
pub(super) async fn check(body: &[u8], form: Form) -> Result<(), CredentialsError> {
    let mut check = FormCheck::new(body, form)?;
    while !check.step()? {
        yield_now().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::wire::git::{FetchKind, ProtocolVersion};

    /// All tasks of this runtime share one thread, as those of one worker do.
    #[tokio::test]
    async fn others_have_their_turn_between_two_steps_of_a_body() {
        let have = b"0032have 1111111111111111111111111111111111111111\n";
        let whole = [
            &b"0032want 1111111111111111111111111111111111111111\n0000"[..],
            &have.repeat(50_000),
            b"0009done\n",
        ]
        .concat();
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(&whole).unwrap();
        let body = writer.finish().unwrap();
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        // 2.5 MB, 64 KiB in a step.
        let least = whole.len() / LONG - 1;
        let mut lease = Lease::alone();
        let inflated = inflated(body, 16 << 20, &mut lease).await.unwrap();
        assert_eq!((inflated == whole, lease.bytes()), (true, 0));
        let of_inflating = turns.swap(0, Ordering::Relaxed);
        let kind = FetchKind::Pack(ProtocolVersion::V0);
        let (told, _) = read(FetchReader::new(&inflated, kind)).await.unwrap();
        let of_reading = turns.swap(0, Ordering::Relaxed);
        let (_, fixed) = read(FetchReader::fixing(&inflated, kind)).await.unwrap();
        let of_fixing = turns.swap(0, Ordering::Relaxed);
        other.abort();
        assert_eq!((told.haves, fixed == whole), (50_000, true));
        for turns in [of_inflating, of_reading, of_fixing] {
            assert!(turns >= least, "{turns} of {least}");
        }
    }
}
