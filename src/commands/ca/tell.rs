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
    let path = |name: &str| directory.join(name).display().to_string();
    let hosts: Vec<String> = terms.hosts.iter().map(ToString::to_string).collect();
    let what = match &made.root {
        Some(_) => "A root, and an authority under it,",
        None => "An authority under the root that was there,",
    };
    let mut text = format!(
        "{what} for {} and every name below, and for no address: {}.\n\
         Certificates cannot permit a host without the names below it (RFC 5280).\n",
        counted(hosts.len(), "host", "hosts"),
        hosts.join(", ")
    );
    if terms.open_root {
        text += "The root itself can sign for every name (--open-root); the authority cannot.\n";
    }
    text += "\n";
    if let Some((_, until)) = &made.root {
        let _ = write!(
            text,
            "{}\n    goes offline now: egressd never needs it, and with it anyone can make authorities that your clients\n    \
             trust. It makes the next authority: `egressd ca new --root DIR`.\n\
             {}\n    goes to clients; valid until {until}.\n",
            path(ROOT_KEY),
            path(ROOT)
        );
    }
    let _ = write!(
        text,
        "{}\n{}\n    go to egressd; valid until {}. `egressd check` warns 30 days before.\n\n\
         In egressd.yaml, with paths relative to it:\n\n\
         inspection:\n  certificate: {AUTHORITY}\n  key: {AUTHORITY_KEY}\n",
        path(AUTHORITY),
        path(AUTHORITY_KEY),
        made.authority_until
    );
    if made.root.is_none() {
        text += "\nClients that trust the root need no change.\n";
        return text;
    }
    text += "\nClients have to trust the root before a rule inspects what they do:\n\n";
    for (who, what) in CLIENTS {
        let _ = writeln!(text, "{who:<15} {}", what.replace("{root}", &path(ROOT)));
    }
    text += "\nBUNDLE is a file with the system's authorities and the root: these variables replace the system's.\n\
             docs/inspection.md says more, and how to renew, replace and revoke.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::super::make::make;
    use super::super::permit;
    use super::*;

    #[test]
    fn every_file_has_its_place_and_the_lines_for_egressd_are_yaml() {
        let hosts = permit::hosts(&["git.example.com".to_owned(), "api.example.org".to_owned()]).unwrap();
        let now = "2026-11-30T00:10:00Z".parse().unwrap();
        let terms = Terms { hosts: &hosts, open_root: false, days: 730, root_days: 3650, root: None, now };
        let made = make(&terms).unwrap();
        let text = next_steps(&terms, &made, Path::new("ca"));
        for want in [
            "for 2 hosts and every name below, and for no address: git.example.com, api.example.org.",
            "ca/root.key\n    goes offline now",
            "ca/root.crt\n    goes to clients; valid until 2036-11-27",
            "ca/authority.crt\nca/authority.key\n    go to egressd; valid until 2028-11-29",
            "\ninspection:\n  certificate: authority.crt\n  key: authority.key\n",
            "NODE_EXTRA_CA_CERTS=ca/root.crt",
        ] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        // Nothing of a key is shown.
        assert!(!text.contains("PRIVATE") && text.lines().all(|line| line.len() <= 160), "{text}");

        let root = made.root.unwrap().0;
        let terms = Terms { root: Some(&root), ..terms };
        let next = make(&terms).unwrap();
        let text = next_steps(&terms, &next, Path::new("next"));
        assert!(
            text.contains("Clients that trust the root need no change.") && !text.contains("root.key"),
            "{text}"
        );
    }
}
