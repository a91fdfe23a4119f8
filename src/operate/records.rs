//! The access log and the copies of it, as the server opens and ends them.
//!
//! Not here: what is written ([`crate::telemetry::access_log`]) and what is sent ([`crate::telemetry::otlp`]).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, LogOutput};
use crate::state::shared::Shared;
use crate::telemetry::access_log::{
    self, AccessLog, Finished, Json, OnLogFailure, Options, Sealing, WriterHandle,
};
use crate::telemetry::otlp::{Environment, Exporter, Exporting, InForce, Pace, Resource, SettingsError};
use crate::transport::held::HeldBytes;
use crate::words::counted::counted;

/// How long the log's writer may take to write what is queued, and the exporter to send it.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// Why records cannot be kept.
pub(super) enum OpenError {
    /// The output cannot be opened.
    Output(io::Error),
    /// The copies have nowhere to go.
    Otlp(SettingsError),
}

/// Opened, not yet in use.
#[derive(Debug)]
pub(super) struct Records {
    writer: WriterHandle,
    exporter: Option<Exporter>,
}

/// In use.
pub(super) struct Running {
    writer: WriterHandle,
    exporting: Option<Exporting>,
}

/// Opens the log of `config`, and sets up the copies.
pub(super) fn open(
    config: &Config,
    held: &Arc<HeldBytes>,
    instance: &str,
) -> Result<(AccessLog, Records), OpenError> {
    let environment = Environment::of_process();
    let resource = Resource::new(&environment, instance);
    let exporter = Exporter::new(config, environment, resource, Arc::clone(held), Pace::default())
        .map_err(OpenError::Otlp)?;
    let copies = exporter.as_ref().map(|exporter| exporter.outbox().clone());
    let output = match &config.access_log.output {
        LogOutput::Stdout => access_log::stdout(),
        LogOutput::File(path) => access_log::file(path),
    };
    // `apply::apply` sets what a reload may change.
    let options = Options::new(config.limits.tunnels, OnLogFailure::Deny);
    let sealing = config.access_log.seal.clone().map(|seal| Sealing { seal, instance: instance.into() });
    let options = Options { held: Arc::clone(held), sealing, copies, ..options };
    let (log, writer) = output
        .and_then(|output| AccessLog::start(output, Box::new(Json), options))
        .map_err(OpenError::Output)?;
    Ok((log, Records { writer, exporter }))
}

impl Records {
    /// Begins to send copies.
    pub(super) fn start(self, shared: &Arc<Shared>) -> Running {
        let Records { writer, exporter } = self;
        let exporting = exporter.map(|exporter| {
            let of = Arc::clone(shared);
            let in_force = move || InForce { config: of.current.load(), resolver: of.resolver() };
            exporter.start(shared.own.clone(), in_force)
        });
        Running { writer, exporting }
    }
}

impl Running {
    /// Waits until everything is written and sent, but gives up if the output or the receiver is stuck: the exit never hangs on a
    /// stalled pipe.
    pub(super) async fn finish(self) {
        let Running { writer, exporting } = self;
        let written = tokio::task::spawn_blocking(move || writer.finish(LAST_FLUSH));
        let copied = async {
            match exporting {
                Some(exporting) => exporting.finish(LAST_FLUSH).await,
                None => 0,
            }
        };
        let (written, not_copied) = tokio::join!(written, copied);
        if let Ok(Finished::Abandoned(left)) = written {
            let records = match left {
                0 => "the last seal of the access log".to_owned(),
                _ => counted(left, "access log record", "access log records"),
            };
            tracing::error!("the program ends, and {records} could not be written");
        }
        if not_copied > 0 {
            let left = usize::try_from(not_copied).unwrap_or(usize::MAX);
            let records = counted(left, "access log record", "access log records");
            tracing::error!("the program ends, and {records} could not be copied to the OTLP receiver");
        }
    }
}
