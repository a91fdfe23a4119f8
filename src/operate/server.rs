//! Start and end: binds the listeners, builds what is shared, serves, drains.
//!
//! Binding and serving are separate, so that a caller learns the real addresses first (port 0 in tests). The shutdown
//! is an argument: any source of [`Signal`]s will do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use crate::config::{self, Config, Finding, ListenAddress, LogOutput};
use crate::inbound::accept;
use crate::inbound::door::Door;
use crate::operate::admin;
use crate::operate::apply::{self, PrepareError};
use crate::operate::ending::{Signal, Sockets, drain};
use crate::operate::memory;
use crate::operate::records::{self, OpenError, Records};
use crate::operate::reload::{self, Reloading, Source};
use crate::operate::resources::{self, Share};
use crate::operate::systemd::passed::{Assigned, Misfits};
use crate::operate::systemd::{Manager, Passed, watchdog};
use crate::outbound::certificate;
use crate::outbound::dial::{self, OwnAddresses};
use crate::outbound::resolve;
use crate::state::allowed::Allowed;
use crate::state::budgets::Budgets;
use crate::state::budgets::shared::SharedBudgets;
use crate::state::distrust::Distrusts;
use crate::state::drain::Drain;
use crate::state::hellos::Hellos;
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
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp::SettingsError;
use crate::transport::held::{HeldBytes, Kind};
use crate::transport::redirected;
use crate::transport::socket;
use crate::transport::turns::{self, Turns};
use crate::transport::unix::{BindError, UnixDoor};
use crate::words::io_error::reason;

/// Time between two looks at the answers that the resolver keeps.
const DNS_LOOK: Duration = Duration::from_secs(10);
/// How long the store may take to take back what was leased; the rest lapses.
const LAST_LEASES: Duration = Duration::from_secs(2);

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
    /// A unix socket could not be made.
    #[error("cannot listen on {address} (listener {name}): {source}")]
    Unix {
        /// The address, as configured.
        address: String,
        /// The listener.
        name: String,
        /// Why.
        source: BindError,
    },
    /// A socket that was passed is not what the configuration says.
    #[error("{0}")]
    Passed(Misfits),
    /// The access log's output could not be opened.
    #[error("cannot open the access log, {output} (access_log.output): {}{}", reason(error), for_log(error))]
    Log {
        /// Where it is written.
        output: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The environment or a file says something of OTLP that cannot be used.
    #[error("cannot copy the access log (access_log.otlp): {0}")]
    Otlp(SettingsError),
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
    listeners: Vec<(Door, Arc<Listener>)>,
    admin: TcpListener,
    sockets: Sockets,
    records: Records,
}

impl Server {
    /// Binds every address of `config` and opens the log.
    ///
    /// # Errors
    /// [`StartError`]; then nothing stays bound.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        Server::bind_with(config, Passed::default()).await
    }

    /// The same, on the sockets that were passed; what has none is bound.
    ///
    /// # Errors
    /// As of [`Server::bind`].
    pub async fn bind_with(config: Config, passed: Passed) -> Result<Self, StartError> {
        let Assigned { listeners: passed, admin: passed_admin } =
            passed.assign(&config).map_err(StartError::Passed)?;
        let is_passed = passed.iter().any(Option::is_some);
        let sockets = if is_passed { Sockets::Passed } else { Sockets::Own };
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for (listener, passed) in config.listeners.iter().zip(passed) {
            listeners.push(open(listener, passed)?);
        }
        let admin = bind(config.admin.address, passed_admin, || "admin.address".to_owned())?;
        let mut own = Vec::with_capacity(listeners.len() + 1);
        for door in &listeners {
            own.extend(port_of(door));
        }
        own.extend(admin.local_addr());

        let descriptors = descriptors();
        let allowed = Share::of(descriptors, usize::MAX);
        dial::set_extra_attempts(allowed.attempts);
        certificate::set_handshakes(allowed.proofs);
        resolve::set_questions(allowed.questions);
        let quota = resources::quota();
        if let Some((quota, period)) = quota {
            turns::keep_to(quota, period);
        }
        let live = Live::new();
        let prepared = apply::prepare(&config, None)?;
        let held = HeldBytes::new(memory::limit(&config));
        let instance = instance();
        let (log, records) = records::open(&config, &held, &instance).map_err(|error| match error {
            OpenError::Otlp(error) => StartError::Otlp(error),
            OpenError::Output(error) => {
                let output = match &config.access_log.output {
                    LogOutput::Stdout => "stdout".to_owned(),
                    LogOutput::File(path) => path.display().to_string(),
                };
                StartError::Log { output, error }
            }
        })?;
        let metrics = Metrics::new(Arc::clone(&live), log.clone(), Arc::clone(&held))
            .map_err(|error| StartError::Metrics(error.to_string()))?;
        let store = prepared.store.clone().map(SharedBudgets::start);
        let budgets = Budgets::with(config.limits.budget_accounts, &held, store);
        metrics.show_budgets(Arc::clone(&budgets)).map_err(|error| StartError::Metrics(error.to_string()))?;
        let now = Timestamp::now();
        let listeners: Vec<(Door, Arc<Listener>)> = listeners
            .into_iter()
            .zip(config.listeners.iter().enumerate())
            .map(|(socket, (index, settings))| (socket, Arc::new(Listener::new(index, settings, &metrics))))
            .collect();
        // One thread can use so small a quota up.
        let is_little = quota.is_some_and(|(quota, period)| quota < period * 2);
        let passwords = if is_little { PasswordLimits::under_quota() } else { PasswordLimits::default() };
        let passwords = PasswordVerifier::start(passwords).map_err(StartError::Passwords)?;
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
            instance,
            started: now,
            listeners: listeners.iter().map(|(_, listener)| Arc::clone(listener)).collect(),
            recent: Recent::default(),
            allowed: Allowed::default(),
            history: History::default(),
            distrusts: Distrusts::default(),
            hellos: Hellos::default(),
        });
        apply::apply(&shared.current.load(), prepared, &shared, || now);
        Ok(Server { shared, listeners, admin, sockets, records })
    }

    /// The warnings about its configuration, for the status page.
    pub fn warned(&self, warnings: Vec<Finding>) {
        self.shared.current.warned(warnings);
    }

    /// The proxy listeners with the addresses they got, in the order of the file.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners.iter().filter_map(|(door, listener)| Some((&*listener.name, port_of(door)?)))
    }

    /// Those that are unix sockets, with their paths.
    pub fn sockets(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.listeners.iter().filter_map(|(door, listener)| match door {
            Door::Tcp(_) => None,
            Door::Unix(door) => Some((&*listener.name, door.path())),
        })
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
    /// was read from; the server follows its changes. `manager` is told how far it is.
    ///
    /// # Errors
    /// [`StartError::Reload`]; then nothing was accepted.
    pub async fn run(
        self,
        source: Source,
        mut signals: Receiver<Signal>,
        manager: Manager,
    ) -> Result<(), StartError> {
        let Server { shared, listeners, admin, sockets, records } = self;
        let reloading =
            reload::start(Arc::clone(&shared), source, manager.clone()).map_err(StartError::Reload)?;
        let accepting: Vec<JoinHandle<()>> = listeners
            .into_iter()
            .map(|(socket, listener)| tokio::spawn(accept::serve(socket, listener, Arc::clone(&shared))))
            .collect();
        let admin = tokio::spawn(admin::serve(admin, Arc::clone(&shared)));
        let records = records.start(&shared);
        let sampling = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let history = shared.history.keep(&shared.live, &shared.metrics);
                tokio::join!(history, count_dns(&shared), shared.held.keep(), memory::watch(&shared.held));
            }
        });

        manager.ready(&shared.current.in_force());
        let alive =
            watchdog::period().map(|period| tokio::spawn(watchdog::keep_telling(manager.clone(), period)));
        until_terminated(&mut signals, &shared, &reloading).await;
        drain(&mut signals, &shared, sockets, accepting, &manager).await;

        if let Some(store) = shared.budgets.store() {
            store.finish(LAST_LEASES).await;
        }
        records.finish().await;
        drop(reloading);
        sampling.abort();
        admin.abort();
        if let Some(alive) = alive {
            alive.abort();
        }
        Ok(())
    }
}

/// Opens the door of one listener: the socket that was passed, if one was.
fn open(listener: &config::Listener, passed: Option<std::net::TcpListener>) -> Result<Door, StartError> {
    match &listener.address {
        ListenAddress::Ip(address) => {
            let socket = bind(*address, passed, || format!("listener {}", listener.name))?;
            if listener.protocols.transparent
                && let Err(error) = redirected::take_foreign(&socket, *address)
            {
                tracing::info!(
                    "listener {}: connections that TPROXY leads here do not arrive, which needs CAP_NET_ADMIN ({error}); those that \
                     REDIRECT or DNS leads here do",
                    listener.name
                );
            }
            Ok(Door::Tcp(socket))
        }
        ListenAddress::Unix { path, permissions } => match UnixDoor::bind(path, *permissions) {
            Ok(door) => Ok(Door::Unix(Box::new(door))),
            Err(source) => {
                let (address, name) = (listener.address.to_string(), listener.name.to_string());
                Err(StartError::Unix { address, name, source })
            }
        },
    }
}

fn port_of(door: &Door) -> Option<SocketAddr> {
    match door {
        Door::Tcp(socket) => socket.local_addr().ok(),
        Door::Unix(_) => None,
    }
}

fn bind(
    address: SocketAddr,
    passed: Option<std::net::TcpListener>,
    what: impl Fn() -> String,
) -> Result<TcpListener, StartError> {
    let listening = passed.map_or_else(|| socket::listen(address), socket::listen_on);
    listening.map_err(|source| StartError::Bind { address, what: what(), source })
}

/// Raises the descriptor limit, and returns the limit that is then in force.
fn descriptors() -> u64 {
    resources::raise_descriptor_limit().unwrap_or_else(|error| {
        tracing::warn!("cannot raise the open-file limit: {error}");
        resources::descriptor_limit()
    })
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
        let serving = tokio::spawn(server.run(Source { file: Some(file), seen }, told, Manager::default()));

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
