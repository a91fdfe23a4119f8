//! Who waits for bytes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::choose::Want;
use super::seats::lock;

/// All that wait; each as often as it waits.
#[derive(Default)]
pub(super) struct Waiting {
    wants: Mutex<Vec<Want>>,
    count: AtomicUsize,
    /// Of these, those whose accounts hold little.
    light: AtomicUsize,
}

impl Waiting {
    /// Whether nobody waits: one load.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether one waits whose account holds little.
    pub(super) fn has_light(&self) -> bool {
        self.light.load(Ordering::Relaxed) > 0
    }

    /// What they want.
    pub(super) fn wants(&self) -> Vec<Want> {
        lock(&self.wants).clone()
    }

    /// One more waits, for as long as it keeps what is returned.
    pub(super) fn enter(&self, want: Want) -> Waits<'_> {
        lock(&self.wants).push(want);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.light.fetch_add(usize::from(want.is_light), Ordering::Relaxed);
        Waits { among: self, want }
    }
}

/// One that waits.
pub(super) struct Waits<'w> {
    among: &'w Waiting,
    want: Want,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.among.count.fetch_sub(1, Ordering::Relaxed);
        self.among.light.fetch_sub(usize::from(self.want.is_light), Ordering::Relaxed);
        let mut wants = lock(&self.among.wants);
        if let Some(place) = wants.iter().position(|want| *want == self.want) {
            wants.swap_remove(place);
        }
    }
}
