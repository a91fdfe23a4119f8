//! What is probably not meant of `dns.hosts`: names that lead to where nothing may go. A connection there is refused when it is dialled;
//! here the person who reviews the entry is told.
//!
//! Not here: rules for such addresses ([`crate::rules::lint`], [`super::own_address`]).

use std::net::IpAddr;

use ipnet::IpNet;

use super::finding::{Position, Report};
use super::own_address::{Own, arrives, is_only_port};
use super::transparent_lint::OF_TARGETS;
use super::typed::At;
use super::values::{Addresses, HostName};
use crate::rules::address::{never, prohibited};
use crate::rules::{Policies, RuleView};
use crate::words::quote::quoted;
use crate::words::target::Name;

/// Warns. `own`: where egressd listens, as far as it is known. With a parent, that finds the targets.
pub(super) fn lint(
    written: &[(At<HostName>, At<Addresses>)],
    policies: &Policies,
    (own, has_parent): (&[Own], bool),
    report: &Report<'_>,
) {
    let names = written.iter().filter_map(|(name, addresses)| {
        Some((&name.value.as_ref()?.0, addresses.value.as_ref()?.0.as_slice()))
    });
    let each = names.flat_map(|(name, addresses)| {
        addresses.iter().filter_map(move |at| Some((name, at.value.as_ref()?.0, at.position)))
    });
    for (name, address, position) in each {
        let comes_back = || own.iter().find(|own| leads_back(name, address, own, policies));
        if let Some(what) = never(address) {
            let text = format!(
                "{} leads to {address}, which no rule opens ({what}): remove it",
                quoted(name.as_str())
            );
            report.warning(position, text);
        } else if let Some(Own { whose, .. }) = comes_back() {
            report.warning(
                position,
                format!(
                    "{} leads egressd's own connections to {whose}, where they are refused as a loop: write the real address",
                    quoted(name.as_str())
                ),
            );
        } else if !has_parent {
            tell_closed((name, address, position), policies, report);
        }
    }
}

/// Whether connections to the name arrive at a listener of egressd: those that DNS leads to it, and those of a rule for nothing else.
fn leads_back(name: &Name, address: IpAddr, own: &Own, policies: &Policies) -> bool {
    let port = own.address.port();
    arrives(own.address, address)
        && (own.transparent && OF_TARGETS.contains(&port)
            || rules_for(policies, name).any(|rule| is_only_port(&rule, port)))
}

/// Warns of an address that is not public, if rules name the host and none of them opens the address.
fn tell_closed(
    (name, address, position): (&Name, IpAddr, Position),
    policies: &Policies,
    report: &Report<'_>,
) {
    let Some(why) = prohibited(address, &[]) else { return };
    let mut rules = rules_for(policies, name).peekable();
    if rules.peek().is_none() || rules.any(|rule| opens(&rule, address)) {
        return;
    }
    let itself = IpNet::from(address);
    let is_here = address.to_canonical().is_loopback() || address.is_unspecified();
    let instead = if is_here || prohibited(address, &[itself]).is_some() {
        String::new()
    } else {
        format!(", or add `private: [\"{itself}\"]` to its rule")
    };
    report.warning(
        position,
        format!(
            "{} leads to {address}, which is not public ({why}), and no `private` of a rule for it opens it: write the real \
             address{instead}",
            quoted(name.as_str())
        ),
    );
}

fn opens(rule: &RuleView<'_>, address: IpAddr) -> bool {
    let own = rule.options().map(|options| options.private.as_slice()).unwrap_or_default();
    prohibited(address, &[own, rule.policy().private()].concat()).is_none()
}

/// The `allow` rules for a name, of all policies. Found by their indexes: there may be a thousand names, and a million rules.
fn rules_for<'p>(policies: &'p Policies, name: &Name) -> impl Iterator<Item = RuleView<'p>> {
    policies.iter().flat_map(|policy| policy.rules_for(name)).filter(|rule| !rule.is_deny())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::{ClientMatch, Mode, OptionsId, Origin, PolicyBuilder, RuleText, Schemes};
    use crate::words::target::Host;

    /// The same by reading every rule.
    fn read_one_by_one<'p>(policies: &'p Policies, name: &Name) -> impl Iterator<Item = RuleView<'p>> {
        let host = Host::Name(name.clone());
        let matches = move |rule: &RuleView<'_>| rule.host().is_some_and(|pattern| pattern.matches(&host));
        policies.rules().filter(move |rule| !rule.is_deny() && matches(rule))
    }

    /// Policies with these rules: the number of the policy, whether it denies, and the text. What is no rule is left out.
    fn policies(rules: &[(usize, bool, String)]) -> Policies {
        let mut builders: Vec<PolicyBuilder> = ["p", "q"]
            .map(|name| PolicyBuilder::new(name, ClientMatch::default(), Mode::Enforce, Vec::new()))
            .into();
        for ((policy, deny, text), line) in rules.iter().zip(1..) {
            let builder = builders.get_mut(*policy).expect("one of two");
            let Ok(rule) = RuleText::parse(text) else { continue };
            let file = builder.file("c.yaml");
            let origin = Origin { file, line, inline: line % 2 == 0, text };
            let added = match deny {
                true => builder.deny(&rule, origin),
                false => builder.allow(&rule, Schemes::HTTPS, origin, OptionsId::default()),
            };
            added.unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        Policies::new(builders.into_iter().map(|builder| builder.build().expect("few rules")).collect())
    }

    /// Of few labels, so that rules and names often meet.
    fn any_name() -> impl Strategy<Value = String> {
        let label = prop::sample::select(vec!["a", "b", "ab", "a-b", "aa", "x", "x1"]);
        (prop::collection::vec(label, 0..4), prop::sample::select(vec!["x.test", "a.x.test", "b.example"]))
            .prop_map(|(labels, end)| {
                labels.iter().map(|label| format!("{label}.")).collect::<String>() + end
            })
    }

    fn any_rule() -> impl Strategy<Value = (usize, bool, String)> {
        let stars = vec!["a*.", "*b.", "*.*.", "a.*.", "*-*.", "x*.b.", "*.a.*."];
        let host = prop_oneof![
            2 => any_name(),
            2 => any_name().prop_map(|name| format!("*.{name}")),
            2 => any_name().prop_map(|name| format!(".{name}")),
            3 => (prop::sample::select(stars), any_name()).prop_map(|(stars, name)| format!("{stars}{name}")),
            1 => prop::sample::select(vec!["10.0.0.0/8", "203.0.113.9", "[fd00::1]", "[fd00::]/8"])
                .prop_map(str::to_owned),
        ];
        let scheme = prop::sample::select(vec!["", "https://", "http://", "tcp://"]);
        let port = prop::sample::select(vec!["", ":443", ":22", ":1-1024"]);
        (0..2_usize, any::<bool>(), scheme, host, port).prop_map(|(policy, deny, scheme, host, port)| {
            let port = if scheme == "tcp://" && port.is_empty() { ":9" } else { port };
            (policy, deny, format!("{scheme}{host}{port}"))
        })
    }

    fn shown<'p>(rules: impl Iterator<Item = RuleView<'p>>) -> Vec<String> {
        rules.map(|rule| format!("{} {} {}", rule.policy().name(), rule.line(), rule.text())).collect()
    }

    proptest! {
        #[test]
        fn the_indexes_find_what_reading_every_rule_finds(
            rules in prop::collection::vec(any_rule(), 0..24), names in prop::collection::vec(any_name(), 1..12),
        ) {
            let policies = policies(&rules);
            for name in names {
                let name = Name::parse(&name).expect("a name");
                let want = shown(read_one_by_one(&policies, &name));
                prop_assert_eq!(shown(rules_for(&policies, &name)), want, "{} in {:?}", name.as_str(), rules);
            }
        }
    }

    /// The generator is worth nothing if rules and names never meet.
    #[test]
    fn rules_of_each_form_are_found() {
        let rules = [
            "a.x.test",
            "*.x.test",
            ".a.x.test:22",
            "a*.x.test",
            "tcp://*.a.*.x.test:443",
            "10.0.0.0/8",
            "b.x.test",
        ];
        let rules: Vec<_> = rules.iter().map(|text| (0, false, (*text).to_owned())).collect();
        let found = |name: &str| shown(rules_for(&policies(&rules), &Name::parse(name).expect("a name")));
        assert_eq!(found("a.x.test"), ["p 1 a.x.test", "p 2 *.x.test", "p 3 .a.x.test:22"]);
        assert_eq!(found("ab.x.test"), ["p 2 *.x.test", "p 4 a*.x.test"]);
        assert_eq!(found("b.a.x.test"), ["p 2 *.x.test", "p 3 .a.x.test:22"]);
        assert_eq!(found("b.a.b.x.test"), ["p 2 *.x.test", "p 5 tcp://*.a.*.x.test:443"]);
        assert_eq!(found("x.test"), [""; 0]);
    }
}
