//! Where a file says what a running server cannot change, so that a refusal can name line and column.
//!
//! Not here: what these are, which [`Config`](super::Config) knows, and the refusal itself (`reload`).

use super::file::{ConfigFile, ListenerFile};
use super::finding::Place;
use super::keys::{Key, items, value};

/// The places of the settings that are fixed at start. What is left out stands where it would be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixed {
    /// The list.
    pub listeners: Place,
    /// Each listener, in the order of [`Config::listeners`](super::Config::listeners); empty where the list is left out.
    pub each: Vec<FixedListener>,
    /// `admin.address`.
    pub admin_address: Place,
    /// `admin.proxy_protocol`.
    pub admin_proxy_protocol: Place,
    /// `access_log.output`.
    pub output: Place,
}

/// The places of one listener's settings that are fixed at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FixedListener {
    /// `address`.
    pub address: Place,
    /// `tls`.
    pub tls: Place,
    /// `proxy_protocol`.
    pub proxy_protocol: Place,
}

impl Fixed {
    /// Of a file without errors.
    pub(super) fn of(file: &ConfigFile) -> Self {
        let admin = place(&file.admin, Place::START);
        let log = place(&file.access_log, Place::START);
        let fields = value(&file.admin);
        Fixed {
            listeners: file.listeners.as_ref().map_or(Place::START, |at| at.place),
            each: items(&file.listeners)
                .map(|(listener, around)| FixedListener::of(listener, around))
                .collect(),
            admin_address: fields.map_or(admin, |fields| place(&fields.address, admin)),
            admin_proxy_protocol: fields.map_or(admin, |fields| place(&fields.proxy_protocol, admin)),
            output: value(&file.access_log).map_or(log, |fields| place(&fields.output, log)),
        }
    }
}

impl FixedListener {
    fn of(file: &ListenerFile, around: Place) -> Self {
        FixedListener {
            address: place(&file.address, around),
            tls: place(&file.tls, around),
            proxy_protocol: place(&file.proxy_protocol, around),
        }
    }
}

fn place<T>(key: &Key<T>, left_out: Place) -> Place {
    key.as_ref().map_or(left_out, |at| at.place)
}
