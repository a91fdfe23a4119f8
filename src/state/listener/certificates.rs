//! The certificates of the clients that are connected: those that many connections show are kept once, and judged once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::transport::tls::ClientChain;

/// Below this many entries, those of connections that ended are not looked for.
const FEW: usize = 64;

/// One listener's.
#[derive(Debug, Default)]
pub(crate) struct Certificates(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By fingerprint. At most twice as many as there were connections with different ones, and [`FEW`].
    chains: HashMap<[u8; 32], Weak<ClientChain>>,
    /// How many there may be before those of ended connections are taken out.
    most: usize,
}

impl Certificates {
    /// The same certificates, as other connections have them already, if any does.
    pub(crate) fn share(&self, chain: ClientChain) -> Arc<ClientChain> {
        let fingerprint = chain.fingerprint();
        // The table is complete between any two steps.
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.chains.get(&fingerprint).and_then(Weak::upgrade) {
            return known;
        }
        if table.chains.len() >= table.most {
            table.chains.retain(|_, chain| chain.strong_count() > 0);
            table.most = (2 * table.chains.len()).max(FEW);
        }
        let chain = Arc::new(chain);
        table.chains.insert(fingerprint, Arc::downgrade(&chain));
        chain
    }
}
