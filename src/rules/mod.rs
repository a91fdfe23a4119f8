//! The rules: which client may reach which target, and which rule says so. Pure code: no sockets, no clock, no files.
//!
//! ```text
//! text → RuleText (rule, pattern) → PolicyBuilder → Policy → Policies → decide → Permit → admit → Admitted
//! ```
//!
//! Only listed targets are allowed; everything else is denied, and a policy without rules denies everything. [`decide`]
//! and [`search`] say which rule decides, and [`pattern`] says how a host is written. A policy can hold a million rules
//! in 32 bytes each, and their texts ([`store`]). It finds the few rules that match a host by hash ([`names`]), by
//! binary search ([`networks`]) or, for at most a thousand patterns, with `globset` ([`labels`]). In addition there are
//! the registries of special addresses ([`address`]), and warnings about rules that are valid but unwise ([`lint`]).

pub mod address;
mod address_set;
mod advice;
pub mod aws;
mod builder;
mod clients;
mod decide;
mod entry_place;
pub mod git;
mod host_set;
mod http;
mod http_request;
mod label_pattern;
mod labels;
pub mod lint;
mod meet;
mod misplaced;
mod names;
mod networks;
pub mod no_proxy;
pub mod offer;
mod options;
mod path;
pub mod pattern;
mod policies;
mod policy;
mod public_suffix;
mod remedy;
pub mod rule;
mod search;
mod shift;
mod store;
mod view;

pub use self::address::{AddressDenial, Admitted};
pub use self::address_set::AddressSet;
pub use self::builder::{BuildError, FileId, MAX_PATTERNS, MAX_RULES, OptionsId, Origin, PolicyBuilder};
pub use self::clients::{ClientFile, ClientMatch};
pub use self::decide::{Denial, Objected, Permit};
pub use self::entry_place::{EntryKey, EntryPlace};
pub use self::host_set::{HostSet, MAX_INNER_STARS};
pub use self::http::{
    Credentials, Entry, HeaderEdits, HttpRequest, MatchedEntry, Misfit, Nearest, Recognised, Requests,
    SetField, Upgrade,
};
pub use self::misplaced::Misplaced;
pub use self::options::{Ech, OptionValue, RuleOptions};
pub use self::path::{PathError, PathPattern, PathPatternError, check as check_path};
pub use self::pattern::{HostPattern, LabelPattern, PatternError, PatternErrorKind};
pub use self::policies::Policies;
pub use self::policy::{Mode, Policy};
pub(crate) use self::public_suffix::{registrable, spans_public_suffix};
pub use self::remedy::{Denied, DeniedRequest, NewEntry, Recorded, Remedy, on_the_way};
pub use self::rule::{Ports, RuleError, RuleErrorKind, RuleText, Scheme, Schemes};
pub use self::shift::Shift;
pub use self::view::{MatchedRule, RuleSource, RuleView};
pub use crate::words::units::UploadBudget;
