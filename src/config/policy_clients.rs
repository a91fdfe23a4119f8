//! The clients of a policy: from the keys as typed to [`ClientMatch`].
//!
//! Not here: whether any listener can tell such clients ([`super::identity_lint`]).

use super::file::ClientsFile;
use super::finding::{Position, Report};
use super::keys::{Key, List, items, networks, position_of, private_networks, value};
use super::languages::network_line;
use super::list_file::{self, ListKind};
use super::named_files::NamedFiles;
use super::typed::At;
use super::values::FilePath;
use crate::rules::{ClientFile, ClientMatch, MAX_RULES as MAX_NETWORKS, lint};

pub(super) fn clients(
    key: &Key<ClientsFile>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) -> ClientMatch {
    let left_out = ClientsFile::default();
    let file = value(key).unwrap_or(&left_out);
    not_empty("networks", &file.networks, report);
    not_empty("networks_files", &file.networks_files, report);
    not_empty("identities", &file.identities, report);
    not_empty("vpc_endpoints", &file.vpc_endpoints, report);
    not_empty("listeners", &file.listeners, report);
    let mut clients = ClientMatch {
        networks: match (networks(&file.networks), &file.networks_files) {
            (Some(networks), _) => networks,
            (None, Some(_)) => Vec::new(),
            (None, None) => private_networks(),
        },
        files: Vec::new(),
        identities: items(&file.identities).map(|(identity, _)| identity.0.clone()).collect(),
        vpc_endpoints: items(&file.vpc_endpoints).map(|(endpoint, _)| endpoint.0.clone()).collect(),
        listeners: items(&file.listeners).map(|(listener, _)| listener.0.clone()).collect(),
    };
    for at in value(&file.networks_files).into_iter().flatten() {
        networks_file(&mut clients, at, report, files);
    }
    clients
}

/// Reads every line of a file of networks.
fn networks_file(
    clients: &mut ClientMatch,
    at: &At<FilePath>,
    report: &Report<'_>,
    files: &mut NamedFiles<'_>,
) {
    let Some((content, report)) = named(at, files, report) else { return };
    let before = clients.networks.len();
    list_file::read(&content, ListKind::Networks, &report, |position, text| match network_line(text) {
        Ok(_) if clients.networks.len() == MAX_NETWORKS => report.error(
            position,
            format!("more than {MAX_NETWORKS} networks in one policy: move some to another policy"),
        ),
        Ok(network) => clients.networks.push(network),
        Err(error) => report.error(position, error),
    });
    let networks = clients.networks.len() - before;
    clients.files.push(ClientFile { path: report.file().into(), networks });
}

/// Warns of a policy in report mode for anybody: it is an open proxy, which lets out every host.
pub(super) fn open_to_all(
    clients: &ClientMatch,
    file: Option<&ClientsFile>,
    around: Position,
    report: &Report<'_>,
) {
    let Some(open) = lint::open_to_strangers(&clients.networks) else { return };
    let written = file.and_then(|file| position_of(&file.networks, &open));
    let listed = file.and_then(|file| file.networks.as_ref().map(|at| at.position));
    let in_files = file.and_then(|file| file.networks_files.as_ref().map(|at| at.position));
    let whose = if open.prefix_len() == 0 { "is every address" } else { "has addresses of anybody" };
    let ClientMatch { identities, vpc_endpoints, listeners, .. } = clients;
    let proven = match identities.is_empty() && vpc_endpoints.is_empty() && listeners.is_empty() {
        true => "",
        false => " that the policy is for",
    };
    report.warning(
        written.or(listed).or(in_files).unwrap_or(around),
        format!(
            "{open} {whose}, and in report mode any client there{proven} gets out to every host: this is an open proxy; write the \
             networks of your clients, or `mode: enforce`"
        ),
    );
}

/// An empty list would match no client if it is read strictly, and every client if it is read as "not set": egressd
/// does not guess.
fn not_empty<T>(name: &str, list: &List<T>, report: &Report<'_>) {
    if let Some(at) = list
        && at.value.as_ref().is_some_and(Vec::is_empty)
    {
        report.error(
            at.position,
            format!("`{name}` is empty and matches no client: write at least one, or remove the key"),
        );
    }
}

/// The content of a file that is named here, with the report for it.
pub(super) fn named<'r>(
    at: &At<FilePath>,
    files: &mut NamedFiles<'_>,
    report: &Report<'r>,
) -> Option<(Vec<u8>, Report<'r>)> {
    let name = at.value.as_ref().map(|path| &*path.0)?;
    let content = files.read(name, at.position, report)?;
    Some((content, report.of(&files.path(name).display().to_string())))
}
