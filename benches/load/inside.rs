//! Both ends of a tunnel whose TLS the proxy opens: the client's TLS, and a target that speaks HTTP over TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned, client,
};

/// The body of a small answer.
pub(crate) const SMALL: &[u8] = b"{\"status\":\"ok\",\"version\":\"1.2.3\"}\n";
const BLOCK: usize = 256 * 1024;

#[derive(Clone)]
pub(crate) struct Ends {
    name: ServerName<'static>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Ends {
    pub(crate) fn new(
        name: &str,
        root: &Path,
        certificate: &Path,
        key: &Path,
        post_quantum: bool,
    ) -> Result<Self, String> {
        let mut kx_groups = vec![aws_lc_rs::kx_group::X25519];
        if post_quantum {
            kx_groups.insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
        }
        let provider = Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() });
        let mut roots = RootCertStore::empty();
        for root in certificates(root)? {
            roots.add(root).map_err(|error| error.to_string())?;
        }
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = client::Resumption::disabled();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(certificates(certificate)?, key)
            .map_err(|error| error.to_string())?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))?;
        Ok(Ends { name, client: Arc::new(client), server: Arc::new(server) })
    }

    pub(crate) fn begin(&self, stream: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let connection = ClientConnection::new(Arc::clone(&self.client), self.name.clone());
        Ok(StreamOwned::new(connection.map_err(io::Error::other)?, stream))
    }

    /// Answers `/bulk/N` with N bytes, and everything else with [`SMALL`], until the proxy closes.
    pub(crate) fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let connection = ServerConnection::new(Arc::clone(&self.server)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut block = Vec::new();
        while let Some(head) = head(&mut stream)? {
            let lower = head.to_ascii_lowercase();
            let mut left = match lower.split_once("content-length:") {
                Some((_, rest)) => number(rest)?,
                None => 0,
            };
            if left > 0 {
                block.resize(BLOCK, 7);
            }
            while left > 0 {
                let part = left.min(BLOCK as u64) as usize;
                left -= match stream.read(&mut block[..part])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => count as u64,
                };
            }
            let size = match head.strip_prefix("GET /bulk/") {
                Some(rest) => number(rest)?,
                None => SMALL.len() as u64,
            };
            let said =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n");
            if size == SMALL.len() as u64 {
                stream.write_all(&[said.as_bytes(), SMALL].concat())?;
            } else {
                stream.write_all(said.as_bytes())?;
                block.resize(BLOCK, 7);
                let mut left = size;
                while left > 0 {
                    let part = left.min(BLOCK as u64) as usize;
                    stream.write_all(&block[..part])?;
                    left -= part as u64;
                }
            }
            stream.flush()?;
        }
        Ok(())
    }
}

/// The first number in `text`, which may follow spaces.
fn number(text: &str) -> io::Result<u64> {
    let digits = text.trim_start();
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().map_err(io::Error::other)
}

/// A head, byte by byte from the buffer of TLS: what follows it stays there. `None` is the end between two heads.
pub(crate) fn head(stream: &mut impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::with_capacity(512);
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            if head.is_empty() {
                return Ok(None);
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).map(Some).map_err(io::Error::other)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: {error}", file.display()))
}
