//! The time that is judged.

/// From and to, in seconds since 1970.
#[derive(Clone, Copy, Default, Debug)]
pub struct Range {
    /// What a seal proved before is not judged.
    pub from: Option<i64>,
    /// What came later is not judged.
    pub to: Option<i64>,
}

impl Range {
    /// Whether something between two seals may be in it.
    pub(super) fn meets(self, after: Option<i64>, until: Option<i64>) -> bool {
        let before_it = matches!((self.from, until), (Some(from), Some(until)) if until <= from);
        let after_it = matches!((self.to, after), (Some(to), Some(after)) if after >= to);
        !before_it && !after_it
    }

    /// Whether this second may be in it.
    pub(super) fn has(self, second: Option<i64>) -> bool {
        let before_it = matches!((self.from, second), (Some(from), Some(second)) if second < from);
        let after_it = matches!((self.to, second), (Some(to), Some(second)) if second > to);
        !before_it && !after_it
    }
}
