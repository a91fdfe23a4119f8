//! The format of records under a configuration.
//!
//! Not here: the formats themselves ([`super::access_log::Json`], [`super::squid`]).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::access_log::{Ecs, Format, Json, Ocsf};
use super::squid::Squid;
use crate::config::LogFormat;
use crate::rules::HostSet;

/// The configured format. `parent`: whether targets are reached through a parent proxy, which Squid's formats name; it has those that are
/// reached without it.
pub fn format(format: &LogFormat, parent: Option<Arc<HostSet>>, lines: Arc<AtomicU64>) -> Box<dyn Format> {
    match format {
        LogFormat::Json => Box::new(Json),
        LogFormat::Ecs => Box::new(Ecs),
        LogFormat::Ocsf => Box::new(Ocsf),
        LogFormat::Squid => Box::new(Squid::native(parent, lines)),
        LogFormat::Custom(format) => Box::new(Squid::new(format.as_ref().clone(), parent, lines)),
    }
}
