//! Warnings: their kinds, which rule each is about, and how many of a kind are told.

use super::super::Policy;
use super::super::builder::OptionsId;
use super::super::entry_place::EntryPlace;
use super::super::options::RuleOptions;
use super::super::store::RuleId;

/// The number of warnings of one kind that are reported one by one.
pub const TOLD_OF_A_KIND: usize = 20;

/// A warning about one rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lint {
    /// The kind of warning.
    pub kind: LintKind,
    /// The rule's file, by the name that the configuration gives.
    pub file: Box<str>,
    /// The rule's line in the file, from 1.
    pub line: u32,
    /// For a rule in the configuration itself: how many such rules come before it in [`Policies::rules`](crate::rules::Policies::rules), so that the
    /// code that read the file can add the column.
    pub inline: Option<usize>,
    /// What of its `requests` it is about; `None`: the rule.
    pub within: Option<Within>,
    /// What the rule does that was probably not meant, and what to write instead.
    pub text: String,
}

/// What of the `requests` of a rule a warning is about. Rules of one file or set may share them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Within {
    /// The policy, by its number in [`Policies::iter`](crate::rules::Policies::iter), from 0.
    pub policy: usize,
    /// The options that have the `requests`.
    pub options: OptionsId,
    /// The entry, from 1.
    pub entry: usize,
    /// What of it.
    pub place: EntryPlace,
}

/// The kinds of warnings about rules.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LintKind {
    /// Anyone can get names that the pattern matches.
    Strangers,
    /// A network of public addresses that is too large for one owner.
    WideNetwork,
    /// Plain HTTP, or an opaque tunnel, to hosts that are not listed one by one.
    Unguarded,
    /// A `deny` rule matches all that the rule allows.
    Denied,
    /// Another rule always comes first.
    NeverDecides,
    /// A wider rule allows or denies the same.
    AddsNothing,
    /// The rule has expired.
    Expired,
    /// The rule expires, and a wider one still allows the same.
    Outlived,
    /// The rule is for addresses that it does not open, or that no rule opens.
    NeverWorks,
    /// A rule whose scheme is another protocol than the one that is usual on its port.
    OtherProtocol,
    /// A host that stands for every host: a public resolver, the outer name of Encrypted ClientHello.
    OpensEverything,
    /// A rule that looks at requests is for the same host, so this one never decides. That is an error.
    Unseen,
    /// A wider rule, or one for another name of the same service, lets requests through that nobody looks at.
    Beside,
    /// What `paths` says nothing about.
    Query,
    /// An entry of `requests` that an earlier one of the same rule comes before in all that it allows.
    Entry,
    /// What an entry says about Git or AWS that was probably not meant.
    Recognised,
    /// A host under which everybody's buckets are, told apart by the path.
    Shared,
    /// A name that looks like another one.
    Confusable,
}

impl LintKind {
    const ALL: [LintKind; 18] = [
        LintKind::Strangers,
        LintKind::WideNetwork,
        LintKind::Unguarded,
        LintKind::Denied,
        LintKind::NeverDecides,
        LintKind::AddsNothing,
        LintKind::Expired,
        LintKind::Outlived,
        LintKind::NeverWorks,
        LintKind::OtherProtocol,
        LintKind::OpensEverything,
        LintKind::Unseen,
        LintKind::Beside,
        LintKind::Query,
        LintKind::Entry,
        LintKind::Recognised,
        LintKind::Shared,
        LintKind::Confusable,
    ];

    /// Whether the configuration is refused.
    pub fn is_error(self) -> bool {
        self == LintKind::Unseen
    }

    /// What the rules that are only counted have in common.
    fn of_the_rest(self) -> &'static str {
        match self {
            LintKind::Strangers => "under which anyone can get names",
            LintKind::WideNetwork => "for wide networks of public addresses",
            LintKind::Unguarded => "for http or tcp that name more than one host",
            LintKind::Denied => "that `deny` matches completely",
            LintKind::NeverDecides => "that never decide",
            LintKind::AddsNothing => "that add nothing to a wider one",
            LintKind::Expired => "that have expired",
            LintKind::Outlived => "that expire while a wider one still allows the same",
            LintKind::NeverWorks => "for addresses that they do not open",
            LintKind::OtherProtocol => "whose scheme is not that of their port",
            LintKind::OpensEverything => "for hosts that stand for every host",
            LintKind::Unseen => "beside one that looks at requests to the same host",
            LintKind::Beside => "that look at requests, beside one that does not",
            LintKind::Query => "whose `paths` say nothing of the query",
            LintKind::Recognised => "with entries about Git or AWS that were probably meant otherwise",
            LintKind::Shared => "for hosts of everybody's buckets",
            LintKind::Confusable => "for names that look like others",
            LintKind::Entry => "with entries of `requests` that never decide",
        }
    }
}

/// One rule, with what a warning needs to say where it is.
pub(super) struct At<'a> {
    pub(super) policy: &'a Policy,
    /// The policy's number, from 0.
    pub(super) number: usize,
    pub(super) id: RuleId,
    pub(super) inline: Option<usize>,
}

impl At<'_> {
    pub(super) fn text(&self) -> &str {
        self.policy.store.text(self.id)
    }

    /// Another rule of the same policy: its text, file and line.
    pub(super) fn other(&self, id: RuleId) -> String {
        let view = self.policy.view(id);
        format!("`{}` ({}:{})", view.text(), view.file(), view.line())
    }

    pub(super) fn given(&self, id: RuleId) -> Option<&RuleOptions> {
        self.policy.options_of(id).map(|options| &options.given)
    }
}

/// The warnings found so far.
#[derive(Default)]
pub(super) struct Told {
    lints: Vec<Lint>,
    counts: [usize; LintKind::ALL.len()],
    /// The first warning of each kind that is only counted.
    rest: [Option<Lint>; LintKind::ALL.len()],
}

impl Told {
    /// Whether there is a warning of this kind.
    pub(super) fn has(&self, kind: LintKind) -> bool {
        self.counts[kind as usize] != 0
    }

    /// About the rule.
    pub(super) fn tell(&mut self, kind: LintKind, at: &At<'_>, text: impl FnOnce() -> String) {
        self.tell_of(kind, at, None, text);
    }

    /// About an entry of its `requests`, from 1.
    pub(super) fn tell_within(
        &mut self,
        kind: LintKind,
        at: &At<'_>,
        (entry, place): (usize, EntryPlace),
        text: impl FnOnce() -> String,
    ) {
        let options = OptionsId::nth(at.policy.store.rule(at.id).options);
        self.tell_of(kind, at, Some(Within { policy: at.number, options, entry, place }), text);
    }

    fn tell_of(
        &mut self,
        kind: LintKind,
        at: &At<'_>,
        within: Option<Within>,
        text: impl FnOnce() -> String,
    ) {
        let count = &mut self.counts[kind as usize];
        *count += 1;
        if *count > TOLD_OF_A_KIND + 1 {
            return;
        }
        let view = at.policy.view(at.id);
        let (file, line, inline) = (view.file().into(), view.line(), at.inline);
        let lint = Lint { kind, file, line, inline, within, text: text() };
        if *count <= TOLD_OF_A_KIND {
            self.lints.push(lint);
        } else {
            self.rest[kind as usize] = Some(lint);
        }
    }

    pub(super) fn finish(self) -> Vec<Lint> {
        let Told { mut lints, counts, rest } = self;
        for (mut lint, count) in rest.into_iter().zip(counts).filter_map(|(lint, count)| Some((lint?, count)))
        {
            // If there is only one more, it is reported itself: it is as short as the sentence that counts it.
            let more = count - TOLD_OF_A_KIND;
            if more > 1 {
                lint.text = format!("from here on: {more} more rules {}", lint.kind.of_the_rest());
            }
            lints.push(lint);
        }
        lints
    }
}
