//! Why a list decides against a request: in which of its parts it cannot be known.

use super::acl::{AclAnswer, AclTest, Acls, Literal, MAX_DEPTH, RequestKind, ask};
use super::asked::AskedHost;
use super::truth::Truth;

/// Why it is not known whether a list is true of a request.
pub(super) fn why(acls: &Acls, literal: &Literal, request: &RequestKind<'_>) -> String {
    within(acls, literal, request, false, 0)
}

/// Lists may be in lists; how deep is bounded, because they may name each other.
fn within(acls: &Acls, literal: &Literal, request: &RequestKind<'_>, turned: bool, depth: usize) -> String {
    let negated = literal.negated != turned;
    let Some(acl) = acls.get(&literal.acl) else {
        return format!("there is no list `{}`", literal.shown);
    };
    if let AclTest::Either(either) = &acl.test
        && depth < MAX_DEPTH
    {
        let maybe = AclAnswer::Truth(Truth::Maybe);
        let unknown = |part: &&Literal| ask(acls, part, request, depth + 1) == maybe;
        if let Some(part) = either.iter().flatten().find(unknown) {
            return format!("`{}`: {}", literal.shown, within(acls, part, request, negated, depth + 1));
        }
    }
    let why = match (&acl.test, request.host) {
        _ if !acl.why.is_empty() => acl.why.as_str(),
        (AclTest::Host(_) | AclTest::Either(_), AskedHost::Network(_)) if negated => {
            "egressd looks up no PTR names, so it cannot know whether that of an address is listed"
        }
        (AclTest::Host(_) | AclTest::Either(_), AskedHost::Network(_)) => BACKWARDS,
        (AclTest::Way { .. }, _) => "egressd does not tell methods or protocols of plain requests apart",
        (AclTest::Door { .. }, _) => {
            "which port clients come by is another question for each connection that is redirected or comes through a balancer"
        }
        (AclTest::Connections(_), _) => "egressd counts connections per client only",
        (AclTest::Destination { .. }, AskedHost::Network(_)) => VERSIONS,
        (AclTest::Destination { .. }, _) => LATE,
        (AclTest::Client(_), _) => VERSIONS,
        (AclTest::Host(_), _) => "a regex of it also fits names that egressd cannot list",
        (AclTest::Url(_), _) => "egressd decides on host and port, never on a path",
        (AclTest::Either(_), _) => "one of its lists cannot be carried over",
        _ => "it cannot be carried over",
    };
    format!("`{}`: {why}", literal.shown)
}

/// Why nothing passes a line that asks for a password.
pub(super) const UNASKED: &str = "no password file is carried over, so no user can be known, and Squid lets nobody past this line without a password";
/// Why `dstdomain` is not known of an address.
pub(super) const BACKWARDS: &str =
    "Squid looks up the name of an address, and egressd never does, so a literal address stays denied";
/// Why an address may be in a list, and may not.
const VERSIONS: &str = "versions of Squid differ on the addresses that are in it";
/// Why `dst` cannot allow a name.
pub(super) const LATE: &str = "`dst`: egressd allows or denies a name before it looks the name up";
