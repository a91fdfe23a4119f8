//! A name server with scripted answers, over UDP and TCP, that counts what it was asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_resolver::proto::rr::{Name as WireName, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What the server says to one question.
#[derive(Clone)]
pub(crate) enum Say {
    /// These addresses with this TTL, whatever their family.
    Addresses(Vec<IpAddr>, u32),
    /// A CNAME with its TTL, and the addresses at its end with theirs.
    Alias(&'static str, u32, Vec<IpAddr>, u32),
    /// The addresses belong to another name than the one asked for.
    Foreign(Vec<IpAddr>),
    /// No error, no record, an SOA with this negative TTL.
    NoData(u32),
    /// NXDOMAIN, with the negative TTL of an SOA or without one.
    NoName(Option<u32>),
    /// An error code.
    Code(ResponseCode),
    /// Truncated over UDP; over TCP the inner answer.
    Truncated(Box<Say>),
    /// First a forged answer with another id and one to another question, then the inner answer.
    Forged(IpAddr, Box<Say>),
    /// The right id and question, then a record that claims more bytes than there are.
    LyingLength,
    /// Nothing.
    Silence,
    /// The inner answer as soon as a permit is there.
    Held(Arc<Semaphore>, Box<Say>),
}

/// `Say::Addresses` from text, with a TTL of 60 s.
pub(crate) fn addresses(list: &[&str]) -> Say {
    Say::Addresses(ips(list), 60)
}

pub(crate) fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

type Script = Arc<dyn Fn(&str, RecordType, usize) -> Say + Send + Sync>;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Question {
    /// As it stood in the question, with its final dot.
    pub(crate) name: String,
    pub(crate) record_type: RecordType,
    pub(crate) tcp: bool,
}

/// Ends when dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
    _tasks: JoinSet<()>,
}

impl TestServer {
    /// `script` is given name (with its final dot), type, and how often the same was asked before.
    pub(crate) async fn start(
        script: impl Fn(&str, RecordType, usize) -> Say + Send + Sync + 'static,
    ) -> Self {
        TestServer::start_at("127.0.0.1:0", script).await
    }

    pub(crate) async fn start_at(
        address: &str,
        script: impl Fn(&str, RecordType, usize) -> Say + Send + Sync + 'static,
    ) -> Self {
        // One port for both: another program may hold the UDP port of a free TCP one.
        let mut sockets = None;
        for _ in 0..20 {
            let tcp = TcpListener::bind(address).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                sockets = Some((tcp, Arc::new(udp)));
                break;
            }
        }
        let (tcp, udp) = sockets.expect("a port that is free for TCP and UDP");
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let state = Answering { script: Arc::new(script), asked: asked.clone(), counts: Arc::default() };
        let mut tasks = JoinSet::new();
        tasks.spawn(state.clone().serve_udp(udp));
        tasks.spawn(state.serve_tcp(tcp));
        TestServer { address, asked, _tasks: tasks }
    }

    pub(crate) fn asked(&self) -> Vec<Question> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }

    pub(crate) fn count(&self, record_type: RecordType) -> usize {
        self.asked().iter().filter(|asked| asked.record_type == record_type).count()
    }
}

#[derive(Clone)]
struct Answering {
    script: Script,
    asked: Arc<Mutex<Vec<Question>>>,
    counts: Arc<Mutex<HashMap<(String, RecordType), usize>>>,
}

impl Answering {
    async fn serve_udp(self, socket: Arc<UdpSocket>) {
        let mut buffer = [0; 4096];
        let mut answers = JoinSet::new();
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let (request, say) = self.question(&buffer[..length], false);
            let socket = socket.clone();
            answers.spawn(async move {
                for packet in packets(&request, say, false).await {
                    socket.send_to(&packet, peer).await.unwrap();
                }
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let state = self.clone();
            connections.spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut bytes = vec![0; usize::from(length)];
                    stream.read_exact(&mut bytes).await.unwrap();
                    let (request, say) = state.question(&bytes, true);
                    for packet in packets(&request, say, true).await {
                        stream.write_u16(u16::try_from(packet.len()).unwrap()).await.unwrap();
                        stream.write_all(&packet).await.unwrap();
                    }
                }
            });
        }
    }

    fn question(&self, bytes: &[u8], tcp: bool) -> (Message, Say) {
        let request = Message::from_vec(bytes).unwrap();
        let query = request.queries.first().unwrap();
        let name = query.name().to_ascii();
        let record_type = query.query_type();
        self.asked.lock().unwrap().push(Question { name: name.clone(), record_type, tcp });
        let before = {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry((name.clone(), record_type)).or_default();
            *count += 1;
            *count - 1
        };
        let say = (self.script)(&name, record_type, before);
        (request, say)
    }
}

fn record(owner: &WireName, ttl: u32, address: &IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(*address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
    };
    Record::from_rdata(owner.clone(), ttl, data)
}

async fn packets(request: &Message, mut say: Say, tcp: bool) -> Vec<Vec<u8>> {
    while let Say::Held(permits, inner) = say {
        permits.acquire().await.unwrap().forget();
        say = *inner;
    }
    let query = request.queries.first().unwrap();
    let owner = query.name().clone();
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.add_query(query.clone());
    let soa = |ttl: u32| {
        let zone = WireName::from_ascii("test.").unwrap();
        Record::from_rdata(zone.clone(), ttl, RData::SOA(SOA::new(zone.clone(), zone, 1, 60, 60, 60, ttl)))
    };
    match say {
        Say::Addresses(list, ttl) => reply.answers.extend(list.iter().map(|ip| record(&owner, ttl, ip))),
        Say::Alias(target, alias_ttl, list, ttl) => {
            let target = WireName::from_ascii(target).unwrap();
            let alias = RData::CNAME(CNAME(target.clone()));
            reply.answers.push(Record::from_rdata(owner, alias_ttl, alias));
            reply.answers.extend(list.iter().map(|ip| record(&target, ttl, ip)));
        }
        Say::Foreign(list) => {
            let other = WireName::from_ascii("other.test.").unwrap();
            reply.answers.extend(list.iter().map(|ip| record(&other, 60, ip)));
        }
        Say::NoData(ttl) => reply.authorities.push(soa(ttl)),
        Say::NoName(ttl) => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.authorities.extend(ttl.map(soa));
        }
        Say::Code(code) => reply.metadata.response_code = code,
        Say::Truncated(inner) if tcp => return Box::pin(packets(request, *inner, true)).await,
        Say::Truncated(_) => reply.metadata.truncation = true,
        Say::Forged(lie, inner) => {
            reply.answers.push(record(&owner, 60, &lie));
            let mut other_id = reply.clone();
            other_id.metadata.id = request.metadata.id.wrapping_add(1);
            let mut other_question = reply.clone();
            let other = WireName::from_ascii("other.test.").unwrap();
            other_question.queries = vec![Query::query(other, query.query_type())];
            let mut all = vec![other_id.to_vec().unwrap(), other_question.to_vec().unwrap()];
            all.extend(Box::pin(packets(request, *inner, tcp)).await);
            return all;
        }
        Say::LyingLength => {
            reply.answers.push(record(&owner, 60, &IpAddr::from([8, 8, 8, 8])));
            let mut bytes = reply.to_vec().unwrap();
            // RDLENGTH of the only record: 4 before the 4 bytes of its address.
            let at = bytes.len() - 6;
            bytes[at..at + 2].copy_from_slice(&u16::MAX.to_be_bytes());
            return vec![bytes];
        }
        Say::Silence => return Vec::new(),
        Say::Held(..) => unreachable!("unwrapped above"),
    }
    vec![reply.to_vec().unwrap()]
}
