//! What to do with the files that were made. More is in docs/inspection.md.

use std::fmt::Write as _;
use std::path::Path;

use super::make::{Made, Terms};
use super::write::{AUTHORITY, AUTHORITY_KEY, ROOT, ROOT_KEY};
use crate::words::counted::counted;

/// A copy of the root that every user may read: the directory of the root is for its owner alone, and git or a service runs
/// as another user.
const COPY: &str = "/usr/local/share/egressd/inspection-root.crt";

/// Where clients want the root: who, and what to do. `{root}` stands for its file, and `{copy}` for [`COPY`].
const CLIENTS: [(&str, &str); 9] = [
    (
        "git",
        "git config --system http.https://HOST/.sslCAInfo {copy}    # replaces the system's authorities for HOST",
    ),
    (
        "GitLab Omnibus",
        "install -m 644 {root} /etc/gitlab/trusted-certs/egressd-inspection.crt && gitlab-ctl reconfigure    # on every node",
    ),
    (
        "GitLab Helm",
        "global.certificates.customCAs: [{secret: NAME}]; GitLab Runner has its own certsSecretName",
    ),
    (
        "Debian, Ubuntu",
        "install -m 644 {root} /usr/local/share/ca-certificates/egressd-inspection.crt && update-ca-certificates",
    ),
    ("Node", "NODE_EXTRA_CA_CERTS={copy}"),
    ("Java", "keytool -importcert -cacerts -noprompt -alias egressd-inspection -file {root}"),
    ("Python, Go", "SSL_CERT_FILE=BUNDLE; requests and pip want REQUESTS_CA_BUNDLE=BUNDLE, too"),
    ("AWS CLI, SDKs", "AWS_CA_BUNDLE=BUNDLE"),
    ("Kubernetes", "trust-manager: a Bundle of the default CAs and this root, mounted where clients look"),
];

/// The text for the operator.
pub(super) fn next_steps(terms: &Terms<'_>, made: &Made, directory: &Path) -> String {
    // Absolute, as the steps may be carried out in another directory.
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
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
         Copy both beside egressd.yaml, where its paths begin, and write there:\n\n\
         inspection:\n  certificate: {AUTHORITY}\n  key: {AUTHORITY_KEY}\n",
        path(AUTHORITY),
        path(AUTHORITY_KEY),
        made.authority_until
    );
    if made.root.is_none() {
        text += "\nClients that trust the root need no change.\n";
        return text;
    }
    let _ = write!(
        text,
        "\nClients have to trust the root before a rule inspects what they do. Give other users a copy that they may read:\n\n\
         install -D -m 644 {} {COPY}\n\n",
        path(ROOT)
    );
    for (who, what) in CLIENTS {
        let what = what.replace("{root}", &path(ROOT)).replace("{copy}", COPY);
        let _ = writeln!(text, "{who:<15} {what}");
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
        let text = next_steps(&terms, &made, Path::new("/srv/ca"));
        for want in [
            "for 2 hosts and every name below, and for no address: git.example.com, api.example.org.",
            "\n/srv/ca/root.key\n    goes offline now",
            "\n/srv/ca/root.crt\n    goes to clients; valid until 2036-11-27",
            "\n/srv/ca/authority.crt\n/srv/ca/authority.key\n    go to egressd; valid until 2028-11-29",
            "\ninspection:\n  certificate: authority.crt\n  key: authority.key\n",
            "\ninstall -D -m 644 /srv/ca/root.crt /usr/local/share/egressd/inspection-root.crt\n",
            "NODE_EXTRA_CA_CERTS=/usr/local/share/egressd/inspection-root.crt",
            " install -m 644 /srv/ca/root.crt /etc/gitlab/trusted-certs/",
        ] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        // Nothing of a key is shown.
        assert!(!text.contains("PRIVATE") && text.lines().all(|line| line.len() <= 160), "{text}");

        let root = made.root.unwrap().0;
        let terms = Terms { root: Some(&root), ..terms };
        let next = make(&terms).unwrap();
        let text = next_steps(&terms, &next, Path::new("next"));
        let here = std::env::current_dir().unwrap().join("next/authority.crt");
        assert!(text.contains(here.to_str().unwrap()), "{text}");
        assert!(
            text.contains("Clients that trust the root need no change.") && !text.contains("root.key"),
            "{text}"
        );
    }
}
