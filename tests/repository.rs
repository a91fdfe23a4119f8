//! What the files of the repository say of each other is one and the same: versions, and what programs need.

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
