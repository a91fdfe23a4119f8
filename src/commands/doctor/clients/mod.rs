//! Lets the installed clients request [`PROBE`], each as it is set up here, and tells which of them ask the proxy.
//!
//! No network can know that name, so a client that asks no proxy fails in DNS, and nothing reaches a target. A client prints how
//! it was refused; that tells which way it went. Where the admin listener is given, that is asked, too: many clients print a number and
//! no reason, and any proxy may have answered it. One that did not come through the proxy runs again with what `egressd env`
//! prints. [`kinds`] has the command of each client, [`mod@ask`] runs it.
//!
//! [`PROBE`]: crate::words::target::PROBE

mod ask;
mod kinds;

use self::ask::{Way, ask};
use self::kinds::{KINDS, Kind};
use super::admin::{Admin, Probes};
use super::finding::{Finding, FindingState, finding};
use crate::commands::env::{Settings, Variable};

/// Asks each client that is installed, and passes its finding to `tell`. True: nothing is wrong.
pub(super) fn ask_all(settings: &Settings, admin: Option<&Admin>, mut tell: impl FnMut(&Finding)) -> bool {
    let mut fine = true;
    let mut found = 0;
    for kind in KINDS {
        if let Some(finding) = client(kind, settings, admin) {
            found += 1;
            fine &= finding.state != FindingState::Wrong;
            tell(&finding);
        }
    }
    if found == 0 {
        tell(&finding("clients", FindingState::Open, "none of the clients that are known here is installed"));
    }
    fine
}

/// The finding about one client. None: it is not installed.
fn client(kind: &Kind, settings: &Settings, admin: Option<&Admin>) -> Option<Finding> {
    let proxy = settings.proxy.url_without_password();
    let before = admin.and_then(|admin| admin.probes().ok());
    let told = |state, text: String| Some(finding(kind.name, state, text));
    let as_it_is = match ask(kind, &[]) {
        // Python is here, and pip is not.
        Ok(Way::Unclear(line)) if line.contains("No module named") => return None,
        Ok(way) => way,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return told(FindingState::Open, format!("it cannot be run: {error}")),
    };
    if let (Some(admin), Some(before)) = (admin, &before) {
        let is_counted = || admin.probes().is_ok_and(|now| now.more_than(before).is_some());
        match &as_it_is {
            Way::RefusedBy(_) => return Some(counted(kind, &as_it_is, admin, before)),
            Way::Unclear(_) if is_counted() => return Some(counted(kind, &as_it_is, admin, before)),
            _ => {}
        }
    }
    match &as_it_is {
        Way::Refused(reason) => {
            return told(
                FindingState::Fine,
                format!("asks egressd, which refused the probe ({reason}) as it should"),
            );
        }
        Way::RefusedBy(status) => {
            return told(
                FindingState::Fine,
                format!(
                    "asks a proxy, which answered {status}; it does not print the reason, so look in the log for {}",
                    crate::words::target::PROBE
                ),
            );
        }
        Way::Direct | Way::Unreachable(_) | Way::Unclear(_) | Way::Silent => {}
    }
    let variables: Vec<Variable> = settings.all();
    let with = ask(kind, &variables);
    let helps = matches!(with, Ok(Way::Refused(_) | Way::RefusedBy(_)));
    let seen = match as_it_is {
        Way::Unreachable(line) => format!("its proxy cannot be reached ({line})"),
        Way::Unclear(line) => format!("it does not say whether it asked a proxy ({line})"),
        Way::Silent => "it did not end in time".to_owned(),
        Way::Direct | Way::Refused(_) | Way::RefusedBy(_) => {
            "it does not ask a proxy, but looks the name up itself".to_owned()
        }
    };
    if helps {
        let text =
            format!("{seen}; with the variables that egressd env --via {proxy} prints, it asks the proxy");
        return told(FindingState::Wrong, text);
    }
    let hint = kind.hint;
    let state = if matches!(with, Ok(Way::Unclear(_))) { FindingState::Open } else { FindingState::Wrong };
    told(
        state,
        format!("{seen}, and neither with the variables that egressd env --via {proxy} prints: {hint}"),
    )
}

/// The finding about a client that prints no reason, by what the admin listener counted since `before`.
fn counted(kind: &Kind, way: &Way, admin: &Admin, before: &Probes) -> Finding {
    let printed = match way {
        Way::RefusedBy(status) => format!("printed {status} and no reason"),
        Way::Unclear(line) => format!("does not say whether it asked a proxy ({line})"),
        Way::Refused(_) | Way::Direct | Way::Unreachable(_) | Way::Silent => "printed no reason".to_owned(),
    };
    match admin.probes() {
        Err(error) => finding(kind.name, FindingState::Open, format!("it {printed}; {admin}: {error}")),
        Ok(now) => match now.more_than(before) {
            Some(reason) => finding(
                kind.name,
                FindingState::Fine,
                format!(
                    "asks egressd, which refused the probe ({reason}) as it should: {admin} counted it; the client {printed}"
                ),
            ),
            None => finding(
                kind.name,
                FindingState::Open,
                format!(
                    "it {printed}, and {admin} counted no such request: it asks another proxy or none, or behind a load balancer \
                     another replica"
                ),
            ),
        },
    }
}
