//! Who may push where: a line for each policy with rules about Git.

use jiff::Timestamp;

use crate::rules::{ClientMatch, Entry, Mode, Policy};
use crate::words::git::Operation;

/// Longer lists are for no person to read.
const SHOWN: usize = 5;

/// The line; `None`: no rule of the policy is about Git.
pub(super) fn line(policy: &Policy, now: Timestamp) -> Option<String> {
    let (mut pushes, mut fetches, mut past, mut about_git) = (Vec::new(), Vec::new(), Vec::new(), false);
    for rule in policy.rules().filter(|rule| !rule.is_deny()) {
        let Some(requests) = rule.options().and_then(|options| options.requests.as_deref()) else { continue };
        let is_over = rule.expires().is_some_and(|moment| moment <= now);
        if let Some(number) = requests.may_let_git_past().filter(|_| !is_over) {
            past.push(format!("entry {number} of {}", rule.canonical_host()));
        }
        for entry in requests.entries().iter().filter(|entry| entry.git.is_some()) {
            about_git = true;
            let allows = |operation| entry.git.as_ref().is_some_and(|git| git.allows(operation)) && !is_over;
            let place = place(rule.canonical_host(), entry);
            if allows(Operation::Push) {
                pushes.push(format!("{place}{}", refs(entry)));
            }
            if allows(Operation::Fetch) {
                fetches.push(format!("{place}{}", by(entry, " ")));
            }
        }
    }
    if !about_git {
        return None;
    }
    let pushes = match pushes.is_empty() {
        true if past.is_empty() => "nobody may push".to_owned(),
        true => "none allows a push".to_owned(),
        false => format!("{} may push to {}", clients(policy.clients()), listed(&pushes, "; ")),
    };
    let fetches =
        if fetches.is_empty() { String::new() } else { format!("; fetch from {}", listed(&fetches, "; ")) };
    let past = match past.is_empty() {
        true => String::new(),
        false => format!("; but git's requests, pushes too, may pass unseen by {}", listed(&past, ", ")),
    };
    let mode = if policy.mode() == Mode::Report { " (report mode, which lets all else pass)" } else { "" };
    Some(format!("policy {}{mode}: by its rules about Git, {pushes}{fetches}{past}", policy.name()))
}

/// The host and the repositories.
fn place(host: &str, entry: &Entry) -> String {
    match entry.git.as_ref().and_then(|git| git.repositories.as_ref()) {
        Some(repositories) => {
            let all: Vec<&str> = repositories.iter().map(|pattern| pattern.as_str()).collect();
            format!("{host} {}", listed(&all, " "))
        }
        None => host.to_owned(),
    }
}

/// What may happen to which refs, and by whose credentials.
fn refs(entry: &Entry) -> String {
    let Some(git) = &entry.git else { return String::new() };
    let refs = match &git.refs {
        Some(refs) => listed(&refs.iter().map(|pattern| pattern.as_str()).collect::<Vec<_>>(), " "),
        None => "any ref".to_owned(),
    };
    let changes: Vec<&str> = git.changes.iter().map(|change| change.as_str()).collect();
    format!(" ({refs}: {}{})", changes.join(", "), by(entry, "; "))
}

/// By whose credentials.
fn by(entry: &Entry, before: &str) -> String {
    let accounts = entry.aws.as_ref().and_then(|aws| aws.accounts.as_ref());
    let accounts = accounts.map(|accounts| {
        let all: Vec<&str> = accounts.iter().map(|account| account.as_str()).collect();
        format!("by account {}", listed(&all, " "))
    });
    let file = entry.credentials.as_ref().map(|credentials| format!("with {}", credentials.file()));
    let all: Vec<String> = accounts.into_iter().chain(file).collect();
    if all.is_empty() { String::new() } else { format!("{before}{}", all.join(", ")) }
}

fn clients(clients: &ClientMatch) -> String {
    let networks: Vec<String> = clients.networks.iter().map(ToString::to_string).collect();
    let who: Vec<&str> =
        clients.identities.iter().chain(&clients.vpc_endpoints).map(|identity| &**identity).collect();
    let who = if who.is_empty() { String::new() } else { format!(" that prove {}", listed(&who, " or ")) };
    let by: Vec<&str> = clients.listeners.iter().map(|listener| &**listener).collect();
    let by = if by.is_empty() { String::new() } else { format!(" by the listener {}", listed(&by, " or ")) };
    match networks.is_empty() {
        true => format!("clients{who}{by}"),
        false => format!("clients of {}{who}{by}", listed(&networks, " ")),
    }
}

/// The first few.
fn listed<T: AsRef<str>>(all: &[T], between: &str) -> String {
    let some: Vec<&str> = all.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let some = some.join(between);
    match all.len().saturating_sub(SHOWN) {
        0 => some,
        more => format!("{some}{between}{more} more"),
    }
}
