//! The options of `http_port` and `https_port` that egressd has no key for: each is told, and as wider where Squid kept something
//! back by it.

use super::super::lexer::Line;
use crate::commands::import::notes::NoteKind;

/// What becomes of a port's options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PortKind {
    /// Clients come with TLS.
    pub(super) tls: bool,
    /// They must show a certificate.
    pub(super) certificates: bool,
    /// Squid opened tunnels here.
    pub(super) bump: bool,
}

/// Options that are carried over, or told, by the reader of the line.
const READ: [&str; 16] = [
    "name",
    "tls-cert",
    "cert",
    "tls-key",
    "key",
    "clientca",
    "tls-clientca",
    "cafile",
    "tls-cafile",
    "crlfile",
    "require-proxy-header",
    "ssl-bump",
    "sslbump",
    "intercept",
    "transparent",
    "tproxy",
];
/// Those that tune TLS, or say which TLS is accepted.
const TLS: [&str; 17] = [
    "tls-cert",
    "cert",
    "tls-key",
    "key",
    "clientca",
    "tls-clientca",
    "cafile",
    "tls-cafile",
    "crlfile",
    "capath",
    "cipher",
    "options",
    "tls-options",
    "version",
    "tls-min-version",
    "sslflags",
    "tls-dh",
];
const BUMP: [&str; 2] = ["generate-host-certificates", "dynamic_cert_mem_cache_size"];
const TUNING: [&str; 17] = [
    "connection-auth",
    "no-connection-auth",
    "disable-pmtu-discovery",
    "tcpkeepalive",
    "worker-queues",
    "tls-dh",
    "dhparams",
    "tls-no-npn",
    "sslcontext",
    "context",
    "tls-default-ca",
    "ignore-cc",
    "act-as-origin",
    "allow-direct",
    "no-vhost",
    "protocol",
    "urlgroup",
];
/// What each version of TLS is called under `options`, of those that egressd accepts.
const TWELVE: &str = "NO_TLSv1_2";
const THIRTEEN: &str = "NO_TLSv1_3";

/// What is to be told of a line's options.
pub(super) fn told(line: &Line, port: PortKind) -> Vec<(NoteKind, String)> {
    let mut told = Vec::new();
    let mut plain: Vec<&str> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for option in line.from(1) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        if TLS.contains(&key) && !port.tls {
            // Behind `ssl-bump` they are those of the certificates that Squid makes.
            if !port.bump {
                plain.push(option);
            }
        } else if READ.contains(&key) || (BUMP.contains(&key) && port.bump) {
        } else if let Some(one) = of_tls(key, value, option, line, port) {
            told.push(one);
        } else if TUNING.contains(&key) || BUMP.contains(&key) {
            plain.push(option);
        } else {
            unknown.push(option);
        }
    }
    let shown =
        |options: &[&str]| options.iter().map(|one| format!("`{}`", cut(one))).collect::<Vec<_>>().join(", ");
    if !plain.is_empty() {
        let why = "egressd needs nothing like it there, and decides nothing by it";
        told.push((NoteKind::Lost, format!("{} of this port: not carried over: {why}", shown(&plain))));
    }
    if !unknown.is_empty() {
        let text = format!(
            "{} of this port: no option that the import knows, so it is not carried over: where Squid kept anybody out by it, egressd does not",
            shown(&unknown)
        );
        told.push((NoteKind::Wider, text));
    }
    told
}

/// What is told of an option that says which TLS is accepted. None: it is none.
fn of_tls(key: &str, value: &str, option: &str, line: &Line, port: PortKind) -> Option<(NoteKind, String)> {
    let option = cut(option);
    let flags = || value.split([',', ':', ';', '|', '+']).filter(|flag| !flag.is_empty());
    let has = |wanted: &str| flags().any(|flag| flag.eq_ignore_ascii_case(wanted));
    let narrower = |from: &str| {
        (
            NoteKind::Wider,
            format!(
                "`{option}`: {from}; egressd accepts TLS 1.2 and 1.3 on every TLS listener, and has no key for less"
            ),
        )
    };
    Some(match key {
        "options" | "tls-options" if has(TWELVE) => narrower("Squid refused TLS 1.2 here"),
        "options" | "tls-options" if has(THIRTEEN) => narrower("Squid refused TLS 1.3 here"),
        "options" | "tls-options" if flags().any(|flag| flag.starts_with(|c: char| c.is_ascii_digit())) => {
            narrower("a number may stand for versions that Squid refused here")
        }
        "tls-min-version" if !matches!(value, "1.0" | "1.1" | "1.2") => {
            narrower("Squid refused older versions here")
        }
        "version" if !matches!(value, "" | "1") => narrower("Squid accepted one version here"),
        "options" | "tls-options" | "tls-min-version" | "version" => (
            NoteKind::Lost,
            format!("`{option}`: not needed: egressd accepts TLS 1.2 and 1.3, never an older version"),
        ),
        "cipher" => (
            NoteKind::Differs,
            format!(
                "`{option}`: egressd has its own cipher suites, all with forward secrecy, and no key for fewer"
            ),
        ),
        "capath" if port.certificates => (
            NoteKind::Wider,
            format!(
                "`{option}`: certificates of clients that a list in this directory revokes are valid now: write the lists into one file, and name it under `client_crl`; authorities that are only there have to be added to the file of `client_ca`"
            ),
        ),
        "sslflags" if port.certificates => {
            let crl = line.from(1).any(|other| other.starts_with("crlfile=") || other.starts_with("capath="));
            let verified = has("VERIFY_CRL") || has("VERIFY_CRL_ALL");
            if has("CONDITIONAL_AUTH") || has("DELAYED_AUTH") {
                (
                    NoteKind::Stricter,
                    format!(
                        "`{option}`: with `client_ca` every client of the listener must show a certificate"
                    ),
                )
            } else if verified && !crl {
                (
                    NoteKind::Wider,
                    format!(
                        "`{option}`: no list of revoked certificates is named here, so none is checked: name one under `client_crl`"
                    ),
                )
            } else {
                (NoteKind::Lost, format!("`{option}`: not needed, or not known to egressd"))
            }
        }
        "sslflags" | "capath" => {
            (NoteKind::Lost, format!("`{option}`: no client is asked for a certificate on this port"))
        }
        _ => return None,
    })
}

fn cut(option: &str) -> String {
    option.chars().take(80).collect()
}
