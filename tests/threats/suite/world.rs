//! The world in which the attacks are sent: names, the targets to which they resolve, and what reached those targets.
//!
//! There are two stages. On loopback every target has its own address in 127.0.0.0/8 and free ports, which the rules name
//! and `private` opens: this needs no rights on the machine. In a network namespace in which every address is local
//! (`tests/threats/run`) the ports are the real ones, and the addresses are public, private and link-local as in production, so
//! that a proxy with its own deployment's configuration can be tested.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ServerConfig, ServerConnection};

use super::hello;
use crate::support::{Authority, Conversation, DEADLINE, Kind, Names, Origin, Question, Says, Seen, until};

/// The targets, each at its own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The allowed target: TLS, and a lenient web server.
    Ok = 1,
    /// A target that no rule allows; it answers like `Ok`.
    Evil = 2,
    /// A target that every address check has to refuse: on loopback it is not in `private`, in the namespace it is of RFC 1918.
    Private = 3,
    /// Sends `SSH-2.0-` as soon as it is connected.
    ServerFirst = 4,
    /// Answers a hello with a HelloRetryRequest.
    Retry = 5,
    /// Answers a hello with something that is not TLS.
    Mimic = 6,
    /// Answers every plain request with 101.
    Switch = 7,
}

const PLACES: [Place; 7] =
    [Place::Ok, Place::Evil, Place::Private, Place::ServerFirst, Place::Retry, Place::Mimic, Place::Switch];

/// The addresses of the targets.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// 127.A.B.x.
    Loopback(u8, u8),
    Namespace,
}

impl Stage {
    fn ip(self, place: Place) -> IpAddr {
        let last = place as u8;
        IpAddr::V4(match self {
            Stage::Loopback(a, b) => Ipv4Addr::new(127, a, b, last),
            Stage::Namespace if place == Place::Private => Ipv4Addr::new(10, 9, 8, last),
            // In a block that AWS uses for CodeCommit.
            Stage::Namespace => Ipv4Addr::new(52, 119, 196, last),
        })
    }

    fn place(self, ip: IpAddr) -> Option<Place> {
        PLACES.into_iter().find(|place| self.ip(*place) == ip.to_canonical())
    }
}

/// The role of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Tls,
    Web,
    Other,
}

/// The ports in the namespace in addition to 443 and 80: those that the attacks name.
const OTHER_PORTS: [u16; 3] = [22, 9100, 8443];

/// The world; see the module's documentation.
#[derive(Debug)]
pub struct World {
    stage: Stage,
    /// The port on which targets speak TLS.
    pub tls: u16,
    /// The port on which they serve plain HTTP.
    pub web: u16,
    /// A port that no rule allows.
    pub other: u16,
    origins: Vec<Origin>,
    names: Names,
    /// The authority that signs the targets' certificates.
    pub authority: Authority,
    inside: Arc<Mutex<Vec<u8>>>,
    /// The suite's own connections: the target, and the number of the connection there.
    sentinels: Mutex<Vec<(usize, usize)>>,
}

/// The state of the world at one moment, to see later what is new.
#[derive(Clone, Debug)]
pub struct Mark {
    /// For each target, how many bytes each of its connections had received.
    seen: Vec<Vec<usize>>,
    asked: usize,
    inside: usize,
}

/// What came since a [`Mark`].
#[derive(Clone, Debug)]
pub struct News {
    /// Connections to targets, in no order; the addresses are canonical.
    pub reached: Vec<Seen>,
    /// Questions to the name server.
    pub asked: Vec<Question>,
    /// What targets decrypted from TLS.
    pub inside: Vec<u8>,
}

impl World {
    /// On loopback, with free ports.
    pub fn on_loopback() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let [.., low] = std::process::id().to_be_bytes();
        let stage = Stage::Loopback(1 + NEXT.fetch_add(1, Ordering::Relaxed) % 200, low);
        let inner = Inner::new(stage);
        let mut origins = Vec::new();
        let mut port_of = |role| {
            let mut port = 0;
            for place in PLACES {
                let origin = inner.origin(SocketAddr::new(stage.ip(place), port), role);
                port = origin.port();
                origins.push(origin);
            }
            port
        };
        let (tls, web, other) = (port_of(Role::Tls), port_of(Role::Web), port_of(Role::Other));
        let names =
            Names::start(crate::support::any_port(), move |question, before| says(stage, question, before));
        World {
            stage,
            tls,
            web,
            other,
            origins,
            names,
            authority: inner.authority,
            inside: inner.inside,
            sentinels: Mutex::default(),
        }
    }

    /// In a namespace in which every address is local, with the real ports and the name server on port 53.
    pub fn in_namespace() -> Self {
        let stage = Stage::Namespace;
        let inner = Inner::new(stage);
        let everywhere = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let mut origins =
            vec![inner.origin(everywhere(443), Role::Tls), inner.origin(everywhere(80), Role::Web)];
        origins.extend(OTHER_PORTS.map(|port| inner.origin(everywhere(port), Role::Other)));
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
        let names = Names::start(at, move |question, before| says(stage, question, before));
        World {
            stage,
            tls: 443,
            web: 80,
            other: OTHER_PORTS[0],
            origins,
            names,
            authority: inner.authority,
            inside: inner.inside,
            sentinels: Mutex::default(),
        }
    }

    /// The configuration of an egressd in this world: what the deployment allows, `*.amazonaws.com` in TLS and plain. Further
    /// top-level keys may be appended as lines.
    pub fn config(&self) -> String {
        self.config_allowing(&[
            &format!("*.amazonaws.com:{}", self.tls),
            &format!("http://*.amazonaws.com:{}", self.web),
        ])
    }

    /// The same with these rules.
    pub fn config_allowing(&self, rules: &[&str]) -> String {
        let (listener, admin) = match self.stage {
            Stage::Loopback(..) => ("127.0.0.1:0", "127.0.0.1:0"),
            Stage::Namespace => ("127.0.0.1:3128", "127.0.0.1:9180"),
        };
        let mut text = format!(
            "listeners: [{{name: proxy, address: \"{listener}\"}}]\nadmin: {{address: \"{admin}\"}}\n\
             dns: {{servers: [\"{}\"], timeout: 5s}}\npolicies:\n  - name: test\n    private: [",
            self.names.address()
        );
        if let Stage::Loopback(..) = self.stage {
            let open = PLACES.into_iter().filter(|place| *place != Place::Private);
            text.push_str(&open.map(|place| format!("{}/32", self.ip(place))).collect::<Vec<_>>().join(", "));
        }
        text.push_str("]\n    allow:\n");
        for rule in rules {
            let quote = if rule.starts_with('{') { "" } else { "\"" };
            writeln!(text, "      - {quote}{rule}{quote}").expect("a String takes all");
        }
        text
    }

    /// The address of a target.
    pub fn ip(&self, place: Place) -> IpAddr {
        self.stage.ip(place)
    }

    /// Whether this is the target at `{OK}`.
    pub fn is_ok(&self, ip: IpAddr) -> bool {
        self.stage.place(ip) == Some(Place::Ok)
    }

    /// The address of the name server.
    pub fn name_server(&self) -> SocketAddr {
        self.names.address()
    }

    /// `bytes` with the placeholders replaced: `{OK}` by an allowed name, `{EVIL}` by one that is not allowed, `{TLS}` `{WEB}`
    /// `{OTHER}` by ports, `{OKIP}` `{EVILIP}` `{PRIVATEIP}` by addresses.
    pub fn fill(&self, bytes: &[u8]) -> Vec<u8> {
        let words: [(&[u8], String); 8] = [
            (b"{OK}", hello::OK.to_owned()),
            (b"{EVIL}", "evil.test".to_owned()),
            (b"{TLS}", self.tls.to_string()),
            (b"{WEB}", self.web.to_string()),
            (b"{OTHER}", self.other.to_string()),
            (b"{OKIP}", self.ip(Place::Ok).to_string()),
            (b"{EVILIP}", self.ip(Place::Evil).to_string()),
            (b"{PRIVATEIP}", self.ip(Place::Private).to_string()),
        ];
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((&first, after)) = rest.split_first() {
            match words.iter().find(|(word, _)| first == b'{' && rest.starts_with(word)) {
                Some((word, value)) => {
                    out.extend_from_slice(value.as_bytes());
                    rest = &rest[word.len()..];
                }
                None => {
                    out.push(first);
                    rest = after;
                }
            }
        }
        out
    }

    /// The state so far.
    pub fn mark(&self) -> Mark {
        Mark {
            seen: self
                .origins
                .iter()
                .map(|origin| origin.seen().iter().map(|seen| seen.bytes.len()).collect())
                .collect(),
            asked: self.names.asked().len(),
            inside: self.lock_inside().len(),
        }
    }

    /// Everything that came since then, including connections that wait to be accepted.
    pub fn since(&self, mark: &Mark) -> News {
        self.flush();
        self.now(mark)
    }

    /// What came since then and was accepted.
    pub fn now(&self, mark: &Mark) -> News {
        let sentinels = lock(&self.sentinels).clone();
        let mut reached = Vec::new();
        for (at, (origin, before)) in self.origins.iter().zip(&mark.seen).enumerate() {
            for (index, mut seen) in origin.seen().into_iter().enumerate() {
                // A proxy may have kept a connection: only its new bytes count.
                let old = before.get(index);
                seen.bytes.drain(..old.copied().unwrap_or(0));
                if (old.is_none() || !seen.bytes.is_empty()) && !sentinels.contains(&(at, index)) {
                    reached.push(seen);
                }
            }
        }
        News {
            reached,
            asked: self.names.asked().split_off(mark.asked),
            inside: self.lock_inside().split_off(mark.inside),
        }
    }

    /// Waits until all connections since then have ended, and returns what came.
    pub fn settled(&self, mark: &Mark) -> News {
        self.flush();
        until("the targets' connections to end", || {
            let news = self.now(mark);
            news.reached.iter().all(|seen| seen.ended).then_some(news)
        })
    }

    /// Makes an own connection to each target, which is accepted after all that came before it.
    fn flush(&self) {
        let sentinels: Vec<(TcpStream, usize)> = self
            .origins
            .iter()
            .map(|origin| {
                let mut address = origin.address();
                if address.ip().is_unspecified() {
                    address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
                }
                let before = origin.seen().len();
                (TcpStream::connect_timeout(&address, DEADLINE).expect("the target listens"), before)
            })
            .collect();
        for (at, (origin, (sentinel, before))) in self.origins.iter().zip(&sentinels).enumerate() {
            let own = sentinel.local_addr().expect("connected");
            let index = until("the target to accept", || {
                // Only among the new ones: an older connection may have come from the same port.
                origin.seen().iter().skip(*before).position(|seen| canonical(seen.peer) == own)
            });
            lock(&self.sentinels).push((at, before + index));
        }
    }

    fn lock_inside(&self) -> Vec<u8> {
        lock(&self.inside).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What every name resolves to. A name that is not listed here resolves to a target that is not allowed, so that a leak is seen.
fn says(stage: Stage, question: &Question, before: usize) -> Says {
    let at = |places: &[Place]| Says::Addresses(places.iter().map(|place| stage.ip(*place)).collect());
    if question.kind == Kind::Ptr {
        return Says::Name("x.amazonaws.com");
    }
    let name = question.name.as_str();
    if let Some(address) = written_in(name) {
        return Says::Addresses(vec![address]);
    }
    match name.split_once('.').map_or(name, |(first, _)| first) {
        "git-codecommit" => at(&[Place::Ok]),
        "private" | "internal-x" => at(&[Place::Private]),
        "serverfirst" => at(&[Place::ServerFirst]),
        "retry" => at(&[Place::Retry]),
        "mimic" => at(&[Place::Mimic]),
        "switch" => at(&[Place::Switch]),
        "mixed" => at(&[Place::Private, Place::Ok, Place::Private]),
        // First the allowed address, then another one: with a TTL of 0 every request asks again.
        "rebind" if before == 0 => at(&[Place::Ok]),
        "rebind" => at(&[Place::Private]),
        "nx" => Says::NoSuchName,
        "fails" => Says::Failure,
        "slow" => Says::Silence,
        "lies" => Says::Garbage,
        "flaps" if before == 0 => Says::Failure,
        "flaps" => at(&[Place::Ok]),
        _ => at(&[Place::Evil]),
    }
}

/// `v4-169-254-169-254.…` and `v6-` with 32 hexadecimal digits resolve to the address that they contain.
fn written_in(name: &str) -> Option<IpAddr> {
    let first = name.split('.').next()?;
    if let Some(quad) = first.strip_prefix("v4-") {
        return quad.replace('-', ".").parse().ok().map(IpAddr::V4);
    }
    let number = u128::from_str_radix(first.strip_prefix("v6-")?, 16).ok()?;
    Some(IpAddr::V6(Ipv6Addr::from_bits(number)))
}

/// A name that [`written_in`] reads.
pub fn name_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("v4-{}.amazonaws.com", address.to_string().replace('.', "-")),
        IpAddr::V6(address) => format!("v6-{:032x}.amazonaws.com", address.to_bits()),
    }
}

/// What the targets share.
struct Inner {
    stage: Stage,
    authority: Authority,
    tls: Arc<ServerConfig>,
    inside: Arc<Mutex<Vec<u8>>>,
}

impl Inner {
    fn new(stage: Stage) -> Self {
        let authority = Authority::new();
        let certificate = authority.issue(&[hello::OK, "*.amazonaws.com", "*.s3.amazonaws.com", "evil.test"]);
        Inner { stage, tls: certificate.server_config(), authority, inside: Arc::default() }
    }

    fn origin(&self, address: SocketAddr, role: Role) -> Origin {
        let (stage, tls, inside) = (self.stage, Arc::clone(&self.tls), Arc::clone(&self.inside));
        Origin::start(address, move |mut conversation| {
            let place = stage.place(conversation.local().ip());
            let served = serve(role, place, &mut conversation, &tls, &inside);
            // Whatever failed: what still comes is recorded, and how the connection ends.
            let _ = io::copy(&mut conversation, &mut io::sink());
            served
        })
    }
}

fn serve(
    role: Role,
    place: Option<Place>,
    conversation: &mut Conversation,
    tls: &Arc<ServerConfig>,
    inside: &Mutex<Vec<u8>>,
) -> io::Result<()> {
    match (role, place) {
        (_, Some(Place::ServerFirst)) => conversation.write_all(b"SSH-2.0-server\r\n"),
        (Role::Tls, Some(Place::Retry)) => after_hearing(conversation, &hello::retry_request()),
        (Role::Tls, Some(Place::Mimic)) => after_hearing(conversation, b"SSH-2.0-mimic\r\n"),
        (Role::Tls, _) => {
            let connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(connection, conversation);
            serve_web(&mut stream, OK_REPLY, &mut |bytes| lock(inside).extend_from_slice(bytes))
        }
        (Role::Web, Some(Place::Switch)) => serve_web(
            conversation,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            &mut |_| {},
        ),
        (Role::Web, _) => serve_web(conversation, OK_REPLY, &mut |_| {}),
        (Role::Other, _) => Ok(()),
    }
}

const OK_REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

fn after_hearing(conversation: &mut Conversation, answer: &[u8]) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match conversation.read(&mut buffer)? {
        0 => Ok(()),
        _ => conversation.write_all(answer),
    }
}

/// A lenient web server: any line ending ends a line, and if it is not sure about a body, it takes what follows for the next
/// request. So it answers whatever can be smuggled past a proxy.
fn serve_web(stream: &mut (impl Read + Write), reply: &[u8], heard: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut held = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(end) = end_of_request(&held) {
            held.drain(..end);
            stream.write_all(reply)?;
            stream.flush()?;
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => {
                heard(&buffer[..count]);
                held.extend_from_slice(&buffer[..count]);
            }
        }
    }
}

fn end_of_request(held: &[u8]) -> Option<usize> {
    let end_of = |needle: &[u8], from: usize| {
        held.get(from..)?
            .windows(needle.len())
            .position(|window| window == needle)
            .map(|at| from + at + needle.len())
    };
    let head = end_of(b"\r\n\r\n", 0).into_iter().chain(end_of(b"\n\n", 0)).min()?;
    let text = String::from_utf8_lossy(&held[..head]).to_ascii_lowercase();
    let field = |name: &str| {
        let at = text.find(name)?;
        text[at + name.len()..].lines().next().map(str::trim)
    };
    if field("transfer-encoding:").is_some_and(|value| value.contains("chunked")) {
        return end_of(b"0\r\n\r\n", head);
    }
    let length: usize = field("content-length:").and_then(|value| value.parse().ok()).unwrap_or(0);
    (held.len() >= head + length).then_some(head + length)
}
