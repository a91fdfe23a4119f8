//! Answers by which git tells its user why a request was refused.
//!
//! Git shows the body of no answer but a 200, save on discovery. So a push is answered like one that the server took and whose
//! refs it refused: a line for the user at once ([`push_opening`]), then, when the whole pack is read and thrown away, the report
//! ([`push_report`]). The connection must not be announced to close, or git sends the push again. A fetch is answered with the
//! server's own form of an error ([`fetch`]). Discovery gets a 403 of `text/plain`, which git prints line by line.

use super::capabilities::{Capabilities, SideBand};
use super::pkt_line;
use crate::words::git::RefChange;

/// The media type of the answer to a push.
pub const PUSH_RESULT: &str = "application/x-git-receive-pack-result";
/// The media type of the answer to a fetch.
pub const FETCH_RESULT: &str = "application/x-git-upload-pack-result";
/// The longest text after the name of a ref.
const MAX_TEXT: usize = 900;

/// The first line of the answer to a push, which git prints as `remote: egressd: …`. It goes out before the pack is drained: a
/// client that gives up early has seen it then. Empty if the client did not ask for side bands: nothing can be said early then.
///
/// `None`: the client did not ask for a report. It would take any 200 for success, and say so: it must get a 403.
///
/// `text` is the reason and what to do.
pub fn push_opening(capabilities: &Capabilities, text: &str) -> Option<Vec<u8>> {
    if !capabilities.report_status {
        return None;
    }
    let mut out = Vec::new();
    if capabilities.side_band != SideBand::None {
        pkt_line::write(&mut out, &[b"\x02egressd: ", line(text).as_bytes(), b"\n"]);
    }
    Some(out)
}

/// The rest of the answer to a push: each ref is refused. `refused` says of which refs `reason` is true; the others are refused
/// because all of a push is. It prints ` ! [remote rejected] main -> main (egressd: REASON)`.
pub fn push_report(
    capabilities: &Capabilities,
    changes: &[RefChange],
    reason: &str,
    mut refused: impl FnMut(&RefChange) -> bool,
) -> Vec<u8> {
    let mut report = Vec::new();
    // The pack is not to blame: git would print that in place of the reason.
    pkt_line::write(&mut report, &[b"unpack ok\n"]);
    let own = format!(" egressd: {}\n", line(reason));
    let other = format!(" egressd: {}, for another ref\n", line(reason));
    for change in changes {
        let text = if refused(change) { &own } else { &other };
        pkt_line::write(&mut report, &[b"ng ", change.name.as_str().as_bytes(), text.as_bytes()]);
    }
    pkt_line::flush(&mut report);
    let Some(room) = capabilities.side_band.room() else { return report };
    let mut out = Vec::with_capacity(report.len() + report.len() / room * 5 + 16);
    for piece in report.chunks(room) {
        pkt_line::write(&mut out, &[b"\x01", piece]);
    }
    pkt_line::flush(&mut out);
    out
}

/// The answer to a fetch of any version, and to an archive: it prints `fatal: remote error: egressd: …`.
pub fn fetch(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    pkt_line::write(&mut out, &[b"ERR egressd: ", line(text).as_bytes(), b"\n"]);
    out
}

/// One line of printable text, cut to what the smaller side band holds.
fn line(text: &str) -> String {
    let mut line = String::new();
    for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if line.len() + char.len_utf8() > MAX_TEXT {
            break;
        }
        line.push(char);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::push::{PushList, PushReader};
    use super::super::test_bodies::push;
    use super::*;

    fn list(capabilities: &str, refs: &[&str]) -> PushList {
        let mut reader = PushReader::new();
        reader.read(&push(capabilities, refs)).unwrap();
        reader.into_list()
    }

    fn report(list: &PushList, reason: &str, refused: impl FnMut(&RefChange) -> bool) -> Vec<u8> {
        push_report(&list.capabilities, &list.changes, reason, refused)
    }

    #[test]
    fn a_push_is_answered_in_the_bands_that_the_client_reads() {
        let refs = ["refs/heads/main", "refs/tags/v1"];
        let large = list("report-status side-band-64k", &refs);
        assert_eq!(push_opening(&large.capabilities, "a: b").unwrap(), b"0013\x02egressd: a: b\n");
        let want = b"000eunpack ok\n0027ng refs/heads/main egressd: reason\n0035ng refs/tags/v1 egressd: reason, for another ref\n0000";
        let own = |change: &RefChange| change.name.as_str() == "refs/heads/main";
        let banded = [b"0073\x01", &want[..], b"0000"].concat();
        assert_eq!(report(&large, "reason", own), banded);
        // Without bands the report stands alone, and nothing can be said before it.
        let bare = list("report-status", &refs);
        assert_eq!(push_opening(&bare.capabilities, "a: b").unwrap(), b"");
        assert_eq!(report(&bare, "reason", own), want);
        // Without report-status a 200 would be a success.
        assert_eq!(push_opening(&list("side-band-64k", &refs).capabilities, "a: b"), None);
    }

    #[test]
    fn a_report_is_divided_into_lines_that_the_band_holds() {
        let names: Vec<String> = (0..4_000).map(|n| format!("refs/heads/branch-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let bare = report(&list("report-status", &names), "ref_not_allowed", |_| true);
        for (capabilities, longest) in
            [("report-status side-band-64k", 65_520), ("report-status side-band", 1_000)]
        {
            let answer = report(&list(capabilities, &names), "ref_not_allowed", |_| true);
            let (mut rest, mut joined, mut most) = (&answer[..], Vec::new(), 0);
            loop {
                let (packet, length) = pkt_line::next(rest).unwrap().unwrap();
                rest = &rest[length..];
                most = most.max(length);
                match packet {
                    pkt_line::Packet::Data([1, piece @ ..]) => joined.extend_from_slice(piece),
                    packet => {
                        assert_eq!((packet, rest), (pkt_line::Packet::Flush, &b""[..]));
                        break;
                    }
                }
            }
            assert_eq!(most, longest);
            assert!(joined == bare);
        }
    }

    #[test]
    fn a_text_is_one_line_that_fits() {
        assert_eq!(fetch("git_not_allowed: x"), b"0024ERR egressd: git_not_allowed: x\n");
        assert_eq!(line("a\nb\x1b[31m\u{85}c"), "a b [31m c");
        assert_eq!(line(&"é".repeat(1_000)).len(), MAX_TEXT);
        let longest = "refs/heads/".to_owned() + &"a".repeat(4_085);
        let list = list("report-status side-band", &[&longest]);
        assert!(push_opening(&list.capabilities, &"x".repeat(5_000)).unwrap().len() <= 1_000);
        assert!(report(&list, &"x".repeat(5_000), |_| false).len() > 4_096);
    }
}
