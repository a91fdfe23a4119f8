//! What the files of the repository say of each other is one and the same: versions, what programs need, and what configurations name.

use std::path::{Path, PathBuf};

fn read(file: impl AsRef<std::path::Path>) -> String {
    std::fs::read_to_string(file.as_ref()).expect("the file is in the repository")
}

/// `tests/run` promises that all other steps stay on loopback.
#[test]
fn every_long_program_that_downloads_says_so() {
    let entries = std::fs::read_dir("tests/long").expect("in the repository");
    let programs = entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file());
    let mut downloading = 0;
    for program in programs {
        let text = read(&program);
        let by = [
            "bin/pip\"",
            "tests/clients/",
            "npm-cli.js",
            "apt-get",
            "cargo install --locked",
            "import tools",
            "from tools import",
            "SQUID_OPENSSL_DEB",
        ];
        let downloads = by.iter().any(|by| text.contains(by));
        let says = text.lines().any(|line| line.starts_with("# downloads: "));
        assert_eq!(downloads, says, "{}", program.display());
        downloading += usize::from(says);
    }
    assert!(downloading > 0);
}

/// What follows `before` in a file, up to the end of the line, without quotes.
fn said(file: &str, before: &str) -> String {
    let text = read(file);
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(before));
    line.unwrap_or_else(|| panic!("{file} has no line that begins with {before}"))
        .trim_matches('"')
        .to_owned()
}

#[test]
fn one_release_of_rust_is_named_everywhere() {
    let release = said("Cargo.toml", "rust-version = ");
    assert_eq!(said("rust-toolchain.toml", "channel = "), format!("{release}.0"));
    let image = format!("rust:{release}-bookworm");
    assert_eq!(said("docker/Dockerfile", "FROM "), format!("{image} AS builder"));
    assert_eq!(said(".gitlab-ci.yml", "image: "), image);
    assert_eq!(said(".github/workflows/ci.yml", "image: "), image);
    assert!(read("README.md").contains(&format!("Rust toolchain ({release} or newer)")));
}

#[test]
fn one_version_of_egressd_is_named_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(said("docker/Dockerfile", "ARG VERSION="), version);
    assert_eq!(said("k8s/base/kustomization.yaml", "newTag: "), version);
}

/// Both call the same scripts, so that a change passes on one exactly if it passes on the other.
#[test]
fn both_kinds_of_ci_run_the_same_scripts() {
    let scripts = |file: &str| -> Vec<String> {
        let text = read(file);
        let lines =
            text.lines().map(|line| line.trim_start().trim_start_matches("- ").trim_start_matches("run: "));
        lines
            .filter(|line| line.starts_with(".ci/run") || line.starts_with("tests/"))
            .map(str::to_owned)
            .collect()
    };
    let github = scripts(".github/workflows/ci.yml");
    assert_eq!(github, [".ci/run", ".ci/run --long", "tests/long/deny"]);
    assert_eq!(scripts(".gitlab-ci.yml"), github);
}

/// The files in `directory` and below whose name ends so.
fn files(directory: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory is in the repository") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, end, found);
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
}

/// As a reader runs it who has nothing but the repository, and certificates and passwords of his own.
#[test]
fn every_configuration_that_is_shipped_passes_check_where_it_lies() {
    let mut shipped = Vec::new();
    for directory in ["config", "docker", "k8s"] {
        files(Path::new(directory), ".yaml", &mut shipped);
    }
    shipped.retain(|file| read(file).lines().any(|line| line == "policies:"));
    assert!(shipped.len() >= 12, "{shipped:?}");
    let own =
        rcgen::generate_simple_self_signed(["egressd.example.internal".to_owned()]).expect("a certificate");
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    for file in shipped {
        let copy = tempfile::tempdir().expect("a directory");
        let beside = std::fs::read_dir(file.parent().expect("a directory")).expect("in the repository");
        for path in beside.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()) {
            let to = copy.path().join(path.file_name().expect("a name"));
            std::fs::copy(&path, &to).expect("copied, and not as a link");
        }
        for (name, content) in [
            ("tls/tls.crt", &*certificate),
            ("tls/tls.key", &key),
            ("tls/ca.crt", &certificate),
            ("ca/authority.crt", include_str!("lint/files/authority-free.crt")),
            ("ca/authority.key", include_str!("lint/files/authority.key")),
            ("push.cred", "gitlab-mirror-at-456247553902:s3cret\n"),
        ] {
            let path = copy.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        let copied = copy.path().join(file.file_name().expect("a name"));
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_egressd"));
        let ran = check.arg("check").arg("-c").arg(&copied).output().expect("it runs");
        let said = String::from_utf8_lossy(&[ran.stderr, ran.stdout].concat()).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{}:\n{said}", file.display());
    }
}
