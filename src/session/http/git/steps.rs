//! Long bodies, inflated, read and compared in steps: between two of them the other connections of the worker have their turn.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::yield_now;

use crate::rules::git::{Judged, Judging};
use crate::rules::{Denial, Recognised, Requests};
use crate::state::limits::readers::{Readers, Turn};
use crate::transport::held::Lease;
use crate::wire::aws::{Form, FormCheck};
use crate::wire::git::inflate::{self, InflateError, Inflating};
use crate::wire::git::{FetchReader, FetchRequest};
use crate::words::aws::CredentialsError;
use crate::words::git::RefChange;

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

/// Compares the changes of a push with every entry that may let it through. It is for the decision that follows, which is not divided.
pub(in crate::session::http) async fn judge(
    recognised: &Recognised,
    requests: &Requests,
    whose: Whose<'_>,
) -> Judged {
    let rules = requests.entries().iter().filter_map(|entry| entry.git.as_ref());
    let judging = recognised.git.as_ref().ok().and_then(|ask| Judging::new(ask, rules));
    let Some(mut judging) = judging else { return Judged::default() };
    let _turn = if judging.is_long() { Some(whose.turn().await) } else { None };
    while !judging.step() {
        yield_now().await;
    }
    judging.into_judged()
}

/// Which changes of a refused push are to blame.
pub(super) async fn blamed(denial: Option<&Denial>, changes: &[RefChange]) -> Vec<bool> {
    let Some(denial) = denial else { return vec![true; changes.len()] };
    let mut blamed = Vec::with_capacity(changes.len());
    for some in changes.chunks(denial.blames_in_a_step()) {
        if !blamed.is_empty() {
            yield_now().await;
        }
        blamed.extend(some.iter().map(|change| denial.blames(change)));
    }
    blamed
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
    use crate::rules::Entry;
    use crate::rules::git::{GitRule, RefPattern};
    use crate::wire::git::{FetchKind, ProtocolVersion};
    use crate::words::git::{
        Asks, Change, Content, GitAsk, GitRequest, Operation, RefName, Repository, Service,
    };

    /// Runs `work`, and returns how often another task of the same worker had its turn meanwhile.
    async fn turns_beside<T>(work: impl Future<Output = T>) -> (T, usize) {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let done = work.await;
        other.abort();
        (done, turns.load(Ordering::Relaxed))
    }

    /// The most changes that a push may have, and the most patterns that a rule may have, in one entry and in a thousand.
    #[tokio::test]
    async fn others_have_their_turn_while_every_change_is_compared_with_every_pattern() {
        let change = |number: usize| {
            let name = RefName::new(format!("refs/heads/x/{number}-z").as_bytes()).unwrap();
            RefChange::made_up(Change::Update, &name).unwrap()
        };
        let changes: Arc<[RefChange]> = (0..4_000).map(change).collect();
        let request = GitRequest {
            repository: Repository::new("/own", true).unwrap(),
            asks: Asks::Rpc(Service::ReceivePack),
        };
        let recognised = Recognised {
            git: Ok(GitAsk { request, content: Content::Changes(Arc::clone(&changes)) }),
            aws: Err(CredentialsError::None),
            judged: Judged::default(),
        };
        let pattern = |number: usize| RefPattern::parse(&format!("refs/heads/x/*{number}-z")).unwrap();
        let entry = |patterns: Vec<RefPattern>| {
            let mut rule = GitRule::new(&[Operation::Push]);
            rule.refs = Some(patterns.into());
            Entry { git: Some(Arc::new(rule)), ..Entry::default() }
        };
        // None of them allows more than some.
        let wide = Requests::new(vec![entry((1_000..2_000).map(pattern).collect())]);
        let many = Requests::new(
            (0..1_000).map(|_| entry(vec![RefPattern::parse("refs/heads/**").unwrap()])).collect(),
        );
        let readers = Arc::new(Readers::default());
        let whose = Whose { readers: &readers, client: [10, 0, 0, 1].into() };
        for (requests, least) in [(&many, 400), (&wide, 0)] {
            let (judged, turns) = turns_beside(judge(&recognised, requests, whose)).await;
            assert!(turns >= least, "{turns} of {least}");
            let rule = requests.entries()[0].git.as_ref().unwrap();
            let refused = changes.iter().position(|change| rule.may_change(change).is_err());
            assert_eq!(judged.of(rule), Some(refused));
        }
        let denial = Denial::of_refs(wide.entries()[0].git.clone().unwrap());
        let (blamed, turns) = turns_beside(blamed(Some(&denial), &changes)).await;
        let rule = wide.entries()[0].git.clone().unwrap();
        assert!(
            changes.iter().zip(&blamed).all(|(change, blamed)| *blamed == rule.may_change(change).is_err())
        );
        assert!(turns >= 400, "{turns}");
    }

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
        // 2.5 MB, 64 KiB in a step.
        let least = whole.len() / LONG - 1;
        let mut lease = Lease::alone();
        let (inflated, of_inflating) = turns_beside(inflated(body, 16 << 20, &mut lease)).await;
        let inflated = inflated.unwrap();
        assert_eq!((inflated == whole, lease.bytes()), (true, 0));
        let kind = FetchKind::Pack(ProtocolVersion::V0);
        let (told, of_reading) = turns_beside(read(FetchReader::new(&inflated, kind))).await;
        let (fixed, of_fixing) = turns_beside(read(FetchReader::fixing(&inflated, kind))).await;
        let (told, fixed) = (told.unwrap().0, fixed.unwrap().1);
        assert_eq!((told.haves, fixed == whole), (50_000, true));
        for turns in [of_inflating, of_reading, of_fixing] {
            assert!(turns >= least, "{turns} of {least}");
        }
    }
}
