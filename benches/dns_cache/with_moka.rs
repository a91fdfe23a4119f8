//! The cache of `outbound/resolve/cache.rs` built on moka: the same promises to those who ask.
//!
//! moka gives the map, its bound, single flight and a time to live for each entry. What it has no word for stands here: how often in a
//! row a question failed, answers of servers that are no longer asked, and answers for those alone who wait. It has no shares by
//! client, and where the caller that asks leaves, the next one that waits asks again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use egressd::outbound::resolve::{Answer, Family};
use egressd::words::target::Name;
use moka::Expiry;
use moka::future::Cache;
use tokio::time::Instant;

use super::cache::Keep;

const FAILURE: Duration = Duration::from_secs(1);
const FAILURE_MAX: Duration = Duration::from_secs(5);
/// How long after its end a failure is remembered, so that the next in a row is kept for twice as long.
const REMEMBERED: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Kept {
    answer: Answer,
    until: Instant,
    failures: u32,
    generation: u64,
}

struct UntilItsEnd;

impl UntilItsEnd {
    fn left(kept: &Kept) -> Option<Duration> {
        let left = kept.until.saturating_duration_since(Instant::now());
        Some(if kept.failures > 0 { left + REMEMBERED } else { left })
    }
}

impl Expiry<Name, Kept> for UntilItsEnd {
    fn expire_after_create(&self, _: &Name, kept: &Kept, _: std::time::Instant) -> Option<Duration> {
        Self::left(kept)
    }

    fn expire_after_update(
        &self,
        _: &Name,
        kept: &Kept,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Self::left(kept)
    }
}

pub(crate) struct Moka {
    by_family: [Cache<Name, Kept>; 2],
    generation: AtomicU64,
}

impl Moka {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let one = || Cache::builder().max_capacity(capacity as u64).expire_after(UntilItsEnd).build();
        Arc::new(Moka { by_family: [one(), one()], generation: AtomicU64::new(0) })
    }

    /// Answers of the servers of before are passed over from now on, those under way too.
    pub(crate) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.by_family.iter().for_each(Cache::invalidate_all);
    }

    fn is_good(&self, kept: &Kept) -> bool {
        Instant::now() < kept.until && kept.generation == self.generation.load(Ordering::Relaxed)
    }

    pub(crate) async fn lookup<A>(
        self: &Arc<Self>,
        name: &Name,
        family: Family,
        ask: impl FnOnce() -> A + Send + 'static,
    ) -> Answer
    where
        A: Future<Output = (Answer, Keep)> + Send,
    {
        let cache = &self.by_family[family as usize];
        let kept = cache.get(name).await;
        let failures = match kept {
            Some(kept) if self.is_good(&kept) => return kept.answer,
            Some(kept) => kept.failures,
            None => 0,
        };
        let generation = self.generation.load(Ordering::Relaxed);
        let asking = async {
            let (answer, keep) = ask().await;
            let (duration, failures) = match keep {
                Keep::For(duration) => (duration, 0),
                Keep::Failure => (
                    FAILURE.saturating_mul(1 << failures.min(8)).min(FAILURE_MAX),
                    failures.saturating_add(1),
                ),
            };
            Kept { answer, until: Instant::now() + duration, failures, generation }
        };
        let entry = cache.entry_by_ref(name);
        Box::pin(entry.or_insert_with_if(asking, |kept| !self.is_good(kept))).await.into_value().answer
    }

    pub(crate) async fn len(&self) -> u64 {
        let mut entries = 0;
        for cache in &self.by_family {
            cache.run_pending_tasks().await;
            entries += cache.entry_count();
        }
        entries
    }
}
