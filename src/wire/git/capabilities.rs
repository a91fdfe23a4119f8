//! The words after the NUL of a push's first command, and after the first `want` of a fetch: what the client can do.

use super::FIXED_AGENT;
use super::pkt_line::chomped;
use crate::words::git::ObjectFormat;

/// How answers are divided into what the report says and what the user is told (`gitprotocol-capabilities`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SideBand {
    /// Not at all: the report stands alone.
    #[default]
    None,
    /// `side-band`: lines of at most 1,000 bytes.
    Small,
    /// `side-band-64k`: lines of at most 65,520 bytes.
    Large,
}

/// What a client said that it can do and wants.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Capabilities {
    /// How it reads answers.
    pub side_band: SideBand,
    /// It wants to be told what became of each ref: `report-status` or `report-status-v2`.
    pub report_status: bool,
    /// Either all refs change, or none.
    pub atomic: bool,
    /// A list of options follows the commands of a push.
    pub push_options: bool,
    /// How long its ids are. Left out means SHA-1.
    pub format: ObjectFormat,
    /// Its program and version, as it calls them.
    pub agent: Option<Box<str>>,
    /// What it wrote to tell its sessions apart.
    pub session_id: Option<Box<str>>,
}

impl SideBand {
    /// The most that one line of a band holds, without its length and the number of the band.
    pub fn room(self) -> Option<usize> {
        match self {
            SideBand::None => None,
            SideBand::Small => Some(1_000 - 5),
            SideBand::Large => Some(super::pkt_line::MAX_LINE - 5),
        }
    }
}

impl Capabilities {
    /// Reads words separated by spaces. Words that are not known are left alone: clients send new ones.
    ///
    /// # Errors
    /// What servers would read in more than one way.
    pub(super) fn read(words: &[u8]) -> Result<Self, &'static str> {
        let mut read = Capabilities::default();
        let mut seen = Vec::new();
        // Git's server also separates words at tabs and line feeds, and ends them at a NUL. Nobody sends such.
        let words =
            std::str::from_utf8(words).ok().filter(|words| words.bytes().all(|b| matches!(b, b' '..=b'~')));
        let words = words.ok_or("capabilities that are not printable ASCII")?;
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let known = match (name, value) {
                ("report-status" | "report-status-v2", None) => {
                    read.report_status = true;
                    true
                }
                ("side-band-64k", None) => {
                    read.side_band = SideBand::Large;
                    true
                }
                ("side-band", None) => {
                    // Where both are named, git answers by the larger.
                    if read.side_band == SideBand::None {
                        read.side_band = SideBand::Small;
                    }
                    true
                }
                ("atomic", None) => {
                    read.atomic = true;
                    true
                }
                ("push-options", None) => {
                    read.push_options = true;
                    true
                }
                ("object-format", Some("sha1")) => true,
                ("object-format", Some("sha256")) => {
                    read.format = ObjectFormat::Sha256;
                    true
                }
                ("object-format", _) => return Err("an `object-format` that is neither sha1 nor sha256"),
                ("agent", Some(value)) => {
                    read.agent = Some(value.into());
                    true
                }
                ("session-id", Some(value)) => {
                    read.session_id = Some(value.into());
                    true
                }
                ("push-cert", _) => return Err("a push certificate, which is not supported"),
                (
                    "report-status" | "report-status-v2" | "side-band-64k" | "side-band" | "atomic"
                    | "push-options",
                    Some(_),
                ) => {
                    return Err("a value for a capability that has none");
                }
                _ => false,
            };
            if known {
                if seen.contains(&name) {
                    return Err("a capability twice");
                }
                seen.push(name);
            }
        }
        Ok(read)
    }
}

/// The words of a fetch that say how its answer is to look, in the order in which they go on.
const OF_FETCH: [&str; 16] = [
    "multi_ack",
    "multi_ack_detailed",
    "no-done",
    "side-band",
    "side-band-64k",
    "thin-pack",
    "no-progress",
    "include-tag",
    "ofs-delta",
    "shallow",
    "deepen-since",
    "deepen-not",
    "deepen-relative",
    "filter",
    "allow-tip-sha1-in-want",
    "allow-reachable-sha1-in-want",
];

/// The words of a fetch, which [`Capabilities::read`] has read, in one order and each once: with an `agent` that says nothing of the
/// client, and without `session-id`. `None`: there is a word that no fetch needs, which could be anything.
pub(super) fn fixed(words: &[u8]) -> Option<Vec<u8>> {
    let (mut known, mut agent, mut format) = ([false; OF_FETCH.len()], false, None);
    for word in chomped(words).split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
        let at = OF_FETCH.iter().position(|name| name.as_bytes() == word);
        match (word, at.and_then(|at| known.get_mut(at))) {
            (_, Some(known)) => *known = true,
            (b"object-format=sha1", None) => format = Some(ObjectFormat::Sha1),
            (b"object-format=sha256", None) => format = Some(ObjectFormat::Sha256),
            (word, None) if word.starts_with(b"agent=") => agent = true,
            (word, None) if word.starts_with(b"session-id=") => {}
            _ => return None,
        }
    }
    let mut out: Vec<String> =
        OF_FETCH.iter().zip(known).filter(|(_, known)| *known).map(|(name, _)| (*name).to_owned()).collect();
    out.extend(format.map(|format| format!("object-format={}", format.as_str())));
    out.extend(agent.then(|| format!("agent={FIXED_AGENT}")));
    let end = if words.ends_with(b"\n") { "\n" } else { "" };
    Some((out.join(" ") + end).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_one_way() {
        let git = b" report-status-v2 side-band-64k object-format=sha1 agent=git/2.39.5";
        let read = Capabilities::read(git).unwrap();
        let want = Capabilities {
            side_band: SideBand::Large,
            report_status: true,
            agent: Some("git/2.39.5".into()),
            ..Capabilities::default()
        };
        assert_eq!(read, want);
        let read = Capabilities::read(
            b"report-status side-band atomic push-options quiet delete-refs new=1 session-id=ab",
        );
        let want = Capabilities {
            side_band: SideBand::Small,
            report_status: true,
            atomic: true,
            push_options: true,
            session_id: Some("ab".into()),
            ..Capabilities::default()
        };
        assert_eq!(read, Ok(want));
        for words in [&b"side-band side-band-64k"[..], b"side-band-64k  side-band "] {
            assert_eq!(Capabilities::read(words).unwrap().side_band, SideBand::Large);
        }
        assert_eq!(Capabilities::read(b"object-format=sha256").unwrap().format, ObjectFormat::Sha256);
        assert_eq!(Capabilities::read(b"").unwrap(), Capabilities::default());
        // A word that only looks like one is another word.
        assert_eq!(Capabilities::read(b"xatomic atomic-x ATOMIC").unwrap(), Capabilities::default());
        let refused = [
            (&b"report-status\tatomic"[..], "capabilities that are not printable ASCII"),
            (b"atomic\0push-options", "capabilities that are not printable ASCII"),
            (b"agent=\xff", "capabilities that are not printable ASCII"),
            (b"object-format=sha1 object-format=sha256", "a capability twice"),
            (b"push-options push-options", "a capability twice"),
            (b"object-format=md5", "an `object-format` that is neither sha1 nor sha256"),
            (b"object-format", "an `object-format` that is neither sha1 nor sha256"),
            (b"push-cert=nonce", "a push certificate, which is not supported"),
            (b"push-options=0", "a value for a capability that has none"),
        ];
        for (words, why) in refused {
            assert_eq!(Capabilities::read(words), Err(why), "{}", String::from_utf8_lossy(words));
        }
    }

    #[test]
    fn the_fixed_form_says_nothing_of_the_client() {
        let rows: &[(&[u8], Option<&[u8]>)] = &[
            (
                b"ofs-delta agent=git/secret thin-pack\n",
                Some(b"thin-pack ofs-delta agent=git/2.47.0-egressd\n"),
            ),
            (b"session-id=data thin-pack thin-pack", Some(b"thin-pack")),
            (b"object-format=sha256 filter", Some(b"filter object-format=sha256")),
            (b"session-id=data\n", Some(b"\n")),
            (b"", Some(b"")),
            // Each could be anything.
            (b"thin-pack=secret", None),
            (b"AGENT=secret", None),
            (b"agentx=secret", None),
            (b"secret", None),
        ];
        for (words, want) in rows {
            assert_eq!(fixed(words).as_deref(), *want, "{}", String::from_utf8_lossy(words));
        }
    }
}
