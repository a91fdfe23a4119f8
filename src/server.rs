//! The program running: bind, serve, drain, end.
//!
//! Binding and serving are apart, so that a caller learns the real addresses first (port 0 in tests). The shutdown is
//! an argument: any source of [`Signal`]s will do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use crate::budget::Budgets;
use crate::config::{Config, LogOutput};
use crate::current::Current;
use crate::dial::OwnAddresses;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::listener::{self, Listener, Open};
use crate::live::Live;
use crate::outcome::Ending;
use crate::resolve::Resolver;
use crate::route::Route;
use crate::shared::Shared;
use crate::telemetry::access_log::{self, AccessLog, Finished, Json, Options, WriterHandle};
use crate::telemetry::metrics::Metrics;
use crate::upstream_tls::TrustError;
use crate::{admin, reload, resources};

/// How long tunnels that were told to end may take to write their records.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// How long the log's writer may take to write what is queued.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// What the outside may tell a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain; a second one ends at once.
    Terminate,
    /// Reload the configuration and reopen log files.
    HangUp,
}

/// Where a configuration was read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// `None`: the embedded default.
    pub file: Option<PathBuf>,
    /// The moment before it was read.
    pub read_at: SystemTime,
}

/// Why the server did not start. The text names the setting at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's or the admin address could not be bound.
    #[error("cannot listen on {address} ({what}): {source}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// Which setting names it.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The access log's output could not be opened.
    #[error("cannot open the access log: {0}")]
    Log(io::Error),
    /// The metrics contradict each other: a fault of egressd.
    #[error("cannot set up metrics: {0}")]
    Metrics(String),
    /// No resolver could be made of `dns` and the system's files.
    #[error("cannot set up DNS: {0}")]
    Dns(String),
    /// A rule or a parent proxy needs authorities to trust, and there are none.
    #[error("cannot set up upstreams: {0}")]
    Trust(#[from] TrustError),
}

/// Bound, not yet serving.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<(TcpListener, Arc<Listener>)>,
    admin: TcpListener,
    writer: WriterHandle,
}

impl Server {
    /// Binds every address of `config` and opens the log.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left bound then.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let socket = bind(listener.address, || format!("listener {}", listener.name)).await?;
            listeners.push((socket, Arc::clone(&listener.name)));
        }
        let admin = bind(config.admin.address, || "admin.address".to_owned()).await?;
        let mut own = Vec::with_capacity(listeners.len() + 1);
        for socket in listeners.iter().map(|(socket, _)| socket).chain([&admin]) {
            own.extend(socket.local_addr());
        }

        let share = descriptors(config.limits.tunnels);
        let live = Live::new();
        let resolver = Resolver::new(&config.dns).map_err(|error| StartError::Dns(error.to_string()))?;
        let route = Route::new(&config)?;
        let (log, writer) = open_log(&config, share.tunnels).map_err(StartError::Log)?;
        let metrics = Metrics::new(Arc::clone(&live), log.clone())
            .map_err(|error| StartError::Metrics(error.to_string()))?;
        reload::count(&metrics, &config);
        let listeners = listeners
            .into_iter()
            .map(|(socket, name)| {
                let connections = metrics.connections(&name);
                (socket, Arc::new(Listener { name, connections }))
            })
            .collect();
        let shared = Arc::new(Shared {
            current: Current::new(config),
            resolver: ArcSwap::from_pointee(resolver),
            route: ArcSwap::from_pointee(route),
            own: OwnAddresses::new(own),
            budgets: Budgets::new(),
            limits: Limits::new(Instant::now()),
            tunnels_carried: share.tunnels,
            connections: Open::new(share.connections),
            live,
            log,
            metrics: Arc::new(metrics),
            drain: Drain::default(),
            instance: instance(),
        });
        Ok(Server { shared, listeners, admin, writer })
    }

    /// The proxy listeners with the addresses they got, in the order of the file.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners
            .iter()
            .filter_map(|(socket, listener)| Some((&*listener.name, socket.local_addr().ok()?)))
    }

    /// The admin listener's address.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.local_addr().ok()
    }

    /// Serves until the signals say otherwise, and returns when the last record is written. `source` is where the
    /// configuration was read from, to be watched.
    pub async fn run(self, source: Source, mut signals: Receiver<Signal>) {
        let Server { shared, listeners, admin, writer } = self;
        let accepting: Vec<JoinHandle<()>> = listeners
            .into_iter()
            .map(|(socket, listener)| tokio::spawn(listener::serve(socket, listener, Arc::clone(&shared))))
            .collect();
        let admin = tokio::spawn(admin::serve(admin, Arc::clone(&shared)));
        let requested = Arc::new(reload::Requested::default());
        let Source { file, read_at } = source;
        let reloading = tokio::spawn(reload::run(Arc::clone(&shared), file, read_at, Arc::clone(&requested)));

        until_terminated(&mut signals, &shared, &requested).await;
        drain(&mut signals, &shared, accepting).await;

        // The writer is waited for, and given up where its output is stuck: exit never hangs on a stalled pipe.
        if let Ok(Finished::Abandoned(left)) =
            tokio::task::spawn_blocking(move || writer.finish(LAST_FLUSH)).await
        {
            tracing::error!("{left} access log records could not be written");
        }
        reloading.abort();
        admin.abort();
    }
}

async fn bind(address: SocketAddr, what: impl Fn() -> String) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, what: what(), source })
}

/// Raises the descriptor limit, shares it out and says so.
fn descriptors(wanted: usize) -> resources::Share {
    let limit = resources::raise_descriptor_limit().unwrap_or_else(|error| {
        tracing::warn!("cannot raise the limit of open descriptors: {error}");
        resources::descriptor_limit()
    });
    let share = resources::Share::of(limit, wanted);
    if share.tunnels < wanted {
        tracing::warn!(
            "limits.tunnels lowered from {wanted} to {}: {limit} open descriptors carry no more",
            share.tunnels
        );
    }
    share
}

fn open_log(config: &Config, tunnels: usize) -> io::Result<(AccessLog, WriterHandle)> {
    let output = match &config.access_log.output {
        LogOutput::Stdout => access_log::stdout()?,
        LogOutput::File(path) => access_log::file(path)?,
    };
    AccessLog::start(output, Box::new(Json), Options::new(tunnels, config.access_log.on_failure))
}

fn instance() -> Box<str> {
    rustix::system::uname().nodename().to_string_lossy().into()
}

async fn until_terminated(signals: &mut Receiver<Signal>, shared: &Shared, requested: &reload::Requested) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Terminate => return,
            Signal::HangUp => {
                shared.log.reopen();
                requested.now();
            }
        }
    }
}

/// Stops accepting, waits for what flows, then ends it. A second TERM skips the waiting.
async fn drain(signals: &mut Receiver<Signal>, shared: &Shared, accepting: Vec<JoinHandle<()>>) {
    let settings = shared.current.load().shutdown.clone();
    shared.drain.go();
    tracing::info!(
        "draining: accepting for another {:?}, then waiting up to {:?} for {} tunnels",
        settings.delay,
        settings.grace_period,
        shared.live.len()
    );
    tokio::select! {
        () = patiently(shared, settings.delay, settings.grace_period) => {}
        () = terminated_again(signals, shared) => tracing::warn!("terminated a second time: ending at once"),
    }
    shared.drain.end();
    for listener in accepting {
        // A listener that panicked has closed its socket as well.
        let _ = listener.await;
    }
    let ended = shared.live.cancel_where(Ending::Drained, |_| true);
    if ended > 0 {
        tracing::warn!("{ended} tunnels ended by the shutdown");
    }
    if tokio::time::timeout(LAST_RECORDS, shared.drain.connections().wait()).await.is_err() {
        tracing::error!("{} connections did not end in time", shared.drain.connections().len());
    }
}

async fn patiently(shared: &Shared, delay: Duration, grace_period: Duration) {
    tokio::time::sleep(delay).await;
    shared.drain.close();
    // Over when the last connection has ended, or the time is.
    let _ = tokio::time::timeout(grace_period, shared.drain.connections().wait()).await;
}

async fn terminated_again(signals: &mut Receiver<Signal>, shared: &Shared) {
    loop {
        match signals.recv().await {
            Some(Signal::Terminate) => return,
            Some(Signal::HangUp) => shared.log.reopen(),
            None => std::future::pending().await,
        }
    }
}
