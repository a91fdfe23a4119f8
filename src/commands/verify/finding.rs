//! What is wrong with a log, and where.

/// A line of a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct At {
    /// Which log, in the order of the command line.
    pub log: usize,
    /// Its line, from 1.
    pub line: u64,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A record is missing whose hash is sealed.
    Gap,
    /// A record, or a seal, is not what was written.
    Altered,
    /// A line is there that no seal has.
    Inserted,
    /// A seal is missing, so that nothing proves its records.
    Unproven,
    /// The last seal of a boot is missing.
    Cut,
}

impl Kind {
    /// Every one of them.
    pub const ALL: [Kind; 5] = [Kind::Gap, Kind::Altered, Kind::Inserted, Kind::Unproven, Kind::Cut];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gap => "gap",
            Kind::Altered => "altered",
            Kind::Inserted => "inserted",
            Kind::Unproven => "unproven",
            Kind::Cut => "cut",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// In which start of the program, if it is one.
    pub boot: Option<Box<str>>,
    /// The first and last record that it is about, by their `seq`.
    pub records: Option<(u64, u64)>,
    /// The line that shows it.
    pub at: Option<At>,
    /// A sentence.
    pub text: String,
}

/// What is wrong with all logs. Of very many, the first are kept.
#[derive(Clone, Default, Debug)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: [u64; Kind::ALL.len()],
}

/// Findings that are kept with their texts: more would nobody read, and a log may have any number.
const MOST: usize = 10_000;

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        if let Some(count) = self.counts.get_mut(finding.kind as usize) {
            *count += 1;
        }
        if self.kept.len() < MOST {
            self.kept.push(finding);
        }
    }

    /// The first of them.
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many of each kind there are.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.into_iter().zip(self.counts)
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}
