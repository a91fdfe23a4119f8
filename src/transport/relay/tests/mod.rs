//! What a tunnel does, over real sockets, by splice, by copying, and as streams.

mod streams;
mod turns;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use super::end::failure;
use super::*;
use crate::transport::relay::pipe::Sizes;

/// How the bytes are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    Large,
    Small,
    NoPipes,
    Streams,
}

pub(super) const EVERY_WAY: [How; 4] = [How::Large, How::Small, How::NoPipes, How::Streams];

/// A relay between two connections, seen from their far ends.
pub(super) struct Tunnel {
    pub(super) client: TcpStream,
    pub(super) upstream: TcpStream,
    pub(super) meter: Arc<Meter>,
    cancel: Arc<Cancel>,
    pool: &'static Pool,
    pub(super) ending: JoinHandle<Ending>,
}

/// Two ends of one connection; with `buffer`, the socket buffers are as small as the kernel allows.
async fn connection(buffer: Option<u32>) -> (TcpStream, TcpStream) {
    let make = || {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(size) = buffer {
            socket.set_send_buffer_size(size).unwrap();
            socket.set_recv_buffer_size(size).unwrap();
        }
        socket
    };
    let listening = make();
    listening.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener: TcpListener = listening.listen(1).unwrap();
    let near = make().connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

pub(super) fn limits() -> RelayLimits {
    RelayLimits { idle_timeout: Duration::from_secs(3600), deadline: None, upload: Allowance::default() }
}

pub(super) async fn open(how: How, early: Early, limits: RelayLimits, buffer: Option<u32>) -> Tunnel {
    let (client, near_client) = connection(buffer).await;
    let (near_upstream, upstream) = connection(buffer).await;
    let (meter, cancel) = (Arc::new(Meter::default()), Cancel::new());
    let sizes = match how {
        How::Large => Sizes { large: 2, small: 0 },
        How::Small => Sizes { large: 0, small: 2 },
        How::NoPipes | How::Streams => Sizes { large: 0, small: 0 },
    };
    let pool: &'static Pool = Box::leak(Box::new(Pool::new(sizes)));
    let ending = tokio::spawn({
        let (meter, cancel) = (meter.clone(), cancel.clone());
        async move {
            let (mut client, mut upstream) = (near_client, near_upstream);
            let mut relay =
                Relay::new(early, limits, &Holder::alone(), (how != How::Streams).then_some(pool));
            let ending = match how {
                How::Streams => relay.run_streams(&mut client, &mut upstream, &meter, &cancel, &|| {}).await,
                _ => relay.run(&client, &upstream, &meter, &cancel, &|| {}).await,
            };
            part(client, upstream, ending).await;
            ending
        }
    });
    Tunnel { client, upstream, meter, cancel, pool, ending }
}

async fn plain(how: How) -> Tunnel {
    open(how, Early::default(), limits(), None).await
}

/// Reads until the FIN.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Reads until the connection breaks; it must be a reset.
async fn wants_reset(stream: &mut TcpStream) {
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn reset_now(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// A megabyte with a pattern.
fn bulk() -> Vec<u8> {
    (0_u32..1_000_000).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_relay_and_its_future_are_at_most_760_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, upstream) = connection(None).await;
        let (meter, cancel) = (Meter::default(), Cancel::new());
        let mut relay = Relay::splicing(Early::default(), limits(), &Holder::alone());
        let held = size_of_val(&relay);
        let future = relay.run(&client, &upstream, &meter, &cancel, &|| {});
        let all = held + size_of_val(&future);
        assert!(all <= 760, "{held} of {all} bytes are the relay's own");
    });
}

#[tokio::test(start_paused = true)]
async fn the_upstream_of_a_tunnel_that_lasts_has_keepalive() {
    for how in [How::Large, How::Streams] {
        let (mut client, _client_far) = connection(None).await;
        let (mut upstream, _upstream_far) = connection(None).await;
        // All descriptors of a socket share its options.
        let options =
            socket2::Socket::from(std::os::fd::AsFd::as_fd(&upstream).try_clone_to_owned().unwrap());
        let (meter, cancel) = (Meter::default(), Cancel::new());
        let mut relay = Relay::new(Early::default(), limits(), &Holder::alone(), None);
        let mut running: Pin<Box<dyn Future<Output = Ending>>> = match how {
            How::Streams => Box::pin(relay.run_streams(&mut client, &mut upstream, &meter, &cancel, &|| {})),
            _ => Box::pin(relay.run(&client, &upstream, &meter, &cancel, &|| {})),
        };
        let almost = LASTS - Duration::from_millis(10);
        assert!(tokio::time::timeout(almost, &mut running).await.is_err());
        assert!(!options.keepalive().unwrap(), "{how:?}: a tunnel that is soon over needs none");
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut running).await.is_err());
        assert!(options.keepalive().unwrap(), "{how:?}");
        assert_eq!(options.tcp_keepalive_time().unwrap(), crate::transport::socket::KEEPALIVE_IDLE);
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_and_either_fin_may_be_the_first() {
    for how in EVERY_WAY {
        for client_first in [true, false] {
            let mut tunnel = plain(how).await;
            let (first, second) = match client_first {
                true => (&mut tunnel.client, &mut tunnel.upstream),
                false => (&mut tunnel.upstream, &mut tunnel.client),
            };
            first.write_all(b"question").await.unwrap();
            first.shutdown().await.unwrap();
            assert_eq!(rest(second).await, b"question", "{how:?}");
            // The other direction still flows after the half-close.
            second.write_all(b"a long answer").await.unwrap();
            assert_eq!(exactly(first, 13).await, b"a long answer", "{how:?}");
            second.shutdown().await.unwrap();
            assert_eq!(rest(first).await, b"");
            let (ending, sent, received) = match client_first {
                true => (Ending::ClientClosed, 8, 13),
                false => (Ending::UpstreamClosed, 13, 8),
            };
            assert_eq!(tunnel.ending.await.unwrap(), ending, "{how:?}");
            assert_eq!((tunnel.meter.sent(), tunnel.meter.received()), (sent, received), "{how:?}");
        }
    }
}

#[tokio::test]
async fn t54_early_bytes_come_first_and_only_once() {
    for how in EVERY_WAY {
        let early =
            Early { to_upstream: b"early ".as_slice().into(), to_client: b"greeting ".as_slice().into() };
        let mut tunnel = open(how, early, limits(), None).await;
        tunnel.client.write_all(b"and late").await.unwrap();
        tunnel.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel.upstream).await, b"early and late");
        tunnel.upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel.client).await, b"greeting ");
        assert_eq!(tunnel.ending.await.unwrap(), Ending::ClientClosed);
        assert_eq!((tunnel.meter.sent(), tunnel.meter.received()), (14, 9));
    }
}

#[tokio::test]
async fn bulk_passes_whole_and_gives_its_pipe_back_while_the_tunnel_rests() {
    for how in EVERY_WAY {
        let mut tunnel = plain(how).await;
        let sent = bulk();
        for _ in 0..2 {
            let ((), got) = tokio::join!(
                async { tunnel.client.write_all(&sent).await.unwrap() },
                exactly(&mut tunnel.upstream, sent.len())
            );
            assert!(got == sent, "{how:?}");
            // An echo: when it arrives, the relay has reached the end of the burst.
            tunnel.upstream.write_all(b"!").await.unwrap();
            exactly(&mut tunnel.client, 1).await;
        }
        let pipes: Vec<_> = std::iter::from_fn(|| tunnel.pool.lease()).collect();
        assert_eq!(pipes.len(), if matches!(how, How::Large | How::Small) { 2 } else { 0 }, "{how:?}");
        tunnel.client.shutdown().await.unwrap();
        tunnel.upstream.shutdown().await.unwrap();
        tunnel.ending.await.unwrap();
        assert_eq!(tunnel.meter.sent(), 2 * sent.len() as u64);
    }
}

#[tokio::test]
async fn a_reset_stays_a_reset() {
    for how in EVERY_WAY {
        let mut tunnel = plain(how).await;
        tunnel.client.write_all(b"x").await.unwrap();
        exactly(&mut tunnel.upstream, 1).await;
        reset_now(tunnel.client);
        wants_reset(&mut tunnel.upstream).await;
        assert_eq!(tunnel.ending.await.unwrap(), Ending::ClientReset, "{how:?}");

        let mut tunnel = plain(how).await;
        tunnel.upstream.write_all(b"last words").await.unwrap();
        assert_eq!(exactly(&mut tunnel.client, 10).await, b"last words");
        reset_now(tunnel.upstream);
        wants_reset(&mut tunnel.client).await;
        assert_eq!(tunnel.ending.await.unwrap(), Ending::UpstreamReset, "{how:?}");
    }
}

#[tokio::test]
async fn a_reset_after_a_half_close_is_noticed_in_silence() {
    for how in [How::Large, How::Small, How::NoPipes] {
        let mut tunnel = plain(how).await;
        tunnel.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel.upstream).await, b"");
        reset_now(tunnel.client);
        // After the FIN a reader sees nothing any more; Linux calls this reset EPIPE.
        assert_eq!(failure(&tunnel.upstream).await.kind(), ErrorKind::BrokenPipe);
        assert_eq!(tunnel.ending.await.unwrap(), Ending::ClientReset, "{how:?}");

        let mut tunnel = plain(how).await;
        tunnel.upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel.client).await, b"");
        reset_now(tunnel.upstream);
        assert_eq!(failure(&tunnel.client).await.kind(), ErrorKind::BrokenPipe);
        assert_eq!(tunnel.ending.await.unwrap(), Ending::UpstreamReset, "{how:?}");
    }
}

/// With a clock that goes on by itself: a stream is looked at from time to time.
#[tokio::test(start_paused = true)]
async fn a_reset_of_a_stream_is_noticed_in_silence() {
    for of_client in [true, false] {
        let mut tunnel = plain(How::Streams).await;
        let (near, far, ending) = match of_client {
            true => (&mut tunnel.client, &mut tunnel.upstream, Ending::ClientReset),
            false => (&mut tunnel.upstream, &mut tunnel.client, Ending::UpstreamReset),
        };
        near.shutdown().await.unwrap();
        assert_eq!(rest(far).await, b"");
        reset_now(if of_client { tunnel.client } else { tunnel.upstream });
        assert_eq!(tunnel.ending.await.unwrap(), ending);
    }
}

/// The same while the other side takes nothing.
#[tokio::test(start_paused = true)]
async fn a_reset_of_a_stream_is_noticed_while_the_other_side_does_not_read() {
    let mut tunnel = open(How::Streams, Early::default(), limits(), Some(8 * 1024)).await;
    stuff(&mut tunnel.client).await;
    reset_now(tunnel.client);
    assert_eq!(tunnel.ending.await.unwrap(), Ending::ClientReset);
}

/// Writes until the tunnel takes nothing more for a while.
async fn stuff(stream: &mut TcpStream) -> u64 {
    let chunk = vec![0; 4096];
    let mut taken = 0;
    // If the tunnel would still take bytes after the pause, the test is weaker but not wrong.
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(200), stream.write(&chunk)).await {
        taken += written.unwrap() as u64;
    }
    taken
}

#[tokio::test]
async fn a_reset_is_noticed_while_the_other_side_does_not_read() {
    for how in [How::Large, How::Small, How::NoPipes] {
        let mut tunnel = open(how, Early::default(), limits(), Some(8 * 1024)).await;
        stuff(&mut tunnel.client).await;
        reset_now(tunnel.client);
        assert_eq!(tunnel.ending.await.unwrap(), Ending::ClientReset, "{how:?}");
        wants_reset(&mut tunnel.upstream).await;
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_read_stops_the_sender() {
    for how in EVERY_WAY {
        let mut tunnel = open(how, Early::default(), limits(), Some(8 * 1024)).await;
        let taken = stuff(&mut tunnel.client).await;
        assert!(taken < 2 * 1024 * 1024, "{how:?}: {taken}");
        tunnel.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel.upstream).await.len() as u64, taken, "{how:?}");
        tunnel.upstream.shutdown().await.unwrap();
        assert_eq!(tunnel.ending.await.unwrap(), Ending::ClientClosed);
        assert_eq!(tunnel.meter.sent(), taken);
    }
}

#[tokio::test]
async fn t67_an_upload_limit_is_exact_to_the_byte() {
    const LIMIT: usize = 100_000;
    let bytes = vec![7; LIMIT + 1];
    for how in EVERY_WAY {
        for early in [0, 10, LIMIT, LIMIT + 1] {
            for (asked, ending) in [(LIMIT, Ending::ClientClosed), (LIMIT + 1, Ending::UploadLimit)] {
                if early > asked {
                    continue;
                }
                let limits = RelayLimits { upload: Allowance::limited(Some(LIMIT as u64)), ..limits() };
                let held = Early { to_upstream: bytes[..early].into(), to_client: BytesMut::new() };
                let mut tunnel = open(how, held, limits, None).await;
                // Past the limit the tunnel may be gone before the last byte is written.
                let _ = tunnel.client.write_all(&bytes[early..asked]).await;
                let _ = tunnel.client.shutdown().await;
                assert_eq!(rest(&mut tunnel.upstream).await.len(), LIMIT, "{how:?} {early} {asked}");
                drop(tunnel.upstream);
                assert_eq!(tunnel.ending.await.unwrap(), ending, "{how:?} {early} {asked}");
                assert_eq!(tunnel.meter.sent(), LIMIT as u64);
            }
        }
    }
}

#[tokio::test]
async fn t67_at_the_limit_the_answer_still_flows() {
    for how in EVERY_WAY {
        let limits = RelayLimits { upload: Allowance::limited(Some(4)), ..limits() };
        let mut tunnel = open(how, Early::default(), limits, None).await;
        tunnel.client.write_all(b"four").await.unwrap();
        exactly(&mut tunnel.upstream, 4).await;
        tunnel.upstream.write_all(b"answer").await.unwrap();
        assert_eq!(exactly(&mut tunnel.client, 6).await, b"answer");
        tunnel.upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel.client).await, b"");
        tunnel.client.shutdown().await.unwrap();
        assert_eq!(tunnel.ending.await.unwrap(), Ending::UpstreamClosed, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn t65_a_silent_tunnel_ends_after_the_idle_timeout_and_bytes_put_it_off() {
    for how in EVERY_WAY {
        let limits = RelayLimits { idle_timeout: Duration::from_secs(60), ..limits() };
        let begun = Instant::now();
        let mut tunnel = open(how, Early::default(), limits, None).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(40)).await;
            tunnel.upstream.write_all(b".").await.unwrap();
            exactly(&mut tunnel.client, 1).await;
        }
        assert_eq!(tunnel.ending.await.unwrap(), Ending::IdleTimeout, "{how:?}");
        let lived = begun.elapsed();
        assert!((180..=181).contains(&lived.as_secs()), "{how:?}: {lived:?}");
        assert_eq!(rest(&mut tunnel.client).await, b"");
    }
}

#[tokio::test(start_paused = true)]
async fn t65_a_busy_tunnel_ends_at_its_deadline() {
    for how in EVERY_WAY {
        let begun = Instant::now();
        let limits = RelayLimits {
            deadline: Some(begun + Duration::from_secs(100)),
            idle_timeout: Duration::MAX,
            upload: Allowance::default(),
        };
        let mut tunnel = open(how, Early::default(), limits, None).await;
        for _ in 0..9 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            tunnel.client.write_all(b".").await.unwrap();
            exactly(&mut tunnel.upstream, 1).await;
        }
        assert_eq!(tunnel.ending.await.unwrap(), Ending::MaxLifetime, "{how:?}");
        assert_eq!(begun.elapsed().as_secs(), 100, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_tunnel_reports_its_progress_every_five_minutes_whatever_moves() {
    let (mut client, near_client) = connection(None).await;
    let (near_upstream, mut upstream) = connection(None).await;
    let (meter, cancel, reports) = (Meter::default(), Cancel::new(), AtomicUsize::new(0));
    let limits = RelayLimits { idle_timeout: Duration::from_secs(1000), ..limits() };
    let mut relay = Relay::splicing(Early::default(), limits, &Holder::alone());
    let progress = || {
        reports.fetch_add(1, Ordering::Relaxed);
    };
    let begun = Instant::now();
    let talk = async {
        for minute in 0..12 {
            tokio::time::sleep_until(begun + Duration::from_secs(60 * minute + 30)).await;
            assert_eq!(reports.load(Ordering::Relaxed) as u64, minute / 5, "minute {minute}");
            client.write_all(b".").await.unwrap();
            exactly(&mut upstream, 1).await;
        }
    };
    let (ending, ()) =
        tokio::join!(relay.run(&near_client, &near_upstream, &meter, &cancel, &progress), talk);
    assert_eq!(ending, Ending::IdleTimeout);
    // The last byte at 11.5 minutes, the end at 28.2.
    assert_eq!(reports.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_cancelled_tunnel_ends_with_the_ending_that_was_given() {
    for how in EVERY_WAY {
        for ending in [Ending::PolicyRevoked, Ending::Drained] {
            let mut tunnel = plain(how).await;
            tunnel.client.write_all(b"x").await.unwrap();
            exactly(&mut tunnel.upstream, 1).await;
            tunnel.cancel.cancel(ending);
            assert_eq!(tunnel.ending.await.unwrap(), ending, "{how:?}");
            assert_eq!(rest(&mut tunnel.client).await, b"");
        }
    }
}

#[test]
fn an_ending_says_which_side_failed() {
    use ErrorKind::*;
    for (kind, client, upstream) in [
        (ConnectionReset, Ending::ClientReset, Ending::UpstreamReset),
        (BrokenPipe, Ending::ClientReset, Ending::UpstreamReset),
        (ConnectionAborted, Ending::ClientReset, Ending::UpstreamReset),
        (InvalidData, Ending::ClientReset, Ending::UpstreamReset),
        (TimedOut, Ending::ClientLost, Ending::UpstreamLost),
        (HostUnreachable, Ending::ClientLost, Ending::UpstreamLost),
        (NetworkUnreachable, Ending::ClientLost, Ending::UpstreamLost),
        (OutOfMemory, Ending::InternalError, Ending::InternalError),
        (InvalidInput, Ending::InternalError, Ending::InternalError),
    ] {
        let error = || io::Error::from(kind);
        assert_eq!(Fault::Read(error()).ending(Side::Client), client, "{kind:?}");
        assert_eq!(Fault::Write(error()).ending(Side::Upstream), client, "{kind:?}");
        assert_eq!(Fault::Read(error()).ending(Side::Upstream), upstream, "{kind:?}");
        assert_eq!(Fault::Write(error()).ending(Side::Client), upstream, "{kind:?}");
    }
}

#[tokio::test]
async fn what_breaks_inside_is_a_reset_on_both_sides_and_what_tcp_gave_up_on_the_other() {
    for (ending, client, upstream) in [
        (Ending::InternalError, true, true),
        (Ending::ClientLost, false, true),
        (Ending::UpstreamLost, true, false),
        (Ending::UploadLimit, true, false),
        (Ending::IdleTimeout, false, false),
    ] {
        let (mut client_end, near_client) = connection(None).await;
        let (near_upstream, mut upstream_end) = connection(None).await;
        let parting = tokio::spawn(part(near_client, near_upstream, ending));
        for (end, is_reset) in [(&mut client_end, client), (&mut upstream_end, upstream)] {
            let read = end.read(&mut [0]).await.map_err(|error| error.kind());
            assert_eq!(read, if is_reset { Err(ErrorKind::ConnectionReset) } else { Ok(0) }, "{ending}");
        }
        drop(upstream_end);
        parting.await.unwrap();
    }
}
