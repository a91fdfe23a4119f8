//! Work that several callers wait for: it is done once, for all of them, and it ends when the last of them leaves.
//!
//! Each caller holds an [`Arc`] of it. A table of what is under way holds a [`Weak`](std::sync::Weak), so that the table
//! does not keep the work alive.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// One piece of work under way.
#[derive(Debug)]
pub struct Joined<T> {
    result: watch::Receiver<Option<T>>,
    /// Dropping it ends the work.
    task: OnceLock<AbortOnDropHandle<()>>,
}

/// Where the work leaves its result.
pub type Result<T> = watch::Sender<Option<T>>;

impl<T: Clone + Send + Sync + 'static> Joined<T> {
    /// Work that has not begun, and where its result goes.
    pub fn new() -> (Arc<Self>, Result<T>) {
        let (sender, result) = watch::channel(None);
        (Arc::new(Joined { result, task: OnceLock::new() }), sender)
    }

    /// Begins the work, as a task of its own: callers come and go while it runs. It is begun once.
    pub fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        // A second task would be dropped here, and so aborted.
        let _ = self.task.set(AbortOnDropHandle::new(tokio::spawn(work)));
    }

    /// Waits for the result. `None`: the work ended without one.
    pub async fn wait(self: &Arc<Self>) -> Option<T> {
        let mut result = self.result.clone();
        let result = result.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_get_the_result_of_one_work() {
        let (joined, sender) = Joined::new();
        joined.begin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send_replace(Some(7));
        });
        let second = Arc::clone(&joined);
        assert_eq!(tokio::join!(joined.wait(), second.wait()), (Some(7), Some(7)));
        assert_eq!(joined.wait().await, Some(7), "a late caller too");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_last_caller_and_not_before() {
        let (joined, sender) = Joined::<u8>::new();
        let (held, mut ended) = tokio::sync::oneshot::channel::<()>();
        joined.begin(async move {
            let _held = held;
            std::future::pending::<()>().await;
            drop(sender);
        });
        let last = Arc::clone(&joined);
        drop(joined);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(
            ended.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty)
        );
        drop(last);
        assert!(ended.await.is_err(), "the work was dropped");
    }

    #[tokio::test]
    async fn work_that_ends_without_a_result_is_told() {
        let (joined, sender) = Joined::<u8>::new();
        joined.begin(async move { drop(sender) });
        assert_eq!(joined.wait().await, None);
    }
}
