//! Whether one entry allows all that another does, and requests that tell two entries apart: for `diff`.

use super::{GitRule, RefPattern, RepositoryPattern};
use crate::words::git::{
    Asks, Content, GitAsk, GitRequest, Operation, RefChange, RefName, Repository, Service,
};
use crate::words::small_sort::SmallSort as _;

/// More examples tell no more.
const MOST: usize = 256;

impl GitRule {
    /// Whether every request that `other` lets through is one that `self` lets through, and no longer than there. `false`: that is
    /// not certain.
    pub(in crate::rules) fn covers(&self, other: &GitRule) -> bool {
        let repositories = match (&self.repositories, &other.repositories) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => {
                others.iter().all(|other| own.iter().any(|own| own.path.covers(&other.path)))
            }
        };
        let refs = || match (&self.refs, &other.refs) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|other| own.iter().any(|own| own.covers(other))),
        };
        let changes = || other.changes.iter().all(|change| self.changes.contains(change));
        other.operations.iter().all(|operation| self.allows(*operation))
            && repositories
            && (!other.allows(Operation::Push) || (refs() && changes()))
            && self.negotiation_limit >= other.negotiation_limit
    }

    /// The same for each operation and repository alone.
    pub(in crate::rules) fn parts(&self) -> Vec<GitRule> {
        let mut operations = vec![Operation::List];
        operations.extend(self.operations.iter().filter(|operation| **operation != Operation::List));
        let repositories: Vec<Option<Box<[RepositoryPattern]>>> = match &self.repositories {
            Some(patterns) => patterns.iter().map(|pattern| Some([pattern.clone()].into())).collect(),
            None => vec![None],
        };
        let parts = operations.iter().flat_map(|operation| {
            repositories.iter().map(|repositories| GitRule {
                operations: [*operation].into(),
                repositories: repositories.clone(),
                ..self.clone()
            })
        });
        parts.collect()
    }

    /// Requests that a part lets through, each with its method and path, and that another lets through by chance alone.
    pub(in crate::rules) fn examples(&self) -> Vec<(&'static str, String, GitAsk)> {
        let path = match self.repositories.iter().flatten().next() {
            Some(pattern) => pattern.path.example(),
            None => "/~example~/~example~".to_owned(),
        };
        let Ok(repository) = Repository::new(&path, true) else { return Vec::new() };
        let ask = |service: Service, content| {
            let path = format!("{}/{}", repository.as_str(), service.as_str());
            let request = GitRequest { repository: repository.clone(), asks: Asks::Rpc(service) };
            ("POST", path, GitAsk { request, content })
        };
        let mut examples = Vec::new();
        if self.allows(Operation::Push) {
            let names = self.example_refs();
            let changes = |change| names.iter().filter_map(move |name| RefChange::made_up(change, name));
            for change in self.changes.iter().copied() {
                let all: Box<[RefChange]> = changes(change).collect();
                examples.push(ask(Service::ReceivePack, Content::Changes(all.into())));
                let single = changes(change).map(|change| Content::Changes([change].into()));
                examples.extend(single.map(|content| ask(Service::ReceivePack, content)));
            }
            // One push may do all of it.
            let mixed = self.changes.iter().cycle().zip(&names);
            let mixed = mixed.filter_map(|(change, name)| RefChange::made_up(*change, name));
            examples.push(ask(Service::ReceivePack, Content::Changes(mixed.collect())));
        } else if self.allows(Operation::Fetch) {
            examples.push(ask(Service::UploadPack, Content::Does(Operation::Fetch)));
        } else {
            examples.push(ask(Service::UploadPack, Content::Does(Operation::List)));
        }
        examples
    }

    fn example_refs(&self) -> Vec<RefName> {
        let any = ["refs/heads/egressd-example".to_owned(), "refs/egressd/example".to_owned()];
        let names = match &self.refs {
            Some(patterns) => patterns.iter().take(MOST).flat_map(RefPattern::examples).collect(),
            None => any.to_vec(),
        };
        let mut names: Vec<RefName> =
            names.iter().filter_map(|name| RefName::new(name.as_bytes()).ok()).collect();
        names.small_sort();
        names.dedup();
        names
    }
}
