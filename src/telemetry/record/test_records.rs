//! Records of every kind, for tests.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::{Cause, Event, LoggedAws, LoggedGit, LoggedTarget, Negotiated, PushOptions, Raw, Record};
use crate::config::ShortHash;
use crate::rules::{Mode, RuleSource};
use crate::wire::auth_scheme::AuthScheme;
use crate::words::aws::{AccessKeyId, Account, Regions};
use crate::words::client::{ClientAddr, PeerAddr, Protocol};
use crate::words::git::{Change, Operation, RefChange, RefName};
use crate::words::outcome::{Decision, Ending, Reason};
use crate::words::target::Target;

/// A way to write a record.
pub(crate) type Written = fn(&Record<'_>, &mut Vec<u8>);

pub(crate) const AS_JSON: Written = |record, out| record.write_json(out);
pub(crate) const AS_ECS: Written = |record, out| record.write_ecs(out);
pub(crate) const AS_OCSF: Written = |record, out| record.write_ocsf(out);

/// The words of a record.
type Words = (Option<Mode>, Option<Decision>, Option<Cause>, Option<Ending>, Option<AuthScheme>);

/// What was asked of Git: the operation, the repository, whether it negotiated, whether it has options, and what it changes.
type OfGit = (Option<Operation>, String, bool, bool, Vec<RefChange>);

/// What a record borrows.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    event: Event,
    micros: i64,
    id: u128,
    texts: Texts,
    addresses: [Option<SocketAddr>; 5],
    asked: Option<Asked>,
    words: Words,
    numbers: (Option<u16>, [Option<u64>; 3], [Option<u64>; 3]),
    config: Option<[u8; 6]>,
    tunnel: Option<u128>,
    protocol: Option<Protocol>,
    aws: Option<(bool, bool, String, Regions)>,
    git: Option<OfGit>,
}

#[derive(Clone, Debug)]
struct Texts {
    listener: String,
    identity: Option<String>,
    method: Option<Vec<u8>>,
    sni: Option<Vec<u8>>,
    policy: Option<String>,
    rule: Option<String>,
    rule_source: Option<(String, u32)>,
    user_agent: Option<Vec<u8>>,
    instance: Option<String>,
}

#[derive(Clone, Debug)]
enum Asked {
    Connect(Target),
    Http(Target, Vec<u8>, bool),
    Malformed(Vec<u8>),
}

impl Made {
    /// Its record.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&Record<'_>) -> R) -> R {
        let time = Timestamp::from_microsecond(self.micros).expect("a time");
        let Texts { listener, identity, method, sni, policy, rule, rule_source, user_agent, instance } =
            &self.texts;
        let rule_source =
            rule_source.as_ref().map(|(file, line)| RuleSource { file: file.as_str().into(), line: *line });
        let [client, peer, upstream, upstream_local, original] = self.addresses;
        let (mode, decision, reason, ending, auth_scheme) = self.words;
        let (status, [sent, received, suppressed], times) = self.numbers;
        let [duration, dns, connect] = times.map(|micros| micros.map(Duration::from_micros));
        let git = self.git.as_ref().map(|(operation, repository, negotiated, options, changes)| LoggedGit {
            operation: *operation,
            repository,
            changes,
            negotiated: negotiated.then_some(Negotiated { wants: 1, haves: 2, bytes: 3 }),
            options: options.then_some(PushOptions { count: 4, bytes: 5 }),
        });
        let aws = self.aws.as_ref().map(|(account, key, service, regions)| LoggedAws {
            account: account.then(|| Account::new("123456789012").expect("an account")),
            access_key: key.then(|| AccessKeyId::new("AKIAIOSFODNN7EXAMPLE").expect("a key")),
            service,
            regions,
        });
        let record = Record {
            client: client.map(ClientAddr::new),
            peer: peer.map(PeerAddr::new),
            identity: identity.as_deref(),
            method: method.as_deref().map(Raw),
            target: self.asked.as_ref().map(|asked| match asked {
                Asked::Connect(target) => LoggedTarget::Connect(target),
                Asked::Http(target, path, tls) => {
                    LoggedTarget::Http { target, path: Raw(path), query: false, tls: *tls }
                }
                Asked::Malformed(raw) => LoggedTarget::Malformed(Raw(raw)),
            }),
            sni: sni.as_deref().map(Raw),
            policy: policy.as_deref(),
            mode,
            rule: rule.as_deref(),
            rule_source: rule_source.as_ref(),
            decision,
            reason,
            upstream,
            upstream_local,
            status,
            sent,
            received,
            duration,
            dns,
            connect,
            ending,
            user_agent: user_agent.as_deref().map(Raw),
            config: self.config.map(ShortHash),
            instance: instance.as_deref(),
            protocol: self.protocol,
            original,
            tunnel: self.tunnel.map(Uuid::from_u128),
            suppressed,
            auth_scheme,
            aws,
            git,
            ..Record::new(self.event, time, Uuid::from_u128(self.id), listener)
        };
        look(&record)
    }
}

/// Text of any characters, short enough for every format to have it whole.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ -~]{0,30}", 1 => any::<String>().prop_map(|text| text.chars().take(20).collect())]
}

fn raw() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => text().prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..30)]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

fn asked() -> impl Strategy<Value = Asked> {
    let target = prop_oneof![
        "[a-z]{1,9}\\.example:[1-9][0-9]{0,3}",
        Just("[2001:db8::1]:8443".to_owned()),
        Just("203.0.113.9:22".to_owned())
    ];
    let target = target.prop_map(|text| Target::connect(&text).expect("a target"));
    prop_oneof![
        target.clone().prop_map(Asked::Connect),
        (target, raw(), any::<bool>())
            .prop_map(|(target, path, tls)| { Asked::Http(target, [b"/".as_slice(), &path].concat(), tls) }),
        raw().prop_map(Asked::Malformed),
    ]
}

fn method(event: Event) -> BoxedStrategy<Option<Vec<u8>>> {
    let plain = prop_oneof![
        select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "get"])
            .prop_map(|method| method.as_bytes().to_vec()),
        raw().prop_filter("no tunnel", |method| method != b"CONNECT"),
    ];
    match event {
        Event::Http | Event::Request => plain.prop_map(Some).boxed(),
        Event::Open | Event::Progress | Event::Close => {
            prop_oneof![4 => Just(Some(b"CONNECT".to_vec())), 1 => plain.prop_map(Some)].boxed()
        }
        Event::Deny | Event::Error => {
            prop_oneof![2 => Just(Some(b"CONNECT".to_vec())), 2 => plain.prop_map(Some), 1 => Just(None)]
                .boxed()
        }
    }
}

fn change() -> impl Strategy<Value = RefChange> {
    (select(&Change::ALL[..]), "refs/heads/[a-z]{1,9}").prop_map(|(change, name)| {
        let name = RefName::new(name.as_bytes()).expect("a name");
        RefChange::made_up(change, &name).expect("a change")
    })
}

fn texts(event: Event) -> impl Strategy<Value = Texts> {
    let named = (text(), option::of(text()), method(event), option::of(raw()), option::of(text()));
    let ruled =
        (option::of(text()), option::of((text(), any::<u32>())), option::of(raw()), option::of(text()));
    (named, ruled).prop_map(|(named, ruled)| {
        let (listener, identity, method, sni, policy) = named;
        let (rule, rule_source, user_agent, instance) = ruled;
        Texts { listener, identity, method, sni, policy, rule, rule_source, user_agent, instance }
    })
}

/// A record of any event. Its client is known, as in every record of egressd.
pub(crate) fn any_record() -> impl Strategy<Value = Made> {
    let words = (
        option::of(select(vec![Mode::Enforce, Mode::Report])),
        option::of(select(vec![Decision::Allow, Decision::Deny, Decision::WouldDeny])),
        option::of(prop_oneof![select(Reason::ALL).prop_map(Cause::Refused), Just(Cause::ClientGone)]),
        option::of(select(Ending::ALL)),
        option::of(select(AuthScheme::KNOWN)),
    );
    let long = || option::of(0..=i64::MAX as u64);
    let time = || option::of(0..=1u64 << 50);
    let numbers = (option::of(100..600u16), [long(), long(), long()], [time(), time(), time()]);
    let regions = prop_oneof![
        Just(Regions::Unknown),
        Just(Regions::One("eu-west-1".into())),
        Just(Regions::Set(["us-*".into(), "eu-west-1".into()].into())),
    ];
    let recognised = (
        option::of((any::<bool>(), any::<bool>(), text(), regions)),
        option::of((
            option::of(select(vec![Operation::List, Operation::Fetch, Operation::Push])),
            text(),
            any::<bool>(),
            any::<bool>(),
            vec(change(), 0..4),
        )),
    );
    let optional = || option::of(address());
    let addresses = (address(), optional(), optional(), optional(), optional());
    let of_event = select(Event::ALL).prop_flat_map(|event| (Just(event), texts(event)));
    let rest = (
        option::of(any::<[u8; 6]>()),
        option::of(any::<u128>()),
        option::of(asked()),
        option::of(select(Protocol::ALL)),
    );
    // The calendar of the reader begins in 1970; nanoseconds in 64 bits, as OTLP has them, end in 2554.
    let moment = (0..18_446_744_073_709_551i64, any::<u128>());
    (of_event, moment, addresses, words, numbers, recognised, rest).prop_map(
        |(
            (event, texts),
            (micros, id),
            addresses,
            words,
            numbers,
            (aws, git),
            (config, tunnel, asked, protocol),
        )| {
            let (client, peer, upstream, upstream_local, original) = addresses;
            let addresses = [Some(client), peer, upstream, upstream_local, original];
            Made {
                event,
                micros,
                id,
                texts,
                addresses,
                asked,
                words,
                numbers,
                config,
                tunnel,
                protocol,
                aws,
                git,
            }
        },
    )
}
