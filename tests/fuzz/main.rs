//! Replays the corpus of every fuzz target, with what the fuzzers once found, through the checks that they run. The corpus
//! is small: long runs are in `tests/long/fuzz`.

mod checks;

use std::path::Path;

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

targets! { target_and_rule, request, proxy_header, client_hello, config, record, squid_conf, log_line, }
