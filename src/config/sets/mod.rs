//! Rule sets: the hosts of a service, shipped with egressd, as dated versions that never change.
//!
//! A rule in `allow` names a set and one of its versions, so that an upgrade of egressd opens nothing: what changed is in
//! another version, and the old ones stay. The data is in `data/NAME/VERSION.txt`: keys, an empty line, then one rule a
//! line with the page of the vendor that names the host. Nothing is read at run time. Not here: what the options beside
//! a set do ([`super::options`]), and where its rules come among others ([`super::policies`]).

mod named;
mod shipped;
#[cfg(test)]
mod tests;

pub use self::named::did_you_mean;
pub(super) use self::named::{SetInUse, named, tell_old};
pub use self::shipped::{Parameter, RuleSet, SetRule, find, names, versions};
