//! The configuration: every error has its place in the file, and an accepted configuration decides without a panic and
//! gives the same answer each time.

use std::io;

use egressd::config::{Finding, load_bytes};
use egressd::words::client::Client;
use egressd::words::target::Target;
use jiff::Timestamp;

/// The input is a configuration file; after a `0x1e` byte, if there is one, comes the content of every file that it names.
pub fn check(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0x1e);
    let (text, named) = (parts.next().unwrap_or_default(), parts.next());
    let read = |_: &std::path::Path| named.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::NotFound.into());
    let loaded = match load_bytes("egressd.yaml", text, read) {
        Ok(loaded) => loaded,
        Err(findings) => {
            assert!(!findings.is_empty());
            return findings.iter().for_each(|finding| placed(finding, text, named));
        }
    };
    loaded.warnings.iter().for_each(|finding| placed(finding, text, named));
    let again = load_bytes("egressd.yaml", text, read).expect("as before");
    assert_eq!(again.config.hash.short(), loaded.config.hash.short());
    let client = Client::direct(([10, 0, 0, 1], 5).into());
    for asked in ["git-codecommit.eu-central-1.amazonaws.com:443", "example.com:443", "203.0.113.9:22"] {
        let target = Target::connect(asked).expect("a target");
        let verdict = |config: &egressd::config::Config| {
            let decided = config.policies.decide(&target, &client, Timestamp::UNIX_EPOCH);
            decided.map(|permit| permit.policy).map_err(|denial| denial.reason)
        };
        assert_eq!(verdict(&loaded.config), verdict(&again.config), "{asked}");
        if loaded.config.policies.rules().next().is_none() && verdict(&loaded.config).is_ok() {
            let reports = String::from_utf8_lossy(text).contains("report");
            assert!(reports, "a policy without rules lets nothing out");
        }
    }
}

fn placed(finding: &Finding, text: &[u8], named: Option<&[u8]>) {
    let lines = |text: &[u8]| text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    let most = lines(text).max(named.map_or(0, lines)) as u32 + 1;
    assert!(finding.line >= 1 && finding.column >= 1, "{finding}");
    assert!(finding.line as u64 <= u64::from(most), "{finding}");
    let shown = finding.to_string();
    assert!(!shown.contains(char::is_control), "one line, and nothing that moves a terminal: {shown:?}");
}
