//! `egressd explain`: shows the decision on one request, and the policy, rule, file and line that made it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use jiff::Timestamp;

use crate::commands::explain::{
    AskedGit, AskedTarget, Lookup, assumed_client, assumed_listener, client, explain, is_transparent,
    listener_named, notes, spoken_by, unproven,
};
use crate::commands::lookup::Lookups;
use crate::commands::{CONFIGURATION_REFUSED, FAILED, FINE, WRONG_USAGE, load, say};
use crate::outbound::dial::OwnAddresses;
use crate::wire::head::is_token_byte;
use crate::words::aws::Account;
use crate::words::client::{Client, Protocol};
use crate::words::git::{Change, Operation, RefName};
use crate::words::small_sort::SmallCollect as _;

/// `explain`.
#[derive(clap::Args, Debug)]
pub(crate) struct Explain {
    /// host, host:port, https://…, http://… or tcp://host:port. A host alone means CONNECT to port 443. The path of a URL is
    /// judged where a rule looks at requests.
    target: String,
    /// The method of the request. Default: GET.
    #[arg(long, value_name = "METHOD", value_parser = method)]
    method: Option<Box<str>>,
    /// What is done with the Git repository at the path of the URL: list, fetch or push.
    #[arg(long, value_name = "OPERATION", value_parser = operation, conflicts_with = "method")]
    git: Option<Operation>,
    /// A ref that a push changes, such as refs/heads/main; may be repeated. One entry must allow all of them.
    #[arg(long = "ref", value_name = "REF", value_parser = ref_name, requires = "git")]
    refs: Vec<RefName>,
    /// What a push does to them: create, update or delete.
    #[arg(long, value_name = "CHANGE", value_parser = change, default_value = "update", requires = "git")]
    ref_change: Change,
    /// The AWS account whose credentials the request has, twelve digits.
    #[arg(long, value_name = "N", value_parser = account)]
    aws_account: Option<Account>,
    /// The client's address. Default: an address from the first policy's networks.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// An identity that the client has proven, such as user:gitaly; may be repeated.
    #[arg(long, value_name = "ID", value_parser = identity)]
    identity: Vec<Box<str>>,
    /// The AWS VPC endpoint that the client came through.
    #[arg(long, value_name = "ID")]
    vpc_endpoint: Option<Box<str>>,
    /// What the client speaks: http or socks5, or transparent if it knows of no proxy. A SOCKS5 request is a CONNECT.
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Option<Protocol>,
    /// The listener that the client came by. Default, where a policy asks for it: one of the first policy's.
    #[arg(long, value_name = "NAME")]
    listener: Option<Box<str>>,
    /// The address and port that the connection was meant for: of a CONNECT to an address, or of what was redirected. TARGET is then
    /// what the first bytes name.
    #[arg(long, value_name = "IP:PORT")]
    original: Option<SocketAddr>,
    /// Look the name up, and show the verdict for each address.
    #[arg(long)]
    resolve: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Methods are case-sensitive, and none that is in use is in lower case.
fn method(text: &str) -> Result<Box<str>, &'static str> {
    let is_token = !text.is_empty() && text.bytes().all(is_token_byte);
    match is_token && !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => Ok(text.into()),
        false => Err("write a method in upper case, such as GET"),
    }
}

/// An identity with its kind in front, as the records have it.
fn identity(text: &str) -> Result<Box<str>, &'static str> {
    match text.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(text.into()),
        _ => Err("write KIND:NAME, as in user:gitaly"),
    }
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    Protocol::named(text).ok_or("write http, socks5 or transparent")
}

fn operation(text: &str) -> Result<Operation, &'static str> {
    Operation::named(text).ok_or("write list, fetch or push")
}

fn change(text: &str) -> Result<Change, &'static str> {
    Change::named(text).ok_or("write create, update or delete")
}

fn account(text: &str) -> Result<Account, &'static str> {
    Account::new(text).ok_or("write twelve digits, zeros in front included")
}

fn ref_name(text: &str) -> Result<RefName, String> {
    RefName::new(text.as_bytes())
        .map_err(|why| format!("no ref has {why}: write one such as refs/heads/main"))
}

/// `explain my.yaml` is read as a host, because it can be one. If it looks like a configuration: what was probably meant.
fn did_you_mean(target: &str) -> String {
    let ends_like_one = [".yaml", ".yml"].iter().any(|ending| target.ends_with(ending));
    if !target.contains("://") && (ends_like_one || Path::new(target).is_file()) {
        format!("; did you mean `egressd explain TARGET --config {}`?", target.escape_debug())
    } else {
        String::new()
    }
}

impl Explain {
    pub(crate) fn run(self, file: Option<&Path>) -> u8 {
        let git = self.git.map(|operation| AskedGit {
            operation,
            refs: self.refs.clone(),
            change: self.ref_change,
        });
        if git.as_ref().is_some_and(|git| git.operation != Operation::Push && !git.refs.is_empty()) {
            eprintln!("egressd: --ref is about pushes: write --git push, or leave it out");
            return WRONG_USAGE;
        }
        let asked = match AskedTarget::parse(&self.target) {
            Ok(asked) => match asked
                .spoken(self.protocol.unwrap_or(Protocol::Http))
                .asking(self.method.as_deref(), None)
                .doing(git, self.aws_account)
            {
                Ok(asked) => asked,
                Err(wrong) => {
                    eprintln!("egressd: `{}`: {wrong}", self.target.escape_debug());
                    return WRONG_USAGE;
                }
            },
            Err(error) => {
                let shown = self.target.escape_debug();
                eprintln!("egressd: `{shown}` is not a valid target: {error}{}", did_you_mean(&self.target));
                return WRONG_USAGE;
            }
        };
        let hint = did_you_mean(&self.target);
        if !hint.is_empty() {
            eprintln!("egressd: `{}` is taken for a host{hint}", self.target.escape_debug());
        }
        let Some(config) = load(file) else { return CONFIGURATION_REFUSED };
        let (assumed, policy) = assumed_client(&config.policies);
        let listener = match &self.listener {
            None => assumed_listener(&config.policies, &config.listeners),
            Some(name) => match listener_named(name, &config.listeners) {
                Ok(listener) => Some(listener),
                Err(why) => {
                    eprintln!("egressd: --listener: {why}");
                    return WRONG_USAGE;
                }
            },
        };
        if let Some(protocol) = self.protocol
            && let Err(why) = spoken_by(protocol, listener.as_deref(), &config.listeners)
        {
            eprintln!("egressd: --protocol: {why}");
            return WRONG_USAGE;
        }
        let assumes_listener = self.listener.is_none() && listener.is_some();
        let from = client(self.client.unwrap_or(assumed), self.identity, self.vpc_endpoint);
        let from = Client { listener, ..from };
        let now = Timestamp::now();
        let asked = match self.original {
            None => asked,
            Some(original) => {
                let transparent = is_transparent(self.protocol, from.listener.as_deref(), &config.listeners);
                let by_name = |address: &_| config.policies.judges_by_name(address, &from, now).is_some();
                match asked.meant_for(original, transparent, by_name) {
                    Ok(asked) => asked,
                    Err(why) => {
                        eprintln!("egressd: --original: {why}");
                        return WRONG_USAGE;
                    }
                }
            }
        };
        let mut lookups = Lookups::new(&config.dns);
        let mut lookup = |name: &_| lookups.addresses(name);
        let lookup: Option<Lookup<'_>> = if self.resolve { Some(&mut lookup) } else { None };
        let mut told = explain(&config.policies, &asked, &from, now, lookup);
        let listeners = config.listeners.iter().filter_map(|listener| listener.address.ip());
        told.with_own(&OwnAddresses::new(listeners.chain([config.admin.address])));
        told.with_unproven(unproven(&config.listeners, &from, self.protocol), |lacks| {
            format!("add --identity {lacks}")
        });
        told.name_identity(&config.policies);
        let notes = told.rule_in(&config.policies).map(|rule| notes(&rule)).unwrap_or_default();
        if self.json {
            let mut json = told.to_json();
            if let Some(object) = json.as_object_mut() {
                object.insert("client_assumed".to_owned(), self.client.is_none().into());
                object.insert("listener_assumed".to_owned(), assumes_listener.into());
                let about = notes.into_iter().map(|(key, text)| (key.to_owned(), text.into()));
                object.insert("rule_notes".to_owned(), serde_json::Value::Object(about.small_collect()));
                object.insert("config".to_owned(), config.hash.short().to_string().into());
            }
            say(format_args!("{json}\n"));
        } else {
            say(format_args!("{told}"));
            if self.client.is_none() {
                let whose = policy.map(|name| format!(", an address from policy {name}")).unwrap_or_default();
                say(format_args!("           (assumed{whose}; --client IP sets another)\n"));
            }
            if assumes_listener {
                say(format_args!("           (the listener is assumed; --listener NAME sets another)\n"));
            }
            for (key, text) in notes {
                say(format_args!("  the rule's {key}: {text}\n"));
            }
        }
        if told.passes() { FINE } else { FAILED }
    }
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn a_file_that_is_given_for_a_target_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("policy");
        std::fs::write(&file, "policies: []").expect("a file");
        let file = file.to_str().expect("ASCII");
        for named in ["my.yaml", "my.yml", "conf/egressd.yaml", file] {
            let told = did_you_mean(named);
            assert!(told.ends_with(&format!("--config {named}`?")), "{named}: {told}");
        }
        for target in ["a.example", "https://yaml.example/my.yaml", "a.example:443", "yaml"] {
            assert_eq!(did_you_mean(target), "", "{target}");
        }
    }
}
