//! A Squid configuration: the output is a configuration that egressd accepts, each message is a single line, and
//! without the word `allow` in the input nothing is allowed.

use egressd::commands::import::squid::{Choices, Files, squid};
use egressd::config::load_str;
use egressd::words::client::Client;
use egressd::words::target::Target;
use jiff::Timestamp;

/// The input is squid.conf; after a `0x1e` byte, if there is one, comes the content of a file `list` next to it. And once more
/// as if the input were the output of kubectl.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok((files, main)) = Files::in_config_maps(text) {
        let _ = squid(&files, &main, Choices::default());
    }
    let (conf, list) = text.split_once('\x1e').unwrap_or((text, ""));
    let map = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "squid"}, "data": {"squid.conf": conf, "list": list},
    });
    let Ok((files, main)) = Files::in_config_maps(&map.to_string()) else { return };
    let imported = match squid(&files, &main, Choices::default()) {
        Ok(imported) => imported,
        Err(error) => return assert!(!error.contains("fault of the import"), "{error}"),
    };
    for note in &imported.notes {
        let shown = note.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
    let read = |_: &std::path::Path| Ok(list.as_bytes().to_vec());
    let loaded = load_str("egressd.yaml", &imported.yaml, read);
    let config = match loaded {
        Ok(loaded) => loaded.config,
        // The list may not be a valid list of egressd: then the import has written its lines elsewhere, or reported it.
        Err(findings) => {
            return assert!(
                findings.iter().any(|finding| !finding.file.ends_with("egressd.yaml")),
                "{findings:?}"
            );
        }
    };
    if !conf.to_ascii_lowercase().contains("allow") {
        let client = Client::direct(([10, 0, 0, 1], 5).into());
        for asked in ["git-codecommit.eu-central-1.amazonaws.com:443", "example.com:443"] {
            let target = Target::connect(asked).expect("a target");
            let decided = config.policies.decide(&target, &client, Timestamp::UNIX_EPOCH);
            assert!(decided.is_err(), "{asked} is let out");
        }
    }
}
