//! Looks names up for a command that runs outside the server.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::Dns;
use crate::outbound::resolve::{Family, LookupError, NoAnswer, Resolver};
use crate::words::target::Name;

/// The server's resolver, in its own runtime; both are made at the first look-up.
pub(super) struct Lookups {
    settings: Dns,
    made: Option<(tokio::runtime::Runtime, Resolver)>,
}

impl Lookups {
    pub(super) fn new(dns: &Dns) -> Self {
        Lookups { settings: dns.clone(), made: None }
    }

    /// Every address of both families.
    ///
    /// # Errors
    /// Why there is no address.
    pub(super) fn addresses(&mut self, name: &Name) -> Result<Vec<IpAddr>, LookupError> {
        let made = match self.made.take() {
            Some(made) => made,
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let failed = |error: String| LookupError::new(NoAnswer::Resources, &error);
                let runtime = runtime.map_err(|error| failed(format!("cannot start a look-up: {error}")))?;
                (runtime, Resolver::new(&self.settings).map_err(|error| failed(error.to_string()))?)
            }
        };
        let (runtime, resolver) = self.made.insert(made);
        let (v4, v6) = runtime.block_on(async {
            // The only client.
            let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
            tokio::join!(resolver.lookup(name, Family::V4, client), resolver.lookup(name, Family::V6, client))
        });
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok(v4.iter().chain(v6.iter()).copied().collect()),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one.to_vec()),
            (Err(v4), Err(v6)) => Err(v4.more_telling(v6)),
        }
    }
}
