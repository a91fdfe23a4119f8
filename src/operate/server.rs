//! Start and end: binds the listeners, builds what is shared, serves, drains.
//!
//! Binding and serving are separate, so that a caller learns the real addresses first (port 0 in tests). The shutdown
//! is an argument: any source of [`Signal`]s will do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use crate::config::{Config, Finding, LogOutput};
use crate::inbound::accept;
use crate::operate::admin;
use crate::operate::apply::{self, PrepareError};
use crate::operate::memory;
use crate::operate::phrases::spoken;
use crate::operate::reload::{self, Reloading, Source};
use crate::operate::resources::{self, Share};
use crate::outbound::certificate;
use crate::outbound::dial::{self, OwnAddresses};
use crate::outbound::resolve;
use crate::state::allowed::Allowed;
use crate::state::budgets::Budgets;
use crate::state::budgets::shared::SharedBudgets;
use crate::state::distrust::Distrusts;
use crate::state::drain::Drain;
use crate::state::history::History;
use crate::state::in_force::Current;
use crate::state::limits::Occupancy;
use crate::state::limits::connections::OpenConnections;
use crate::state::limits::unnamed::Unnamed;
use crate::state::listener::Listener;
use crate::state::live::Live;
use crate::state::passwords::{PasswordLimits, PasswordVerifier};
use crate::state::recent::Recent;
use crate::state::shared::Shared;
use crate::telemetry::access_log::{self, AccessLog, Finished, Json, OnLogFailure, Options, WriterHandle};
use crate::telemetry::metrics::Metrics;
use crate::transport::held::{HeldBytes, Kind};
use crate::transport::socket;
use crate::transport::turns::Turns;
use crate::words::counted::counted;
use crate::words::io_error::reason;
use crate::words::outcome::Ending;

/// How long tunnels that were ended by the shutdown may take to write their records.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// Time between two looks at the answers that the resolver keeps.
const DNS_LOOK: Duration = Duration::from_secs(10);
/// Time between two searches for tunnels to end.
const SWEEP: Duration = Duration::from_millis(50);
/// How long the store may take to take back what was leased; the rest lapses.
const LAST_LEASES: Duration = Duration::from_secs(2);
/// How long the log's writer may take to write what is queued.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// What a running server can be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain; a second one ends at once.
    Terminate,
    /// Reload the configuration and reopen log files.
    HangUp,
}

/// Why the server did not start. The text names the setting at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's or the admin address could not be bound.
    #[error("cannot listen on {address} ({what}): {source}{}", instead(source))]
    Bind {
        /// The address, as configured.
        address: SocketAddr,
        /// The setting that names it.
        what: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The access log's output could not be opened.
    #[error("cannot open the access log, {output} (access_log.output): {}{}", reason(error), for_log(error))]
    Log {
        /// Where it is written.
        output: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The metrics contradict each other: a bug in egressd.
    #[error("cannot set up metrics: {0}")]
    Metrics(String),
    /// The thread that verifies passwords could not be started.
    #[error("cannot verify passwords: {0}")]
    Passwords(io::Error),
    /// Something that the configuration needs cannot be made.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The thread that follows the configuration could not be started.
    #[error("cannot watch the configuration for changes: {0}")]
    Reload(io::Error),
}

/// What to do if an address cannot be bound.
fn instead(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop what listens there (`ss -ltnp` shows it), or use a different port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have this address: 0.0.0.0 and [::] stand for all its addresses"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE: use a higher port",
        _ => "",
    }
}

/// What to do if the access log cannot be opened.
fn for_log(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": make its directory first, or write another path",
        io::ErrorKind::IsADirectory => ": write the path of a file in it, such as access.log",
        io::ErrorKind::PermissionDenied => ": let egressd's user write there, or write another path",
        io::ErrorKind::ReadOnlyFilesystem => {
            ": mount a volume there that can be written, or write `output: stdout`"
        }
        _ => "",
    }
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
    /// [`StartError`]; then nothing stays bound.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let socket = bind(listener.address, || format!("listener {}", listener.name))?;
            listeners.push(socket);
        }
        let admin = bind(config.admin.address, || "admin.address".to_owned())?;
        let mut own = Vec::with_capacity(listeners.len() + 1);
        for socket in listeners.iter().chain([&admin]) {
            own.extend(socket.local_addr());
        }

        let descriptors = descriptors();
        let allowed = Share::of(descriptors, usize::MAX);
        dial::set_extra_attempts(allowed.attempts);
        certificate::set_handshakes(allowed.proofs);
        resolve::set_questions(allowed.questions);
        let live = Live::new();
        let prepared = apply::prepare(&config, None)?;
        let held = HeldBytes::new(memory::limit(&config));
        let (log, writer) = open_log(&config, &held).map_err(|error| {
            let output = match &config.access_log.output {
                LogOutput::Stdout => "stdout".to_owned(),
                LogOutput::File(path) => path.display().to_string(),
            };
            StartError::Log { output, error }
        })?;
        let metrics = Metrics::new(Arc::clone(&live), log.clone(), Arc::clone(&held))
            .map_err(|error| StartError::Metrics(error.to_string()))?;
        let store = prepared.store.clone().map(SharedBudgets::start);
        let budgets = Budgets::with(config.limits.budget_accounts, &held, store);
        metrics.show_budgets(Arc::clone(&budgets)).map_err(|error| StartError::Metrics(error.to_string()))?;
        let now = Timestamp::now();
        let listeners: Vec<(TcpListener, Arc<Listener>)> = listeners
            .into_iter()
            .zip(config.listeners.iter().enumerate())
            .map(|(socket, (index, settings))| (socket, Arc::new(Listener::new(index, settings, &metrics))))
            .collect();
        let passwords = PasswordVerifier::start(PasswordLimits::default()).map_err(StartError::Passwords)?;
        let shared = Arc::new(Shared {
            current: Current::new(config, now),
            resolver: ArcSwap::new(Arc::clone(&prepared.resolver)),
            route: ArcSwap::new(Arc::clone(&prepared.route)),
            own: OwnAddresses::new(own),
            budgets,
            occupancy: Occupancy::new(Instant::now()),
            descriptors,
            tunnels_carried: AtomicUsize::new(0),
            held,
            passwords,
            connections: OpenConnections::new(0),
            strangers: OpenConnections::new(0),
            handshakes: Turns::new(),
            unnamed: Unnamed::new(allowed.unnamed),
            kept: Arc::default(),
            readers: Arc::default(),
            live,
            log,
            metrics: Arc::new(metrics),
            drain: Drain::default(),
            instance: instance(),
            started: now,
            listeners: listeners.iter().map(|(_, listener)| Arc::clone(listener)).collect(),
            recent: Recent::default(),
            allowed: Allowed::default(),
            history: History::default(),
            distrusts: Distrusts::default(),
        });
        apply::apply(&shared.current.load(), prepared, &shared, || now);
        Ok(Server { shared, listeners, admin, writer })
    }

    /// The warnings about its configuration, for the status page.
    pub fn warned(&self, warnings: Vec<Finding>) {
        self.shared.current.warned(warnings);
    }

    /// The proxy listeners with the addresses they got, in the order of the file.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners
            .iter()
            .filter_map(|(socket, listener)| Some((&*listener.name, socket.local_addr().ok()?)))
    }

    /// What its connections share.
    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The admin listener's address.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.local_addr().ok()
    }

    /// Where panics are counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Serves until a signal ends it, and returns when the last record is written. `source` is where the configuration
    /// was read from; the server follows its changes.
    ///
    /// # Errors
    /// [`StartError::Reload`]; then nothing was accepted.
    pub async fn run(self, source: Source, mut signals: Receiver<Signal>) -> Result<(), StartError> {
        let Server { shared, listeners, admin, writer } = self;
        let reloading = reload::start(Arc::clone(&shared), source).map_err(StartError::Reload)?;
        let accepting: Vec<JoinHandle<()>> = listeners
            .into_iter()
            .map(|(socket, listener)| tokio::spawn(accept::serve(socket, listener, Arc::clone(&shared))))
            .collect();
        let admin = tokio::spawn(admin::serve(admin, Arc::clone(&shared)));
        let sampling = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let history = shared.history.keep(&shared.live, &shared.metrics);
                tokio::join!(history, count_dns(&shared), shared.held.keep(), memory::watch(&shared.held));
            }
        });

        until_terminated(&mut signals, &shared, &reloading).await;
        drain(&mut signals, &shared, accepting).await;

        if let Some(store) = shared.budgets.store() {
            store.finish(LAST_LEASES).await;
        }
        // Waits for the writer, but gives up if its output is stuck: the exit never hangs on a stalled pipe.
        if let Ok(Finished::Abandoned(left)) =
            tokio::task::spawn_blocking(move || writer.finish(LAST_FLUSH)).await
        {
            let records = counted(left, "access log record", "access log records");
            tracing::error!("the program ends, and {records} could not be written");
        }
        drop(reloading);
        sampling.abort();
        admin.abort();
        Ok(())
    }
}

fn bind(address: SocketAddr, what: impl Fn() -> String) -> Result<TcpListener, StartError> {
    socket::listen(address).map_err(|source| StartError::Bind { address, what: what(), source })
}

/// Raises the descriptor limit, and returns the limit that is then in force.
fn descriptors() -> u64 {
    resources::raise_descriptor_limit().unwrap_or_else(|error| {
        tracing::warn!("cannot raise the open-file limit: {error}");
        resources::descriptor_limit()
    })
}

fn open_log(config: &Config, held: &Arc<HeldBytes>) -> io::Result<(AccessLog, WriterHandle)> {
    let output = match &config.access_log.output {
        LogOutput::Stdout => access_log::stdout()?,
        LogOutput::File(path) => access_log::file(path)?,
    };
    // `apply::apply` sets what a reload may change.
    let options = Options::new(config.limits.tunnels, OnLogFailure::Deny);
    AccessLog::start(output, Box::new(Json), Options { held: Arc::clone(held), ..options })
}

/// Counts the answers of DNS that are kept as held. They grow slowly, so a look from time to time is enough.
async fn count_dns(shared: &Shared) {
    let mut counted = 0;
    loop {
        let kept = shared.resolver().kept_bytes();
        shared.held.give_back(Kind::Dns, counted);
        shared.held.charge(Kind::Dns, kept);
        counted = kept;
        tokio::time::sleep(DNS_LOOK).await;
    }
}

fn instance() -> Box<str> {
    rustix::system::uname().nodename().to_string_lossy().into()
}

async fn until_terminated(signals: &mut Receiver<Signal>, shared: &Shared, reloading: &Reloading) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Terminate => return,
            Signal::HangUp => {
                shared.log.reopen();
                reloading.request();
            }
        }
    }
}

/// Stops accepting, waits for open tunnels, then ends them. A second TERM skips the wait.
async fn drain(signals: &mut Receiver<Signal>, shared: &Shared, accepting: Vec<JoinHandle<()>>) {
    let settings = shared.current.load().shutdown.clone();
    shared.drain.go();
    if !settings.delay.is_zero() {
        tracing::info!("shutting down: accepting for {} more", spoken(settings.delay));
    }
    tokio::select! {
        () = patiently(shared, settings.delay, settings.grace_period) => {}
        () = terminated_again(signals, shared) => tracing::warn!("second request to shut down: ending at once"),
    }
    shared.drain.end();
    for listener in accepting {
        // A listener that panicked has closed its socket as well.
        let _ = listener.await;
    }
    let mut ended = 0;
    let over = async {
        loop {
            // Again and again: a tunnel that was still dialling when the drain began registers only now.
            ended += shared.live.cancel_where(Ending::Drained, |_| true);
            let all = shared.drain.connections().wait();
            if tokio::time::timeout(SWEEP, all).await.is_ok() {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(LAST_RECORDS, over).await.is_ok();
    if ended > 0 {
        tracing::warn!("the shutdown ended {}", counted(ended, "open tunnel", "open tunnels"));
    }
    if !in_time {
        let connections = counted(shared.drain.connections().len(), "connection", "connections");
        tracing::error!("{connections} did not end in time");
    }
}

async fn patiently(shared: &Shared, delay: Duration, grace_period: Duration) {
    tokio::time::sleep(delay).await;
    match shared.live.tunnels() {
        0 => tracing::info!("draining: no open tunnels"),
        open => {
            let tunnels = counted(open, "open tunnel has", "open tunnels have");
            tracing::info!("draining: {tunnels} up to {}", spoken(grace_period));
        }
    }
    shared.drain.close();
    // Over when the last connection has ended, or when the time is up.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::sync::mpsc;

    use super::*;

    /// Sends until nobody takes it.
    async fn flood(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { while stream.write_all(&[7; 65_536]).await.is_ok() {} });
        }
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_opened_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, why) in [
            (directory.path().join("none/x.log"), ": make its directory first, or write another path"),
            (directory.path().to_owned(), ": write the path of a file in it, such as access.log"),
        ] {
            let text = format!(
                "listeners: [{{address: 127.0.0.1:0}}]\nadmin: {{address: 127.0.0.1:0}}\npolicies: []\naccess_log: {{output: {}}}\n",
                path.display()
            );
            let config =
                crate::config::load_str("c.yaml", &text, |_| Ok(Vec::new())).expect("it is valid").config;
            let told = Server::bind(config).await.map(drop).expect_err("it cannot be opened").to_string();
            let begin = format!("cannot open the access log, {} (access_log.output): ", path.display());
            assert!(told.starts_with(&begin) && told.ends_with(why), "{told}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_drain_gives_every_byte_back() {
        let origin = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let to = origin.local_addr().expect("bound");
        tokio::spawn(flood(origin));
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("egressd.yaml");
        let text = format!(
            "listeners: [{{name: proxy, address: 127.0.0.1:0}}]\nadmin: {{address: 127.0.0.1:0}}\n\
             access_log: {{output: {}}}\nshutdown: {{grace_period: 1h}}\n\
             policies: [{{name: p, private: [127.0.0.0/8], allow: [\"tcp://{to}\", \"https://localhost:{}\"]}}]\n",
            directory.path().join("log").display(),
            to.port(),
        );
        std::fs::write(&file, text).expect("written");
        let (loaded, seen) = reload::load(Some(&file));
        let server = Server::bind(loaded.expect("a configuration").config).await.expect("bound");
        let shared = Arc::clone(server.shared());
        let (_, address) = server.listeners().next().expect("a listener");
        let (tell, told) = mpsc::channel(2);
        let serving = tokio::spawn(server.run(Source { file: Some(file), seen }, told));

        let half_hello = [&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb][..], &[3; 9_000]].concat();
        let mut clients = Vec::new();
        for (ask, more) in [
            (String::new(), Vec::new()),
            ("GET http://half/".to_owned(), vec![b'a'; 9_000]),
            (format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"), Vec::new()),
            (format!("CONNECT localhost:{0} HTTP/1.1\r\nHost: localhost:{0}\r\n\r\n", to.port()), half_hello),
        ] {
            let mut client =
                TcpSocket::new_v4().expect("a socket").connect(address).await.expect("connected");
            client.write_all(ask.as_bytes()).await.expect("sent");
            client.write_all(&more).await.expect("sent");
            clients.push(client);
        }
        let holds = |kind| shared.held.of(kind) > 0;
        let all = [Kind::Connection, Kind::Head, Kind::Hello, Kind::Socket];
        let waiting = async {
            while !all.into_iter().all(holds) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("each holds something");
        for _ in 0..2 {
            tell.send(Signal::Terminate).await.expect("it serves");
        }
        serving.await.expect("no panic").expect("served");
        assert_eq!(shared.held.sum() - shared.held.of(Kind::Dns), 0, "{:?}", shared.held);
    }
}
