//! The table of rule options: what each is and means. All code that shows, compares or warns of options is made from it.
//!
//! A new option needs a row here, a row for its key in `config/options`, and a line in [`super::decide`] that says
//! whether a permit contains it; the compiler demands each. Code that shows options (`explain`, the admin API, `diff`,
//! `lint`) knows only their kinds ([`OptionValue`]) and names no option. Not here: the code that enforces an option.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::Value;

use self::OptionValue::{Asks, AtMost, Budget, Demand, Edits, Note, Opens, Refuses, Until};
use super::address_set::AddressSet;
use super::http::{HeaderEdits, Requests, edit_changes, request_changes};
use super::rule::{Scheme, Schemes};
use super::shift::Shift;
use crate::words::units::{Size, UploadBudget};

/// The value of an option, by kind. For each kind it is known which change allows more traffic.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum OptionValue<'a> {
    /// A text for people.
    Note(Option<&'a str>),
    /// The rule matches until then.
    Until(Option<Timestamp>),
    /// At most this number of bytes.
    AtMost(Option<u64>),
    /// The same in a window of time.
    Budget(Option<UploadBudget>),
    /// Something that the target must do.
    Demand(bool),
    /// Whether something that a client may do is refused.
    Refuses(bool),
    /// Addresses that may be reached because of it.
    Opens(&'a [IpNet]),
    /// What a request must be.
    Asks(Option<&'a Requests>),
    /// Fields that are changed in a request.
    Edits(Option<&'a HeaderEdits>),
}

/// The table: a field of [`RuleOptions`] and its entry are one row.
macro_rules! options {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $entry:expr;)*) => {
        /// The options of an `allow` rule, or of an allow file for all its lines.
        #[derive(Clone, PartialEq, Eq, Default, Debug)]
        pub struct RuleOptions {
            $($(#[$doc])* pub $key: $type,)*
        }

        impl RuleOptions {
            /// Every option with its key, set or not, in the order in which they are shown.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, OptionValue<'_>)> {
                fn entry<'a, T>(of: &'a T, entry: impl FnOnce(&'a T) -> OptionValue<'a>) -> OptionValue<'a> {
                    entry(of)
                }
                [$((stringify!($key), entry(&self.$key, $entry)),)*].into_iter()
            }
        }
    };
}

/// What becomes of a ClientHello with the extension encrypted_client_hello.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Ech {
    /// It passes, and its outer name is compared.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

options! {
    /// The rule's name, and its metric label.
    name: Option<Box<str>> = |text| Note(text.as_deref());
    /// Free text.
    owner: Option<Box<str>> = |text| Note(text.as_deref());
    /// Free text.
    ticket: Option<Box<str>> = |text| Note(text.as_deref());
    /// Free text.
    description: Option<Box<str>> = |text| Note(text.as_deref());
    /// From this moment on, the rule no longer matches.
    expires: Option<Timestamp> = |moment| Until(*moment);
    /// Maximum of bytes from client to target in one tunnel or request.
    upload_limit: Option<u64> = |bytes| AtMost(*bytes);
    /// The same for each client and rule over a sliding window.
    upload_budget: Option<UploadBudget> = |budget| Budget(*budget);
    /// Whether the target must show a certificate that is valid for the host.
    verify_certificate: bool = |demanded| Demand(*demanded);
    /// Whether egressd opens the TLS of a tunnel, and judges each request in it. It says nothing of plain requests, which are
    /// read in any case.
    inspect: bool = |inspects| Demand(*inspects);
    /// The requests that pass.
    requests: Option<Arc<Requests>> = |requests| Asks(requests.as_deref());
    /// The fields that are changed in each request.
    headers: Option<Arc<HeaderEdits>> = |edits| Edits(edits.as_deref());
    /// Whether a ClientHello with encrypted_client_hello passes.
    ech: Ech = |ech| Refuses(*ech == Ech::Deny);
    /// Non-public addresses that this rule may reach.
    private: Vec<IpNet> = |networks| Opens(networks);
}

impl RuleOptions {
    /// The schemes by which egressd looks at each request because of the options: `https` if it opens the TLS, `http` if
    /// they say something about requests.
    pub fn looks(&self) -> Schemes {
        let https = self.inspect.then_some(Scheme::Https);
        let http = (self.requests.is_some() || self.headers.is_some()).then_some(Scheme::Http);
        https.into_iter().chain(http).collect()
    }

    /// The options that are set, as in a YAML flow mapping: `upload_limit: 1GiB, private: ["10.1.2.3/32"]`.
    pub fn to_yaml(&self) -> String {
        let given = self.entries().filter(|(_, value)| value.is_given());
        let written = given.map(|(key, value)| match value {
            // JSON's strings and lists of strings are valid YAML.
            Note(text) => format!("{key}: {}", Value::from(text)),
            Opens(networks) => {
                let networks: Vec<String> = networks.iter().map(|network| format!("\"{network}\"")).collect();
                format!("{key}: [{}]", networks.join(", "))
            }
            Until(_) | AtMost(_) | Budget(_) | Demand(_) | Refuses(_) | Asks(_) | Edits(_) => {
                format!("{key}: {value}")
            }
        });
        written.collect::<Vec<String>>().join(", ")
    }
}

impl OptionValue<'_> {
    /// Whether the option is set: its value differs from that of a missing option.
    pub fn is_given(&self) -> bool {
        match self {
            Note(text) => text.is_some(),
            Until(moment) => moment.is_some(),
            AtMost(bytes) => bytes.is_some(),
            Budget(budget) => budget.is_some(),
            Demand(demanded) => *demanded,
            Refuses(refused) => *refused,
            Opens(networks) => !networks.is_empty(),
            Asks(requests) => requests.is_some(),
            Edits(edits) => edits.is_some(),
        }
    }

    /// Whether it restricts a rule that allows: without it the rule would allow more.
    pub fn restricts(&self) -> bool {
        match self {
            AtMost(_) | Budget(_) | Demand(_) | Refuses(_) | Asks(_) | Edits(_) => self.is_given(),
            Note(_) | Until(_) | Opens(_) => false,
        }
    }

    /// The differences in `new`, each with its direction: `500MiB → 1GiB`, `+10.0.0.0/8`.
    pub fn changes(&self, new: &OptionValue<'_>) -> Vec<(Shift, String)> {
        let shift = match (*self, *new) {
            (old, new) if old == new => return Vec::new(),
            (Note(_), Note(_)) => Shift::Noted,
            (Until(old), Until(new)) => bound(old, new),
            (AtMost(old), AtMost(new)) => bound(old, new),
            // More bytes in a longer window can be more or less.
            (Budget(Some(old)), Budget(Some(new))) if old.window != new.window => Shift::Unclear,
            (Budget(old), Budget(new)) => bound(old.map(|old| old.bytes), new.map(|new| new.bytes)),
            (Demand(old), Demand(_)) | (Refuses(old), Refuses(_)) if old => Shift::Wider,
            (Demand(_), Demand(_)) | (Refuses(_), Refuses(_)) => Shift::Narrower,
            (Opens(old), Opens(new)) => return networks(old, new),
            (Asks(Some(old)), Asks(Some(new))) => return request_changes(old, new),
            (Asks(None), Asks(_)) => Shift::Narrower,
            (Asks(_), Asks(None)) => Shift::Wider,
            (Edits(old), Edits(new)) => return edit_changes(old, new),
            // The same key has the same kind, so this does not happen.
            (
                Note(_) | Until(_) | AtMost(_) | Budget(_) | Demand(_) | Refuses(_) | Opens(_) | Asks(_)
                | Edits(_),
                _,
            ) => Shift::Unclear,
        };
        vec![(shift, format!("{self} → {new}"))]
    }

    /// For the admin API and `explain`; `null` if it is not set, except for lists and booleans.
    pub fn to_json(&self) -> Value {
        match self {
            Note(text) => Value::from(*text),
            Until(moment) => Value::from(moment.map(|moment| moment.to_string())),
            AtMost(bytes) => Value::from(*bytes),
            Budget(budget) => Value::from(budget.map(|budget| budget.to_string())),
            Demand(demanded) => Value::from(*demanded),
            Refuses(_) => Value::from(self.to_string()),
            Opens(networks) => networks.iter().map(ToString::to_string).collect(),
            Asks(requests) => requests.map_or(Value::Null, Requests::to_json),
            Edits(edits) => edits.map_or(Value::Null, HeaderEdits::to_json),
        }
    }
}

/// The larger of two limits is the wider one, and no limit is the widest.
fn bound<T: PartialOrd>(old: Option<T>, new: Option<T>) -> Shift {
    match (old, new) {
        (None, _) => Shift::Narrower,
        (_, None) => Shift::Wider,
        (Some(old), Some(new)) if old < new => Shift::Wider,
        (Some(_), Some(_)) => Shift::Narrower,
    }
}

fn networks(old: &[IpNet], new: &[IpNet]) -> Vec<(Shift, String)> {
    // The same addresses may be written as other networks.
    let without = |some: &[IpNet], others: &[IpNet], shift, sign| -> Vec<(Shift, String)> {
        let held = AddressSet::of(others);
        let rest = some.iter().filter(|network| !others.contains(network));
        let shift = |network: &IpNet| if held.holds(network) { Shift::Noted } else { shift };
        rest.map(|network| (shift(network), format!("{sign}{network}"))).collect()
    };
    let mut changes = without(new, old, Shift::Wider, '+');
    changes.append(&mut without(old, new, Shift::Narrower, '-'));
    changes
}

/// As the configuration writes it; `none` if it is not set.
impl fmt::Display for OptionValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note(Some(text)) => f.write_str(text),
            Until(Some(moment)) => moment.fmt(f),
            AtMost(Some(bytes)) => Size(*bytes).fmt(f),
            Budget(Some(budget)) => budget.fmt(f),
            Demand(demanded) => demanded.fmt(f),
            Refuses(refused) => f.write_str(if *refused { "deny" } else { "allow" }),
            Opens(networks) if !networks.is_empty() => {
                for (index, network) in networks.iter().enumerate() {
                    write!(f, "{}{network}", if index == 0 { "" } else { " " })?;
                }
                Ok(())
            }
            Asks(Some(requests)) => requests.fmt(f),
            Edits(Some(edits)) => edits.fmt(f),
            Note(None) | Until(None) | AtMost(None) | Budget(None) | Opens(_) | Asks(None) | Edits(None) => {
                f.write_str("none")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::test_files::{self, INSPECTION};

    /// The options of a rule, as `config` reads them.
    fn read(options: &str) -> RuleOptions {
        let text = format!("{INSPECTION}policies: [{{name: p, allow: [{{to: a.example, {options}}}]}}]");
        let loaded = config::load_str("c", &text, test_files::read).expect(options);
        let rule = loaded.config.policies.rules().next().expect("a rule");
        rule.options().expect("has some").clone()
    }

    const ALL: &str = "name: \"a \\\"name\\\"\", owner: \"o\", ticket: \"T-1\", description: \"# d: e\", \
                       expires: 2031-01-02T03:04:05Z, upload_limit: 500MiB, upload_budget: 5GiB/24h, \
                       verify_certificate: true, inspect: true, \
                       requests: [{methods: [GET, M-SEARCH, \"!\"], paths: [\"/a/*/b\", \"/v1/**\"]}, \
                       {upgrade: [websocket], credentials_file: \"push.cred\"}, \
                       {git: [list, fetch], negotiation_limit: 16KiB}, \
                       {git: [push], repositories: [\"/v1/repos/a-*\"], refs: [\"refs/heads/main\", \"refs/tags/**\"], \
                       ref_changes: [create, update, delete], aws: {accounts: [\"123456789012\", \"000000000001\"], \
                       services: [codecommit], regions: [eu-central-1], \
                       key_accounts: {AKIAIOSFODNN7EXAMPLE: \"123456789012\"}}}], \
                       headers: {set: {\"x-tenant\": \"a \\\"b\\\"\"}, set_files: {\"x-token\": \"token\"}, \
                       remove: [\"cookie\"]}, ech: deny, private: [\"10.0.0.0/8\", \"fc00::/7\"]";

    #[test]
    fn options_are_written_as_they_are_read() {
        let options = read(ALL);
        assert_eq!(options.entries().filter(|(_, value)| !value.is_given()).count(), 0, "{options:?}");
        assert_eq!(options.to_yaml(), ALL);
        assert_eq!(read(&options.to_yaml()), options);
        assert_eq!(RuleOptions::default().to_yaml(), "");
    }

    #[test]
    fn no_secret_of_a_file_is_shown() {
        let options = read(ALL);
        let shown = options.entries().map(|(_, value)| format!("{value} {}", value.to_json()));
        let shown: String =
            shown.collect::<Vec<String>>().join(" ") + &options.to_yaml() + &format!("{options:?}");
        assert!(shown.contains("push.cred") && shown.contains("token"), "{shown}");
        // As it is in the file, and as it is sent.
        assert!(!shown.contains("s3cret") && !shown.contains("dXNlcjpzM2NyZXQ"), "{shown}");
    }

    #[test]
    fn an_option_that_is_left_out_says_so_by_its_kind() {
        let told: Vec<String> = RuleOptions::default()
            .entries()
            .map(|(key, value)| format!("{key} {value} {}", value.to_json()))
            .collect();
        assert_eq!(
            told,
            [
                "name none null",
                "owner none null",
                "ticket none null",
                "description none null",
                "expires none null",
                "upload_limit none null",
                "upload_budget none null",
                "verify_certificate false false",
                "inspect false false",
                "requests none null",
                "headers none null",
                "ech allow \"allow\"",
                "private none []"
            ]
        );
    }

    #[test]
    fn a_change_goes_one_way() {
        type Row<'a> = (&'a str, &'a str, &'a [(Shift, &'a str)]);
        let rows: &[Row<'_>] = &[
            ("name: a", "name: b", &[(Shift::Noted, "a → b")]),
            (
                "expires: 2031-01-01",
                "owner: o",
                &[(Shift::Noted, "none → o"), (Shift::Wider, "2031-01-01T00:00:00Z → none")],
            ),
            ("upload_limit: 1KiB", "upload_limit: 2KiB", &[(Shift::Wider, "1KiB → 2KiB")]),
            ("upload_limit: 2KiB", "upload_limit: 1KiB", &[(Shift::Narrower, "2KiB → 1KiB")]),
            ("upload_budget: 1GiB/24h", "upload_budget: 2GiB/24h", &[(Shift::Wider, "1GiB/24h → 2GiB/24h")]),
            ("upload_budget: 1GiB/24h", "upload_budget: 2GiB/2d", &[(Shift::Unclear, "1GiB/24h → 2GiB/2d")]),
            ("name: a", "name: a, upload_budget: 2GiB/2d", &[(Shift::Narrower, "none → 2GiB/2d")]),
            ("verify_certificate: true", "verify_certificate: false", &[(Shift::Wider, "true → false")]),
            ("verify_certificate: false", "verify_certificate: true", &[(Shift::Narrower, "false → true")]),
            ("requests: [{methods: [GET]}]", "inspect: true", &[(Shift::Wider, "[{methods: [GET]}] → none")]),
            (
                "requests: [{methods: [GET]}, {paths: [/a]}]",
                "requests: [{methods: [GET, PUT]}, {paths: [/a]}]",
                &[(Shift::Wider, "+{methods: [GET, PUT]}"), (Shift::Noted, "-{methods: [GET]}")],
            ),
            ("ech: deny", "ech: allow", &[(Shift::Wider, "deny → allow")]),
            ("name: a", "name: a, ech: deny", &[(Shift::Narrower, "allow → deny")]),
            (
                "private: [10.0.0.0/8, 10.1.0.0/16]",
                "private: [10.2.0.0/16, 10.0.0.0/8]",
                &[(Shift::Noted, "+10.2.0.0/16"), (Shift::Noted, "-10.1.0.0/16")],
            ),
            (
                "private: [10.0.0.0/9, 10.192.0.0/10]",
                "private: [10.0.0.0/10, 10.128.0.0/9]",
                &[
                    (Shift::Noted, "+10.0.0.0/10"),
                    (Shift::Wider, "+10.128.0.0/9"),
                    (Shift::Narrower, "-10.0.0.0/9"),
                    (Shift::Noted, "-10.192.0.0/10"),
                ],
            ),
            ("private: [10.0.0.0/8, 10.1.0.0/16]", "private: [10.1.0.0/16, 10.0.0.0/8]", &[]),
        ];
        for (old, new, want) in rows {
            let (old, new) = (read(old), read(new));
            let told = old.entries().zip(new.entries()).flat_map(|((_, old), (_, new))| old.changes(&new));
            let want: Vec<(Shift, String)> =
                want.iter().map(|(shift, text)| (*shift, (*text).to_owned())).collect();
            assert_eq!(told.collect::<Vec<_>>(), want, "{old:?} {new:?}");
        }
    }
}
