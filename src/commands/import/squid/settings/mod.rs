//! Everything that is not about who may reach what: listeners, timeouts, names, headers, the parent, the log.

mod directives;
mod headers;
mod listeners;
mod log;

use std::collections::BTreeMap;
use std::net::IpAddr;

use self::listeners::Listener;
use self::log::AccessLog;
use super::acl;
use super::emit::{self, Draft, What};
use super::files::Files;
use super::lexer::Line;
use super::rules::Policies;
use crate::commands::import::notes::{Kind, Notes, Place};
use crate::config::Finding;

/// A value of egressd.yaml, and the line that it comes from.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) place: Place,
    pub(super) text: String,
}

/// How names are looked up.
#[derive(Debug, Default)]
pub(super) struct Dns {
    pub(super) servers: Option<(Place, Vec<String>)>,
    pub(super) hosts: BTreeMap<String, Vec<IpAddr>>,
    pub(super) timeout: Option<Value>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) listeners: Vec<Listener>,
    /// The password file, and the users in it.
    pub(super) users_file: Option<Value>,
    pub(super) users: Vec<String>,
    pub(super) dns: Dns,
    pub(super) parent: Option<Value>,
    pub(super) connect_timeout: Option<Value>,
    pub(super) idle_timeout: Option<Value>,
    pub(super) max_lifetime: Option<Value>,
    pub(super) tunnels_per_client: Option<Value>,
    pub(super) head_bytes: Option<Value>,
    pub(super) head_timeout: Option<Value>,
    pub(super) response_timeout: Option<Value>,
    pub(super) stall_timeout: Option<Value>,
    /// Taken out of plain requests.
    pub(super) headers: Option<Vec<String>>,
    pub(super) log: AccessLog,
    pub(super) grace_period: Option<Value>,
}

/// Reads every directive but `acl` and `http_access`.
pub(super) fn read(lines: &[Line], files: &Files, notes: &mut Notes) -> Settings {
    let mut settings = Settings { log: log::read(lines, notes), ..Settings::default() };
    let acls = acl::read(lines, files, &mut Notes::default());
    settings.listeners = listeners::read(lines, &acls, files, notes);
    settings.headers = Some(headers::read(lines, notes));
    directives::read(lines, files, &mut settings, notes);
    settings
}

impl Settings {
    /// Takes in what the policies say of it.
    pub(super) fn admit(&mut self, policies: &Policies) {
        if !policies.http {
            self.headers = None;
        }
        if let Some((most, place)) = &policies.connections {
            let least = self.tunnels_per_client.as_ref().and_then(|value| value.text.parse::<u64>().ok());
            if least.is_none_or(|least| *most < least) {
                self.tunnels_per_client = Some(Value { place: place.clone(), text: most.to_string() });
            }
        }
    }

    /// Leaves out a format of the log that cannot tell what passed by report mode alone.
    pub(super) fn log_all(&mut self, notes: &mut Notes) {
        if let Some(format) = self.log.format.take() {
            let text = format!(
                "the log is JSON for now: Squid's formats cannot say what passed by report mode alone; later write `access_log.format: {}`",
                emit::scalar(&format.text)
            );
            notes.tell(&format.place, Kind::Differs, text);
        }
    }

    /// Takes out what egressd's own reader refuses, and tells it. False: it is nothing of this.
    pub(super) fn leave_out(&mut self, error: &Finding, draft: &Draft, notes: &mut Notes) -> bool {
        // What a named file lacks is told at that file.
        let of_users = self.users_file.as_ref().is_some_and(|value| *value.text == *error.file);
        let of_listener = self
            .listeners
            .iter()
            .position(|listener| listener.tls.as_ref().is_some_and(|tls| tls.names(&error.file)));
        let what = match (of_users, of_listener) {
            (true, _) => Some(What::Setting("basic_auth")),
            (false, Some(number)) => Some(What::Listener(number)),
            (false, None) if &*error.file == super::OUTPUT => draft.what(error.line).cloned(),
            _ => None,
        };
        match what {
            Some(What::Setting(path)) => self.leave_out_setting(path, error, notes),
            Some(What::Listener(number)) if number < self.listeners.len() => {
                let listener = self.listeners.remove(number);
                let text = format!("this listener is left out: {}", error.text);
                notes.tell(&listener.place, Kind::Stricter, text);
                true
            }
            _ => false,
        }
    }

    fn leave_out_setting(&mut self, path: &str, error: &Finding, notes: &mut Notes) -> bool {
        let slot = match path {
            "basic_auth" => &mut self.users_file,
            "upstream_proxy" => &mut self.parent,
            "dns.timeout" => &mut self.dns.timeout,
            "tunnel.connect_timeout" => &mut self.connect_timeout,
            "tunnel.idle_timeout" => &mut self.idle_timeout,
            "tunnel.max_lifetime" => &mut self.max_lifetime,
            "limits.tunnels_per_client" => &mut self.tunnels_per_client,
            "limits.head_bytes" => &mut self.head_bytes,
            "limits.head_timeout" => &mut self.head_timeout,
            "http.response_timeout" => &mut self.response_timeout,
            "http.stall_timeout" => &mut self.stall_timeout,
            "access_log.output" => &mut self.log.output,
            "access_log.format" => &mut self.log.format,
            "shutdown.grace_period" => &mut self.grace_period,
            "dns.servers" => {
                let Some((place, _)) = self.dns.servers.take() else { return false };
                notes.tell(&place, Kind::Lost, format!("not carried over: {}", error.text));
                return true;
            }
            _ => return false,
        };
        let Some(value) = slot.take() else { return false };
        let (kind, text) = match path {
            "basic_auth" => (
                Kind::Stricter,
                format!(
                    "no password is asked for, and who is known by a password alone is denied: {} ({}:{})",
                    error.text, error.file, error.line
                ),
            ),
            "access_log.format" => (Kind::Differs, format!("the log is JSON: {}", error.text)),
            _ => (Kind::Differs, format!("`{path}` keeps its default: {}", error.text)),
        };
        notes.tell(&value.place, kind, text);
        true
    }
}
