//! A server that egressd dials: it does what the test says, and records every byte that reached it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use super::{DEADLINE, Issued, any_port, until};

/// What arrived on one connection.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The address that connected: the log's `upstream_local`.
    pub peer: SocketAddr,
    /// The address that was dialled: the log's `upstream`.
    pub local: SocketAddr,
    /// All bytes so far.
    pub bytes: Vec<u8>,
    /// Whether a FIN or a RST has come.
    pub ended: bool,
}

/// A listening origin. A drop closes all its connections.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Vec<Seen>>,
    streams: Mutex<Vec<Weak<TcpStream>>>,
}

/// A poisoned lock means that the thread of some connection panicked; what was recorded before is still correct.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Origin {
    /// Serves every connection on `address` with `serve`, each in its own thread. An error ends that connection.
    pub fn start(
        address: SocketAddr,
        serve: impl Fn(Conversation) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("binding {address}: {e}"));
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let serve = Arc::new(serve);
        let accepting = spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (conversation, serve) = (Conversation::new(stream, &shared), Arc::clone(&serve));
                    spawn(move || serve(conversation));
                }
            }
        });
        Origin { address, shared, accepting: Some(accepting) }
    }

    /// Sends back what it gets, and answers a FIN with a FIN.
    pub fn echo() -> Self {
        Origin::echo_at(any_port())
    }

    /// The same at this address.
    pub fn echo_at(address: SocketAddr) -> Self {
        Origin::start(address, echo)
    }

    /// Reads to the end and sends nothing.
    pub fn silent() -> Self {
        Origin::start(any_port(), |mut conversation| {
            io::copy(&mut conversation, &mut io::sink())?;
            Ok(())
        })
    }

    /// Sends `bytes` as soon as it is connected, then reads to the end.
    pub fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Origin::start(any_port(), move |mut conversation| {
            conversation.write_all(&bytes)?;
            io::copy(&mut conversation, &mut io::sink())?;
            Ok(())
        })
    }

    /// Reads a head, sends these bytes and reads to the end.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Origin::start(any_port(), move |mut conversation| {
            head_of(&mut conversation)?;
            conversation.write_all(&bytes)?;
            io::copy(&mut conversation, &mut io::sink()).map(drop)
        })
    }

    /// Speaks TLS with this certificate, and echoes inside. [`Origin::seen`] shows the TLS records.
    pub fn tls_echo(certificate: &Issued) -> Self {
        Origin::tls(certificate.server_config(), echo)
    }

    /// An origin behind TLS.
    pub fn tls(
        config: Arc<rustls::ServerConfig>,
        converse: impl Fn(TlsConversation) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Origin::start(any_port(), move |conversation| {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            converse(rustls::StreamOwned::new(tls, conversation))
        })
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Origin::address`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every connection so far, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Waits for connection number `index` to end, and returns what arrived on it.
    pub fn wait_ended(&self, index: usize) -> Seen {
        until("the origin's connection to end", || self.seen().get(index).filter(|seen| seen.ended).cloned())
    }
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
        stream.flush()?;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes `accept`.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok();
        for stream in lock(&self.shared.streams).drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            let _ = accepting.join();
        }
    }
}

/// One connection of an [`Origin`]; what is read from it is recorded. A drop closes it.
#[derive(Debug)]
pub struct Conversation {
    stream: Arc<TcpStream>,
    local: SocketAddr,
    shared: Arc<Shared>,
    index: usize,
}

impl Conversation {
    fn new(stream: TcpStream, shared: &Arc<Shared>) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
        let peer = stream.peer_addr().unwrap_or_else(|_| any_port());
        let local = stream.local_addr().unwrap_or_else(|_| any_port());
        let stream = Arc::new(stream);
        lock(&shared.streams).push(Arc::downgrade(&stream));
        let mut seen = lock(&shared.seen);
        seen.push(Seen { peer, local, bytes: Vec::new(), ended: false });
        Conversation { stream, local, shared: Arc::clone(shared), index: seen.len() - 1 }
    }

    /// The address that was dialled.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a FIN; reading goes on.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a RST.
    pub fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO))
    }
}

/// TLS over one connection.
pub type TlsConversation = rustls::StreamOwned<rustls::ServerConnection, Conversation>;

/// Reads one head of a request or a response, and not a byte more.
pub fn head_of(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

impl Read for Conversation {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = (&*self.stream).read(buffer);
        let mut seen = lock(&self.shared.seen);
        let seen = &mut seen[self.index];
        match &result {
            Ok(0) if !buffer.is_empty() => seen.ended = true,
            Ok(n) => seen.bytes.extend_from_slice(&buffer[..*n]),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => seen.ended = true,
            Err(_) => {}
        }
        result
    }
}

impl Write for Conversation {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.stream).write(bytes)
    }

    /// Several records of TLS leave together, also where the last of them is an alert.
    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        (&*self.stream).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
