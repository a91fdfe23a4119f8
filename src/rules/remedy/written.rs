//! The entry that is offered for a denied request, and what to consider before it is added.
//!
//! Not here: whether an entry is the answer ([`super`]), and which scheme it has ([`crate::rules::offer`]).

use jiff::Timestamp;

use crate::rules::builder::{Origin, PolicyBuilder};
use crate::rules::lint::{self, LintKind};
use crate::rules::offer::{NO_TLS_SHOWN, Offer, clear_at_first, needs_description, rule_text};
use crate::rules::options::RuleOptions;
use crate::rules::rule::{RuleText, Scheme, Schemes};
use crate::rules::{ClientMatch, Mode, Policies};
use crate::words::target::{Host, Port};

/// The rule for only this host and port, and what to consider before it is added.
pub(super) struct Written {
    pub(super) rule: String,
    /// As in a YAML flow mapping; none if it needs none.
    pub(super) options: Option<String>,
    pub(super) warnings: Vec<String>,
}

/// The offered rule, with these options and those that it needs.
pub(super) fn written(offer: &Offer, mut options: RuleOptions) -> Written {
    let Offer { scheme, host, port, private, certain } = offer;
    let text = offer.rule();
    let mut warnings = doubts(&text, &RuleOptions { private: private.clone(), ..options.clone() });
    match scheme {
        Scheme::Tcp => {
            warnings.push("tcp: the content is not inspected, whatever answers there".to_owned());
            if !certain && clear_at_first(*port).is_none() {
                let narrower = rule_text(Scheme::Https, host, (*port).into());
                let name = match host {
                    Host::Name(_) => "",
                    Host::Address(_) => " and names no server",
                };
                warnings.push(format!(
                    "{narrower} is narrower, if the client speaks TLS from the first byte{name}"
                ));
            }
        }
        Scheme::Http => warnings.push("http: the traffic can be read and changed on the way".to_owned()),
        Scheme::Https if !certain && *port != Port::HTTPS => {
            let words = match needs_description(Scheme::Tcp, host, (*port).into()) {
                true => " with a `description` of what it carries",
                false => "",
            };
            warnings.push(format!(
                "https: the client must speak TLS from the first byte; if it does not, write tcp://{host}:{port}{words}"
            ));
        }
        Scheme::Https => {}
    }
    if let Host::Address(_) = host {
        warnings.push("an address does not show who answers there: a name is better".to_owned());
        if !private.is_empty() {
            warnings.push("the address is not public, so the rule must open it with `private`".to_owned());
            options.private.extend(private);
        }
    }
    // What its owner wrote stays.
    if options.description.is_none() && needs_description(*scheme, host, (*port).into()) {
        options.description = Some(NO_TLS_SHOWN.into());
    }
    let options = options.to_yaml();
    let options = (!options.is_empty()).then_some(options);
    Written { rule: text, options, warnings }
}

/// What `check` would warn of.
pub(super) fn doubts(text: &str, options: &RuleOptions) -> Vec<String> {
    let Ok(parsed) = RuleText::parse(text) else { return Vec::new() };
    let mut builder = PolicyBuilder::new("", ClientMatch::default(), Mode::Enforce, Vec::new());
    let file = builder.file("");
    let options = builder.options(options.clone());
    let origin = Origin { file, line: 1, inline: true, text };
    if builder.allow(&parsed, Schemes::HTTPS, origin, options).is_err() {
        return Vec::new();
    }
    let Ok(policy) = builder.build() else { return Vec::new() };
    // When it expires is for its owner to know.
    let found = lint::lint(&Policies::new(vec![policy]), Timestamp::MIN);
    // The scheme is that of what the tunnel carried, or of what is usual on its port.
    found.into_iter().filter(|lint| lint.kind != LintKind::OtherProtocol).map(|lint| lint.text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::rules::Denied;
    use crate::rules::offer::Inside;
    use crate::words::outcome::Reason;
    use crate::words::target::Target;

    /// The warnings about `tcp` rules on ports of TLS.
    fn asked_for_words(rules: &str, policies: &mut Policies) -> Vec<String> {
        let text = format!("policies:\n  - name: p\n    allow:\n{rules}");
        let loaded = config::load_str("c.yaml", &text, |_| Err(std::io::ErrorKind::NotFound.into()));
        let loaded = loaded.unwrap_or_else(|findings| panic!("{text}\n{findings:?}"));
        *policies = loaded.config.policies;
        let texts = loaded.warnings.into_iter().map(|finding| finding.text);
        texts.filter(|text| text.contains("looks at nothing that passes")).collect()
    }

    #[test]
    fn a_tcp_rule_where_tls_is_usual_says_what_was_seen_and_check_asks_for_no_more() {
        let before: &[(Reason, &str, Inside)] = &[
            (Reason::NotTls, "new.example:PORT", Inside::Unknown),
            (Reason::ClientHelloTimeout, "'*.example.test', new.example:PORT", Inside::Unknown),
            (Reason::UpgradeNotAllowed, "'http://new.example:PORT'", Inside::Unknown),
            (Reason::HostNotAllowed, "other.example", Inside::Other),
        ];
        for (port, is_told) in [(443, true), (993, true), (8443, true), (9999, false), (22, false)] {
            for (reason, rules, inside) in before {
                let rules = rules.replace("PORT", &port.to_string());
                let mut policies = Policies::default();
                asked_for_words(&format!("      [{rules}]\n"), &mut policies);
                let target = Target::connect(&format!("new.example:{port}")).expect("a target");
                let denied = Denied {
                    policy: Some("p"),
                    reason: *reason,
                    target: &target,
                    inside: *inside,
                    request: None,
                };
                let line = policies.remedy(denied, Timestamp::UNIX_EPOCH).line().expect("an entry");
                assert!(line.contains(&format!("tcp://new.example:{port}")), "{reason} {line}");
                assert_eq!(line.contains(NO_TLS_SHOWN), is_told, "{reason} {line}");
                assert_eq!(asked_for_words(&format!("      {line}\n"), &mut policies), [""; 0], "{line}");
            }
        }
    }

    #[test]
    fn what_the_owner_of_the_rule_wrote_stays() {
        let mut policies = Policies::default();
        let rule = "      - {to: new.example, owner: o, description: a VPN}\n";
        asked_for_words(rule, &mut policies);
        let target = Target::connect("new.example:443").expect("a target");
        let (reason, inside) = (Reason::NotTls, Inside::Unknown);
        let denied = Denied { policy: Some("p"), reason, target: &target, inside, request: None };
        let line = policies.remedy(denied, Timestamp::UNIX_EPOCH).line();
        let want = "- {to: \"tcp://new.example:443\", owner: \"o\", description: \"a VPN\"}";
        assert_eq!(line.as_deref(), Some(want));
    }
}
