//! The watchdog: tells the service manager regularly that the program is alive, as long as it is (WatchdogSec= of systemd).
//!
//! What proves it is the runtime itself: its timer wakes a task, which starts another one and waits for it. If the workers are stuck,
//! nothing is told, and the manager restarts the program. Not asked: whether targets, DNS or the log's output work. A restart would
//! repair none of them, and would end every tunnel.

use std::env;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::manager::Manager;

/// How often the manager wants to hear that this process is alive: at half of the time after which it takes it for dead. `None`: it
/// does not watch this process.
pub(crate) fn period() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    period_of(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id())
}

fn period_of(micros: Option<&str>, of: Option<&str>, own: u32) -> Option<Duration> {
    if of.is_some_and(|of| of.parse() != Ok(own)) {
        return None;
    }
    let half = micros?.parse::<u64>().ok()? / 2;
    (half > 0).then(|| Duration::from_micros(half))
}

/// Tells `manager` every `period` that the program is alive; until it is dropped.
pub(crate) async fn keep_telling(manager: Manager, period: Duration) {
    let mut ticks = interval(period);
    // After a pause there is nothing to catch up with.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if tokio::spawn(async {}).await.is_ok() {
            manager.alive();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc::channel;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn half_of_the_time_if_it_is_meant_for_this_process() {
        let second = Some(Duration::from_secs(1));
        for (micros, of, want) in [
            (Some("2000000"), Some("7"), second),
            (Some("2000000"), None, second),
            (Some("2000000"), Some("8"), None),
            (Some("2000000"), Some(""), None),
            (None, Some("7"), None),
            (Some("0"), None, None),
            (Some("1"), None, None),
            (Some("soon"), None, None),
            (Some("-5"), None, None),
        ] {
            assert_eq!(period_of(micros, of, 7), want, "{micros:?} {of:?}");
        }
    }
    #[test]
    fn nothing_is_told_while_the_workers_are_stuck() {
        const PERIOD: Duration = Duration::from_millis(10);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        let hears = |within: Duration| {
            socket.set_read_timeout(Some(within)).expect("not zero");
            socket.recv(&mut [0; 64]).is_ok()
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(keep_telling(Manager::at(path.as_os_str()).expect("a path"), PERIOD));
        let long = Duration::from_secs(30);
        assert!(hears(long) && hears(long), "it is alive");
        let (go_on, wait) = channel::<()>();
        let (begin, begun) = channel();
        runtime.spawn(async move {
            let _ = begin.send(());
            let _ = wait.recv();
        });
        begun.recv().expect("the only worker is stuck");
        while hears(Duration::from_millis(1)) {}
        assert!(!hears(PERIOD * 20), "it is not alive");
        go_on.send(()).expect("it waits");
        assert!(hears(long), "it is alive again");
    }
}
