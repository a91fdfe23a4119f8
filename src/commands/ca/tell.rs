//! What to do with the files that were made. More is in docs/inspection.md.

use std::fmt::Write as _;
use std::path::Path;

use super::make::{Made, Terms};
use super::write::{AUTHORITY, AUTHORITY_KEY, ROOT, ROOT_KEY};
use crate::words::counted::counted;

/// Where clients want the root: who, and what to do. `{root}` stands for its file.
const CLIENTS: [(&str, &str); 9] = [
    (
        "git",
        "git config --global http.https://HOST/.sslCAInfo {root}    # replaces the system's authorities for HOST",
    ),
    (
        "GitLab Omnibus",
        "cp {root} /etc/gitlab/trusted-certs/egressd-inspection.crt && gitlab-ctl reconfigure    # on every node",
    ),
    (
        "GitLab Helm",
        "global.certificates.customCAs: [{secret: NAME}]; GitLab Runner has its own certsSecretName",
    ),
    (
        "Debian, Ubuntu",
        "cp {root} /usr/local/share/ca-certificates/egressd-inspection.crt && update-ca-certificates",
    ),
    ("Node", "NODE_EXTRA_CA_CERTS={root}"),
    ("Java", "keytool -importcert -cacerts -noprompt -alias egressd-inspection -file {root}"),
    ("Python, Go", "SSL_CERT_FILE=BUNDLE; requests and pip want REQUESTS_CA_BUNDLE=BUNDLE, too"),
    ("AWS CLI, SDKs", "AWS_CA_BUNDLE=BUNDLE"),
    ("Kubernetes", "trust-manager: a Bundle of the default CAs and this root, mounted where clients look"),
];

/// The text for the operator.
pub(super) fn next_steps(terms: &Terms<'_>, made: &Made, directory: &Path) -> String {
    let mut text = String::new();
    let path = |name: &str| directory.join(name).display().to_string();
    let hosts: Vec<String> = terms.hosts.iter().map(ToString::to_string).collect();
    let lines = [
        format!(
            "A root and an authority under it, for {} and every name below, and for no address: {}.",
            counted(hosts.len(), "host", "hosts"),
            hosts.join(", ")
        ),
        match terms.open_root {
            true => "The root itself can sign for every name (--open-root): the authority cannot.".to_owned(),
            false => "Certificates cannot permit a host without the names below it (RFC 5280).".to_owned(),
        },
        String::new(),
        format!(
            "{:<30} goes offline now: egressd never needs it. It makes the next authority,",
            path(ROOT_KEY)
        ),
        format!("{:<30} and who has it can sign in its name. Keep a copy where no network reaches it.", ""),
        format!("{:<30} goes to clients. Valid to {}.", path(ROOT), made.root_until),
        format!("{:<30} and", path(AUTHORITY)),
        format!(
            "{:<30} go to egressd. Valid to {}; `egressd check` warns 30 days before.",
            path(AUTHORITY_KEY),
            made.authority_until
        ),
        String::new(),
        "In egressd.yaml, with paths relative to it:".to_owned(),
        String::new(),
        "inspection:".to_owned(),
        format!("  certificate: {AUTHORITY}"),
        format!("  key: {AUTHORITY_KEY}"),
        String::new(),
        "Clients have to trust the root before a rule inspects what they do:".to_owned(),
        String::new(),
    ];
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    for (who, what) in CLIENTS {
        let _ = writeln!(text, "{who:<15} {}", what.replace("{root}", &path(ROOT)));
    }
    let _ = writeln!(
        text,
        "\nBUNDLE is a file with the system's authorities and the root: these variables replace the system's.\n\
         docs/inspection.md says more, and how to renew, rotate and revoke."
    );
    text
}
