//! `http_port`, `https_port` and `proxy_protocol_access`.

use super::super::acl::{AclTest, Acls, Literal};
use super::super::asked::Takes;
use super::super::doors::Door;
use super::super::files::Files;
use super::super::lexer::Line;
use super::port_options::{self, PortKind};
use crate::commands::import::draft::{DraftListener, ListenerTls, free_name};
use crate::commands::import::notes::{NoteKind, Notes};

/// Every port of the configuration, and what lists know of it.
pub(super) fn read(
    lines: &[Line],
    acls: &Acls,
    files: &Files,
    notes: &mut Notes,
) -> Vec<(DraftListener, Door)> {
    let trusted = trusted(lines, acls, notes);
    let mut listeners: Vec<(DraftListener, Door)> = Vec::new();
    for line in ports(lines).filter(|line| line.name != "ftp_port") {
        let Some(takes) = takes(line, notes) else { continue };
        if let Some(mut listener) = one(line, takes, &trusted, files, notes) {
            listener.name =
                free_name(&listener.name, |name| listeners.iter().any(|(other, _)| other.name == name));
            let door = door(line, takes, &listener);
            listeners.push((listener, door));
        }
    }
    listeners
}

/// What comes by a port. None: nothing, because Squid refuses the line.
fn takes(line: &Line, notes: &mut Notes) -> Option<Takes> {
    let has = |names: &[&str]| line.from(1).find(|option| names.contains(option));
    let Some(mode) = has(&["intercept", "transparent", "tproxy"]) else { return Some(Takes::Requests) };
    if line.name == "https_port" && has(&["ssl-bump", "sslbump"]).is_none() {
        let text = format!(
            "{}: Squid refuses `{mode}` here without `ssl-bump`: this port is left out",
            line.shown()
        );
        notes.tell(&line.place, NoteKind::Lost, text);
        return None;
    }
    let from = if mode == "tproxy" { " from its own address, and not from the client's" } else { "" };
    let text = format!(
        "`{mode}` becomes `mode: transparent`: egressd looks up the name that a connection shows, and dials what it finds{from}, never the \
         address that the connection was for"
    );
    notes.tell(&line.place, NoteKind::Differs, text);
    Some(if line.name == "https_port" { Takes::RedirectedTls } else { Takes::RedirectedHttp })
}

/// What lists know of a port that becomes this listener.
fn door(line: &Line, takes: Takes, listener: &DraftListener) -> Door {
    let given = line.from(1).filter_map(|option| option.strip_prefix("name=")).last();
    let own = listener.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    Door {
        listener: listener.name.clone(),
        name: given.or(line.word(0)).unwrap_or_default().to_owned(),
        port: own.filter(|_| takes == Takes::Requests && listener.trusted.is_empty()),
        takes,
    }
}

/// The lines that name a port for clients.
pub(super) fn ports(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|line| matches!(line.name.as_str(), "http_port" | "https_port" | "ftp_port"))
}

fn one(
    line: &Line,
    takes: Takes,
    trusted: &[String],
    files: &Files,
    notes: &mut Notes,
) -> Option<DraftListener> {
    let mut tell = |kind, text: String| notes.tell(&line.place, kind, text);
    let Some(spec) = line.word(0) else {
        tell(NoteKind::Lost, format!("{} names no port: it is left out", line.shown()));
        return None;
    };
    let address = match spec.rsplit_once(':') {
        // Both families: a socket of `[::]` takes IPv4 too.
        None => format!("[::]:{spec}"),
        Some((host, port)) => {
            match host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
                Ok(std::net::IpAddr::V4(ip)) => format!("{ip}:{port}"),
                Ok(std::net::IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
                Err(_) => {
                    tell(
                        NoteKind::Wider,
                        format!(
                            "`{spec}`: a listener needs an address, not a name: it listens on [::]:{port}"
                        ),
                    );
                    format!("[::]:{port}")
                }
            }
        }
    };
    let options: Vec<&str> = line.from(1).collect();
    let value = |names: &[&str]| {
        options
            .iter()
            .filter_map(|option| option.split_once('='))
            .find(|(key, _)| names.contains(key))
            .map(|(_, value)| value)
    };
    let key = |option: &'_ str| option.split_once('=').map_or(option, |(key, _)| key).to_owned();
    if let Some(mode) = options
        .iter()
        .find(|option| matches!(key(option).as_str(), "accel" | "vhost" | "vport" | "defaultsite"))
    {
        tell(
            NoteKind::Lost,
            format!(
                "{}: `{mode}` is for a reverse proxy, which egressd is not: this port is left out",
                line.shown()
            ),
        );
        return None;
    }
    if let Some(bump) = options.iter().find(|option| matches!(**option, "ssl-bump" | "sslbump")) {
        tell(
            NoteKind::Lost,
            format!("`{bump}`: egressd never decrypts; it reads the ClientHello and passes it on"),
        );
    }
    let mut listener = DraftListener {
        place: line.place.clone(),
        name: value(&["name"]).unwrap_or("proxy").chars().take(100).collect(),
        address,
        transparent: takes != Takes::Requests,
        trusted: Vec::new(),
        tls: None,
    };
    if options.contains(&"require-proxy-header") {
        if trusted.is_empty() {
            tell(NoteKind::Stricter, "no `proxy_protocol_access` line allows a network to send the PROXY header, so Squid accepts it from nobody: only loopback is trusted here; add the load balancer's networks".to_owned());
            listener.trusted.push("127.0.0.1/32".to_owned());
        } else {
            tell(NoteKind::Differs, "a PROXY header is required from the trusted networks, and connections from elsewhere are closed".to_owned());
            listener.trusted = trusted.to_vec();
        }
    }
    if line.name == "https_port" && takes == Takes::Requests {
        let Some(certificate) = value(&["tls-cert", "cert"]) else {
            tell(
                NoteKind::Stricter,
                format!("{}: no certificate is named: this port is left out", line.shown()),
            );
            return None;
        };
        // A client is asked for a certificate where there is a `clientca`; it is verified against `tls-cafile` if that is there.
        let asks = value(&["clientca", "tls-clientca"]);
        let authorities = ["cafile=", "tls-cafile="];
        let verify: Vec<&str> = options
            .iter()
            .filter_map(|option| authorities.iter().find_map(|key| option.strip_prefix(key)))
            .collect();
        let client_ca = match (asks, verify.as_slice()) {
            (Some(_), [file, more @ ..]) => {
                if !more.is_empty() {
                    tell(
                        NoteKind::Stricter,
                        format!(
                            "`client_ca` is one file: of the authorities, those of `{file}` alone are accepted: put all into one"
                        ),
                    );
                }
                Some(*file)
            }
            (asks, []) => asks,
            (None, _) => {
                tell(
                    NoteKind::Lost,
                    "without `clientca` no client was asked for a certificate, and none is".to_owned(),
                );
                None
            }
        };
        if asks.is_none() && value(&["crlfile"]).is_some() {
            tell(
                NoteKind::Lost,
                "`crlfile` without `clientca`: no client is asked for a certificate that could be revoked"
                    .to_owned(),
            );
        }
        let client_ca = client_ca.map(|path| files.written(path));
        // Without an authority no client is asked for a certificate, so none can be revoked.
        let client_crl = value(&["crlfile"]).map(|path| files.written(path)).filter(|_| client_ca.is_some());
        listener.tls = Some(ListenerTls {
            certificate: files.written(certificate),
            key: files.written(value(&["tls-key", "key"]).unwrap_or(certificate)),
            client_ca,
            client_crl,
        });
    }
    let port = PortKind {
        tls: listener.tls.is_some(),
        certificates: listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        bump: options.iter().any(|option| matches!(*option, "ssl-bump" | "sslbump")),
    };
    for (kind, text) in port_options::told(line, port) {
        notes.tell(&line.place, kind, text);
    }
    Some(listener)
}

/// The networks that `proxy_protocol_access` allows, read from its lines of `allow` before the first that denies.
fn trusted(lines: &[Line], acls: &Acls, notes: &mut Notes) -> Vec<String> {
    let mut trusted: Vec<String> = Vec::new();
    for line in lines.iter().filter(|line| line.name == "proxy_protocol_access") {
        let literals = Literal::list(line, 1);
        if line.bare(0) != Some("allow") {
            if literals.iter().any(|literal| literal.acl != "all") {
                notes.tell(
                    &line.place,
                    NoteKind::Stricter,
                    format!("{}: only the networks of the lines before it are trusted", line.shown()),
                );
            }
            break;
        }
        match literals.as_slice() {
            [Literal { negated: false, acl, shown }] if !line.doubtful => {
                if let Some((_, path)) = acls.get(acl).and_then(|acl| acl.files.first()) {
                    let text = format!(
                        "the lines of `{path}` are written under `trusted` as they are now: import again after an edit"
                    );
                    notes.tell(&line.place, NoteKind::Differs, text);
                }
                match acls.get(acl).map(|acl| (&acl.test, acl.partly)) {
                    Some((AclTest::Client(listed), false)) => {
                        trusted.extend(listed.certain().iter().map(ToString::to_string));
                    }
                    _ => notes.tell(
                        &line.place,
                        NoteKind::Stricter,
                        format!("{}: `{shown}` is not a list of networks; it is not trusted", line.shown()),
                    ),
                }
            }
            _ => notes.tell(
                &line.place,
                NoteKind::Stricter,
                format!("{}: it is not one list of networks; it is not trusted", line.shown()),
            ),
        }
    }
    trusted.dedup();
    trusted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::lexer;
    use super::*;

    #[test]
    fn who_is_revoked_stays_so() {
        let read = |options: &str| {
            let text = format!("https_port 3129 tls-cert=/etc/squid/p.pem {options}\n");
            let maps = serde_json::json!({"kind": "ConfigMap", "data": {"squid.conf": text}});
            let (files, main) = Files::in_config_maps(&maps.to_string()).expect("ConfigMaps");
            let mut notes = Notes::default();
            let lines = lexer::read(&files, &main, false, &mut notes).expect("readable");
            let listeners = super::read(&lines, &BTreeMap::new(), &files, &mut notes);
            let tls = listeners.into_iter().next().and_then(|(listener, _)| listener.tls).expect("has TLS");
            (tls.client_ca, tls.client_crl)
        };
        let file = |name: &str| Some(name.to_owned());
        assert_eq!(read("clientca=/x/ca.pem crlfile=/x/gone.crl"), (file("ca.pem"), file("gone.crl")));
        assert_eq!(read("clientca=/x/ca.pem"), (file("ca.pem"), None));
        assert_eq!(read("crlfile=/x/gone.crl"), (None, None));
    }
}
