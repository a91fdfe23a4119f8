//! The entry that is offered for a denied request, and what to consider before it is added.
//!
//! Not here: whether an entry is the answer ([`super`]), and which scheme it has ([`crate::rules::offer`]).

use jiff::Timestamp;

use crate::rules::builder::{Origin, PolicyBuilder};
use crate::rules::lint::{self, LintKind};
use crate::rules::offer::{Offer, clear_at_first, rule_text};
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
        Scheme::Https if !certain && *port != Port::HTTPS => warnings.push(format!(
            "https: the client must speak TLS from the first byte; if it does not, write tcp://{host}:{port}"
        )),
        Scheme::Https => {}
    }
    if let Host::Address(_) = host {
        warnings.push("an address does not show who answers there: a name is better".to_owned());
        if !private.is_empty() {
            warnings.push("the address is not public, so the rule must open it with `private`".to_owned());
            options.private.extend(private);
        }
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
