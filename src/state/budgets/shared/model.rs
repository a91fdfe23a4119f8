//! The script of the store once more, in Rust: what the properties of the ledger are checked against, and what the script itself is
//! compared with on a real server. By itself, so that both can include it.

use std::collections::BTreeMap;

/// A server: its clock, its run, its data.
#[derive(Clone, Default, Debug)]
pub(super) struct Store {
    /// Milliseconds, as the server has them. They may be set.
    pub(super) clock: u64,
    /// Another for each start.
    pub(super) run: String,
    /// Milliseconds in which a new epoch settles.
    pub(super) settle: u64,
    /// What it has written.
    pub(super) data: Data,
}

/// What a server may lose.
#[derive(Clone, Default, Debug)]
pub(super) struct Data {
    mark: Option<Mark>,
    accounts: BTreeMap<String, Account>,
}

#[derive(Clone, Debug)]
struct Mark {
    id: String,
    since: u64,
    now: u64,
}

#[derive(Clone, Default, Debug)]
struct Account {
    /// By end and holder.
    steps: BTreeMap<(u64, String), u64>,
    numbers: BTreeMap<String, u64>,
    window: u64,
}

/// A message: as the script's arguments.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The epoch in which it was written.
    pub(super) epoch: String,
    /// Who sends it.
    pub(super) holder: String,
    /// Which of its messages it is.
    pub(super) number: u64,
    /// Bytes.
    pub(super) budget: u64,
    /// Milliseconds.
    pub(super) window: u64,
    /// Bytes.
    pub(super) want: u64,
    /// End, bytes.
    pub(super) claims: Vec<(u64, u64)>,
}

/// The server's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    /// The epoch.
    pub(super) id: String,
    /// The clock that never runs back.
    pub(super) now: u64,
    /// How long nothing is granted yet.
    pub(super) settles: u64,
    /// To the message.
    pub(super) answer: Told,
}

/// What it says to a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// It is of another epoch, or there was none.
    Nothing,
    /// A later one was there before it.
    Late,
    /// Granted, until, left.
    Granted(u64, u64, u64),
}

impl Store {
    /// What the script does.
    pub(super) fn run(&mut self, account: &str, message: Option<&Message>) -> Reply {
        let now = self.clock.max(self.data.mark.as_ref().map_or(0, |mark| mark.now));
        let mark = match &mut self.data.mark {
            Some(mark) if mark.id.starts_with(&self.run) => {
                mark.since = mark.since.min(self.clock);
                mark
            }
            other => {
                let kept = other.as_ref().map_or(0, |mark| mark.now);
                other.insert(Mark { id: format!("{}-{now}", self.run), since: self.clock, now: kept })
            }
        };
        let settles = (mark.since + self.settle).saturating_sub(self.clock);
        let id = mark.id.clone();
        let said = |answer| Reply { id: id.clone(), now, settles, answer };
        let Some(message) = message.filter(|message| message.epoch == id) else {
            return said(Told::Nothing);
        };
        let of = self.data.accounts.entry(account.to_owned()).or_default();
        if message.number <= of.numbers.get(&message.holder).copied().unwrap_or(0) {
            return said(Told::Late);
        }
        of.numbers.insert(message.holder.clone(), message.number);
        for (ends, bytes) in &message.claims {
            let step = (*ends, message.holder.clone());
            if *bytes > 0 {
                of.steps.insert(step, *bytes)
            } else {
                of.steps.remove(&step)
            };
        }
        let (window, keep) = (message.window, message.window.max(of.window));
        let (step, grid) = (window.div_ceil(60), keep.div_ceil(60));
        let mut kept: BTreeMap<(u64, String), u64> = BTreeMap::new();
        let mut counted = 0;
        for ((ends, holder), bytes) in std::mem::take(&mut of.steps) {
            if ends + keep <= now {
                continue;
            }
            let within = ends + window > now;
            counted += if within { bytes } else { 0 };
            let ends = if within { ends } else { ends.div_ceil(grid) * grid };
            *kept.entry((ends, holder)).or_default() += bytes;
        }
        of.steps = kept;
        let holds =
            |holder: &String| *holder == message.holder || of.steps.keys().any(|(_, other)| other == holder);
        of.numbers.retain(|holder, _| holds(holder));
        let rest = message.budget.saturating_sub(counted);
        let granted = if settles == 0 { message.want.min(rest) } else { 0 };
        let ends = (now / step + 1) * step;
        if granted > 0 {
            *of.steps.entry((ends, message.holder.clone())).or_default() += granted;
        }
        of.window = keep;
        if of.steps.is_empty() {
            self.data.accounts.remove(account);
        }
        mark.now = now;
        said(Told::Granted(granted, ends, rest - granted))
    }
}
