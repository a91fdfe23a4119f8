//! The connections to the store: one for each server that has accounts. Sentinel is asked where the master is, a node of a cluster which
//! node has which slots. TLS is the same as to targets. When anything fails, the whole link is dropped and made anew, so there is
//! no second way by which a change of servers is followed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::accounts::{TAGS, slot};
use super::script::{TEXT, words};
use super::settings::Settings;
use crate::config::Credentials;
use crate::transport::tls::client::server_name;
use crate::transport::tls::sentences::{self, Holder};
use crate::words::store_url::StoreKind;
use crate::words::target::{Host, Port};

/// The time for one address. Another one may answer.
const CONNECT: Duration = Duration::from_secs(5);
/// The only policy under which a full server forgets nothing.
const NO_EVICTION: &str = "noeviction";

/// One server.
#[derive(Clone)]
pub(super) struct Node {
    /// Its address, for people.
    pub(super) at: Arc<str>,
    /// The script's name there.
    pub(super) sha: Arc<str>,
    connection: MultiplexedConnection,
}

impl Node {
    /// Sends commands, and returns an answer to each.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) async fn ask(mut self, commands: Vec<Cmd>) -> Result<Vec<Value>, String> {
        let count = commands.len();
        let values = send(&mut self.connection, commands).await?;
        if values.len() == count { Ok(values) } else { Err("it answered too little".to_owned()) }
    }
}

/// All servers that have accounts.
pub(super) struct Link {
    nodes: Vec<Node>,
    /// By tag.
    of_tag: [usize; TAGS],
    /// What moves the bytes of the connections; ends with the link.
    _drivers: JoinSet<()>,
    /// What an operator should know of the servers.
    pub(super) doubts: Vec<String>,
}

impl Link {
    /// Connects to every server that has accounts.
    ///
    /// # Errors
    /// What failed, with the address.
    pub(super) async fn open(settings: &Settings) -> Result<Self, String> {
        let mut opening = Opening { settings, drivers: JoinSet::new(), doubts: Vec::new() };
        let url = &settings.store.url;
        let (nodes, of_tag) = match &url.kind {
            StoreKind::Single => {
                let (host, port) = url.at.first().ok_or("there is no address")?;
                (vec![opening.node(host, *port).await?], [0; TAGS])
            }
            StoreKind::Sentinel(master) => {
                let mut found = Vec::new();
                for (host, port) in &url.at {
                    found.push(opening.master(master, host, *port).await);
                    if found.last().is_some_and(Result::is_ok) {
                        break;
                    }
                }
                let (host, port) = first(found)?;
                (vec![opening.node(&host, port).await?], [0; TAGS])
            }
            StoreKind::Cluster => {
                let mut found = Vec::new();
                for (host, port) in &url.at {
                    found.push(opening.shards(host, *port).await);
                    if found.last().is_some_and(Result::is_ok) {
                        break;
                    }
                }
                Box::pin(opening.cluster(&first(found)?)).await?
            }
        };
        let Opening { drivers, doubts, .. } = opening;
        Ok(Link { nodes, of_tag, _drivers: drivers, doubts })
    }

    /// All servers.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The number of the server that has accounts with this tag.
    pub(super) fn number_of(&self, tag: usize) -> usize {
        self.of_tag.get(tag).copied().unwrap_or(0)
    }

    /// Their addresses, for people.
    pub(super) fn at(&self) -> String {
        let at: Vec<&str> = self.nodes.iter().map(|node| &*node.at).collect();
        at.join(", ")
    }
}

/// Slots from the first to the second, and the node that has them.
type Shard = (u16, u16, Host, Port);

struct Opening<'s> {
    settings: &'s Settings,
    drivers: JoinSet<()>,
    doubts: Vec<String>,
}

impl Opening<'_> {
    /// A server that is ready for the script.
    async fn node(&mut self, host: &Host, port: Port) -> Result<Node, String> {
        let at = format!("{host}:{port}");
        let named = |error: String| format!("{at}: {error}");
        let credentials = self.settings.store.credentials.as_ref();
        let database = i64::from(self.settings.store.url.database);
        let mut connection = self.connect(host, port, credentials, database).await.map_err(named)?;
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(TEXT);
        let (mut memory, mut role) = (redis::cmd("INFO"), redis::cmd("ROLE"));
        memory.arg("memory");
        role.arg(&[] as &[&str]);
        let values = send(&mut connection, vec![load, memory, role]).await.map_err(named)?;
        let [sha, memory, role] = values.as_slice() else {
            return Err(named("it answered too little".to_owned()));
        };
        let sha: Arc<str> = text(sha).map_err(named)?.into();
        if let Value::Array(parts) = role
            && parts.first().is_some_and(|role| text(role).is_ok_and(|role| role != "master"))
        {
            return Err(named("it is a replica, which cannot be written to".to_owned()));
        }
        // Who may not ask for it cannot be told.
        let memory = text(memory).unwrap_or_default();
        let policy = memory.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).map(str::trim);
        if let Some(policy) = policy.filter(|policy| *policy != NO_EVICTION) {
            self.doubts.push(format!(
                "the store at {at} has `maxmemory-policy {policy}`: when its memory is full it forgets what was sent, and budgets are \
                 granted again; set `maxmemory-policy {NO_EVICTION}`"
            ));
        }
        Ok(Node { at: at.into(), sha, connection })
    }

    /// Where Sentinel says that the master is.
    async fn master(&mut self, name: &str, host: &Host, port: Port) -> Result<(Host, Port), String> {
        let named = |error: String| format!("Sentinel {host}:{port}: {error}");
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let values = self.sentinel(host, port, ask).await.map_err(named)?;
        match values.as_slice() {
            [Value::Array(parts)] => match parts.as_slice() {
                [host, port] => {
                    place(&text(host).map_err(named)?, &text(port).map_err(named)?).map_err(named)
                }
                _ => Err(named("it did not say where the master is".to_owned())),
            },
            [Value::Nil] => Err(named(format!("it knows no master `{name}`"))),
            [Value::ServerError(error)] => Err(named(words(error))),
            _ => Err(named("it did not say where the master is".to_owned())),
        }
    }

    /// Sentinel may want no credentials, or those of the store.
    async fn sentinel(&mut self, host: &Host, port: Port, ask: Cmd) -> Result<Vec<Value>, String> {
        let mut connection = self.connect(host, port, None, 0).await?;
        let values = send(&mut connection, vec![ask.clone()]).await?;
        let credentials = self.settings.store.credentials.as_ref();
        match values.first() {
            Some(Value::ServerError(error)) if error.code() == "NOAUTH" && credentials.is_some() => {
                let mut connection = self.connect(host, port, credentials, 0).await?;
                send(&mut connection, vec![ask]).await
            }
            _ => Ok(values),
        }
    }

    /// Which node of the cluster has which slots.
    async fn shards(&mut self, host: &Host, port: Port) -> Result<Vec<Shard>, String> {
        let named = |error: String| format!("{host}:{port}: {error}");
        let credentials = self.settings.store.credentials.as_ref();
        let mut connection = self.connect(host, port, credentials, 0).await.map_err(named)?;
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("SLOTS");
        let values = send(&mut connection, vec![ask]).await.map_err(named)?;
        let ranges = match values.as_slice() {
            [Value::Array(ranges)] => ranges,
            [Value::ServerError(error)] => return Err(named(words(error))),
            _ => return Err(named("it did not say which node has which slots".to_owned())),
        };
        let mut shards = Vec::with_capacity(ranges.len());
        for range in ranges {
            let Value::Array(parts) = range else { continue };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else {
                continue;
            };
            let [name, number, ..] = master.as_slice() else { continue };
            let name = text(name).unwrap_or_default();
            let at = match (number, name.as_str()) {
                // The one that was asked.
                (Value::Int(number), "" | "?") => place(&host.to_string(), &number.to_string()),
                (Value::Int(number), name) => place(name, &number.to_string()),
                _ => continue,
            };
            let (at, port) = at.map_err(named)?;
            if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) {
                shards.push((first, last, at, port));
            }
        }
        Ok(shards)
    }

    async fn cluster(&mut self, shards: &[Shard]) -> Result<(Vec<Node>, [usize; TAGS]), String> {
        let (mut nodes, mut numbers, mut of_tag) = (Vec::new(), BTreeMap::new(), [0; TAGS]);
        for (tag, number) in of_tag.iter_mut().enumerate() {
            let slot = slot(tag);
            let shard = shards.iter().find(|(first, last, ..)| (*first..=*last).contains(&slot));
            let Some((_, _, host, port)) = shard else {
                return Err(format!("no node of the cluster has slot {slot}"));
            };
            let at = format!("{host}:{port}");
            *number = match numbers.get(&at) {
                Some(number) => *number,
                None => {
                    nodes.push(self.node(host, *port).await?);
                    numbers.insert(at, nodes.len() - 1);
                    nodes.len() - 1
                }
            };
        }
        Ok((nodes, of_tag))
    }

    async fn connect(
        &mut self,
        host: &Host,
        port: Port,
        credentials: Option<&Credentials>,
        database: i64,
    ) -> Result<MultiplexedConnection, String> {
        let stream = dial(host, port).await.map_err(|error| format!("cannot connect: {error}"))?;
        // Each question is one small packet.
        let _ = stream.set_nodelay(true);
        let mut info = RedisConnectionInfo::default()
            .set_db(database)
            .set_lib_name("egressd", env!("CARGO_PKG_VERSION"));
        if let Some((user, password)) =
            credentials.and_then(|credentials| credentials.as_str().split_once(':'))
        {
            info = info.set_username(user).set_password(password);
        }
        let Some(tls) = &self.settings.tls else { return Box::pin(self.speak(&info, stream)).await };
        let name = server_name(host).ok_or_else(|| format!("no certificate can name {host}"))?;
        let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        let stream = Box::pin(handshake).await.map_err(|error| {
            format!("the TLS handshake failed: {}", sentences::of_io(&error, Holder::Server))
        })?;
        Box::pin(self.speak(&info, stream)).await
    }

    async fn speak<S>(
        &mut self,
        info: &RedisConnectionInfo,
        stream: S,
    ) -> Result<MultiplexedConnection, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The client has deadlines of its own.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (connection, driver) = MultiplexedConnection::new_with_config(info, stream, config)
            .await
            .map_err(|error| one_line(&error.to_string()))?;
        self.drivers.spawn(driver);
        Ok(connection)
    }
}

/// What the last address said, if it said anything; else why none of them did.
fn first<T>(asked: Vec<Result<T, String>>) -> Result<T, String> {
    let mut failed = Vec::new();
    for one in asked {
        match one {
            Ok(found) => return Ok(found),
            Err(error) => failed.push(error),
        }
    }
    Err(failed.join("; "))
}

/// The first address that accepts, of those that the system knows for the host.
#[expect(
    clippy::disallowed_methods,
    reason = "the operator names the store, and no client: no rule is asked"
)]
async fn dial(host: &Host, port: Port) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match host {
        Host::Address(address) => vec![SocketAddr::new(*address, port.get())],
        Host::Name(name) => lookup_host((name.as_str(), port.get())).await?.collect(),
    };
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

async fn send(connection: &mut MultiplexedConnection, commands: Vec<Cmd>) -> Result<Vec<Value>, String> {
    let count = commands.len();
    let mut pipeline = Pipeline::with_capacity(count);
    for command in commands {
        pipeline.add_command(command);
    }
    connection
        .send_packed_commands(&pipeline, 0, count)
        .await
        .map_err(|error| format!("the connection failed: {}", one_line(&error.to_string())))
}

fn place(host: &str, port: &str) -> Result<(Host, Port), String> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let wrong = || format!("{host:?}:{port:?} is no address");
    Ok((Host::parse(&host).map_err(|_| wrong())?, Port::parse(port).map_err(|_| wrong())?))
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::BulkString(bytes) => {
            String::from_utf8(bytes.clone()).map_err(|_| "it answered no text".to_owned())
        }
        Value::SimpleString(text) => Ok(text.clone()),
        Value::VerbatimString { text, .. } => Ok(text.clone()),
        Value::ServerError(error) => Err(words(error)),
        _ => Err("it answered no text".to_owned()),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
