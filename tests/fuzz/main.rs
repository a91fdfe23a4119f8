//! Replays the corpus of every fuzz target, with what the fuzzers once found, through the checks that they run. The corpus
//! is small: long runs are in `tests/long/fuzz`.

mod checks;

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The inputs kept for a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("readable"))
        })
        .collect();
    inputs.sort();
    inputs
}

fn replay(target: &str, check: fn(&[u8])) {
    let inputs = corpus(target);
    assert!(inputs.len() >= 5, "{target}: {} inputs prove little", inputs.len());
    let mut failed = Vec::new();
    for (name, bytes) in inputs {
        // Each input, and its halves: these are cheap, and as odd as what a fuzzer makes.
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        if std::panic::catch_unwind(|| [&bytes, head, tail].into_iter().for_each(check)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{target}: {failed:?}");
}

macro_rules! targets {
    ($($target:ident,)*) => {
        $(#[test] fn $target() { replay(stringify!($target), checks::$target::check); })*

        /// A target that is not replayed would rot.
        #[test]
        fn every_fuzz_target_is_replayed() {
            let manifest = include_str!("Cargo.toml");
            let named = manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""));
            assert_eq!(named.collect::<Vec<_>>(), [$(stringify!($target),)*]);
        }
    };
}

targets! { target_and_rule, request, proxy_header, client_hello, config, record, squid_conf, log_line, git, credentials, path_rule, socks5, }

/// A kept input with a few of its bytes changed, taken out or doubled.
fn near(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let inputs = corpus(target);
    let edits =
        vec((any::<Index>(), 0..4_u8, prop_oneof![any::<u8>(), Just(b'0'), Just(0), Just(b' ')]), 0..5);
    (any::<Index>(), edits).prop_map(move |(which, edits)| {
        let mut bytes = which.get(&inputs).1.clone();
        for (place, how, byte) in edits {
            let at = place.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    let end = (at + usize::from(byte)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    })
}

// What cargo-fuzz looks for in hours, in a few seconds, and without a nightly toolchain.
proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn near_request(bytes in near("request")) {
        checks::request::check(&bytes);
    }

    #[test]
    fn near_path_rule(bytes in near("path_rule")) {
        checks::path_rule::check(&bytes);
    }

    #[test]
    fn near_git(bytes in near("git")) {
        checks::git::check(&bytes);
    }

    #[test]
    fn near_credentials(bytes in near("credentials")) {
        checks::credentials::check(&bytes);
    }
}
