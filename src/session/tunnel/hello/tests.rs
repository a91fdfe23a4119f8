//! The gate's verdicts, byte by byte and by the clock, between two pipes in memory.

use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::held_back_tests::Pipe;
use super::*;
use crate::transport::allowance::Allowance;
use crate::wire::client_hello::test_samples::{
    hello, naming, real, records, server_names, signature_algorithms,
};
use crate::wire::server_hello::HELLO_RETRY_REQUEST;

const NAME: &str = "a.example";
const TIMEOUT: Duration = Duration::from_secs(10);

fn host() -> Host {
    Host::parse(NAME).unwrap()
}

fn without_sni() -> Vec<u8> {
    records(&hello(&[signature_algorithms()]), 1 << 14)
}

async fn inspect(host: &Host, early: &[u8], sent: &[u8]) -> Result<InspectedHello, GateEnd> {
    let (mut near, mut far) = duplex(1 << 20);
    far.write_all(sent).await.unwrap();
    // `far` stays open: an undecided case ends by the clock.
    inspect_client(&mut near, BytesMut::from(early).into(), host, Instant::now() + TIMEOUT).await
}

fn refusal(end: GateEnd) -> GateRefusal {
    match end {
        GateEnd::Refused(refusal) => refusal,
        GateEnd::Ended(ending) => panic!("ended: {ending}"),
    }
}

fn ending(end: GateEnd) -> Ending {
    match end {
        GateEnd::Ended(ending) => ending,
        GateEnd::Refused(refusal) => panic!("refused: {}", refusal.reason),
    }
}

#[tokio::test(start_paused = true)]
async fn t54_a_hello_that_came_with_the_connect_is_read_once_and_kept() {
    let sent = [&naming(b"A.Example")[..], b"early data"].concat();
    for cut in 0..=sent.len() {
        let (early, rest) = sent.split_at(cut);
        let passed = inspect(&host(), early, rest).await.unwrap();
        assert!(sent.starts_with(&passed.bytes.bytes) && passed.bytes.bytes.len() >= passed.length);
        assert_eq!(passed.length, naming(b"a.example").len());
        assert_eq!(passed.sni.as_deref(), Some(NAME));
    }
}

#[tokio::test(start_paused = true)]
async fn every_real_client_passes_to_the_host_it_names_and_to_no_other() {
    for (client, bytes, sni) in real() {
        let Some(sni) = sni else { continue };
        assert!(inspect(&Host::parse(sni).unwrap(), &[], &bytes).await.is_ok(), "{client}");
        let refused = refusal(inspect(&host(), &[], &bytes).await.unwrap_err());
        assert_eq!(refused.reason, Reason::SniMismatch, "{client}");
        assert_eq!(refused.offered.as_deref(), Some(sni));
        assert_eq!(refused.early.to_upstream, bytes, "{client}: in report mode these go on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_tells_its_reason_and_the_name_that_was_offered() {
    let half = &naming(b"a.example")[..20];
    type Row<'a> = (&'a str, &'a str, &'a [u8], Reason, Option<&'a str>);
    let rows: &[Row<'_>] = &[
        ("t01", NAME, &naming(b"b.example"), Reason::SniMismatch, Some("b.example")),
        ("t01, a name under it", NAME, &naming(b"x.a.example"), Reason::SniMismatch, Some("x.a.example")),
        ("t07", NAME, &without_sni(), Reason::NoSni, None),
        ("t08", NAME, &naming(b"a.example.."), Reason::ClientHelloMalformed, Some("a.example..")),
        (
            "t08, a dot after another name",
            NAME,
            &naming(b"b.example."),
            Reason::SniMismatch,
            Some("b.example"),
        ),
        ("t12", NAME, &[0x80, 0x2e, 1], Reason::NotTls, None),
        ("t13", NAME, b"SSH-2.0-", Reason::NotTls, None),
        ("t14", NAME, &[], Reason::ClientHelloTimeout, None),
        ("t62, half a hello", NAME, half, Reason::ClientHelloTimeout, None),
        (
            "an address with a name",
            "192.0.2.1",
            &naming(b"a.example"),
            Reason::SniMismatch,
            Some("a.example"),
        ),
        (
            "its own text as a name",
            "192.0.2.1",
            &naming(b"192.0.2.1"),
            Reason::ClientHelloMalformed,
            Some("192.0.2.1"),
        ),
    ];
    for (what, host, sent, reason, offered) in rows {
        let refused = refusal(inspect(&Host::parse(host).unwrap(), &[], sent).await.unwrap_err());
        assert_eq!((refused.reason, refused.offered.as_deref()), (*reason, *offered), "{what}");
        assert_eq!(refused.early.to_upstream, sent, "{what}");
    }
}

/// The target gets the bytes as the client sent them.
#[tokio::test(start_paused = true)]
async fn a_hello_for_the_host_with_a_dot_behind_it_passes_unchanged() {
    let bytes = naming(b"A.example.");
    let passed = inspect(&host(), &[], &bytes).await.unwrap();
    assert_eq!(passed.sni.as_deref(), Some(NAME));
    assert_eq!(passed.bytes.bytes, bytes);
}

/// A hello that names the host, with encrypted_client_hello.
fn with_ech() -> Vec<u8> {
    let sni = (0, server_names(&[(0, NAME.as_bytes())]));
    records(&hello(&[signature_algorithms(), sni, (0xfe0d, vec![0; 40])]), 1 << 14)
}

#[tokio::test(start_paused = true)]
async fn t06_a_hello_tells_whether_it_has_encrypted_client_hello() {
    assert!(inspect(&host(), &[], &with_ech()).await.unwrap().ech);
    assert!(!inspect(&host(), &[], &naming(b"a.example")).await.unwrap().ech);
}

#[tokio::test(start_paused = true)]
async fn an_address_is_asked_for_without_a_name() {
    for address in ["192.0.2.1", "[2001:db8::1]"] {
        let passed = inspect(&Host::parse(address).unwrap(), &[], &without_sni()).await.unwrap();
        assert_eq!(passed.sni, None);
    }
}

#[tokio::test(start_paused = true)]
async fn t62_the_deadline_is_not_put_off_by_bytes() {
    let (mut near, mut far) = duplex(1 << 20);
    let begun = Instant::now();
    let dribble = tokio::spawn(async move {
        for byte in naming(b"a.example") {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if far.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let refused =
        inspect_client(&mut near, BytesMut::new().into(), &host(), begun + TIMEOUT).await.unwrap_err();
    assert_eq!(refusal(refused).reason, Reason::ClientHelloTimeout);
    assert_eq!(begun.elapsed(), TIMEOUT);
    drop(near);
    dribble.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_is_gone_before_its_first_byte_and_malformed_after() {
    let deadline = Instant::now() + TIMEOUT;
    let (mut near, far) = duplex(64);
    drop(far);
    let end = inspect_client(&mut near, BytesMut::new().into(), &host(), deadline).await.unwrap_err();
    assert_eq!(ending(end), Ending::ClientClosed);
    let end =
        inspect_client(&mut near, BytesMut::from(&[22_u8][..]).into(), &host(), deadline).await.unwrap_err();
    assert_eq!(refusal(end).reason, Reason::ClientHelloMalformed);
}

/// A gate between two ends.
struct Passing {
    client: DuplexStream,
    upstream: DuplexStream,
    meter: std::sync::Arc<Meter>,
    cancel: std::sync::Arc<Cancel>,
    done: JoinHandle<(Result<Early, GateEnd>, Option<u64>)>,
}

fn pass(sent: &[u8], upload_limit: Option<u64>) -> Passing {
    let upload = Allowance::limited(upload_limit);
    pass_with(sent, RelayLimits { idle_timeout: Duration::from_secs(60), deadline: None, upload })
}

fn pass_with(sent: &[u8], mut limits: RelayLimits) -> Passing {
    let (client, near_client) = duplex(1 << 20);
    let mut near_client = Pipe::from(near_client);
    let (mut near_upstream, upstream) = duplex(1 << 20);
    let (meter, cancel) = (std::sync::Arc::new(Meter::default()), Cancel::new());
    let bytes = BytesMut::from(sent);
    let done = tokio::spawn({
        let (meter, cancel) = (meter.clone(), cancel.clone());
        async move {
            let host = host();
            let gate =
                Gate { host: &host, ech: Ech::Deny, hello_timeout: TIMEOUT, meter: &meter, cancel: &cancel };
            let hello = inspect_client(&mut near_client, bytes.into(), &host, Instant::now() + TIMEOUT)
                .await
                .unwrap();
            let passed = pass_hello(&mut near_client, &mut near_upstream, hello, &gate, &mut limits).await;
            (passed, limits.upload.left())
        }
    });
    Passing { client, upstream, meter, cancel, done }
}

impl Passing {
    async fn upstream_gets(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.upstream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, bytes);
    }

    async fn client_gets(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, bytes);
    }

    async fn passed(self) -> Early {
        self.done.await.unwrap().0.unwrap()
    }

    async fn end(self) -> GateEnd {
        self.done.await.unwrap().0.unwrap_err()
    }

    /// The ending; also checks that nothing more went to the upstream.
    async fn end_in_silence(mut self) -> GateEnd {
        let end = self.done.await.unwrap().0.unwrap_err();
        let mut more = Vec::new();
        self.upstream.read_to_end(&mut more).await.unwrap();
        assert_eq!(more, b"", "to the upstream");
        end
    }
}

fn first() -> Vec<u8> {
    naming(NAME.as_bytes())
}

fn server_hello(random: [u8; 32]) -> Vec<u8> {
    [&[22, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3], &random[..], &[0, 0x13, 1, 0, 0, 0]].concat()
}

fn retry() -> Vec<u8> {
    server_hello(HELLO_RETRY_REQUEST)
}

const CCS: [u8; 6] = [20, 3, 3, 0, 1, 1];
const ZERO_RTT: [u8; 8] = [23, 3, 3, 0, 3, 9, 9, 9];
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// A gate where the server asked for a second hello.
async fn retried() -> Passing {
    let mut passing = pass(&first(), None);
    passing.upstream_gets(&first()).await;
    passing.upstream.write_all(&retry()).await.unwrap();
    passing.client_gets(&retry()).await;
    passing
}

#[tokio::test(start_paused = true)]
async fn only_the_hello_goes_up_before_the_server_answered_in_tls() {
    for answer in [server_hello([5; 32]), ALERT.to_vec()] {
        let mut passing = pass(&[&first()[..], &ZERO_RTT].concat(), None);
        passing.upstream_gets(&first()).await;
        passing.client.write_all(b"more").await.unwrap();
        let more = tokio::time::timeout(Duration::from_secs(1), passing.upstream.read(&mut [0])).await;
        assert!(more.is_err(), "held");
        passing.upstream.write_all(&answer).await.unwrap();
        let meter = passing.meter.clone();
        let early = passing.passed().await;
        assert_eq!(early.to_upstream, [&ZERO_RTT[..], b"more"].concat());
        assert_eq!(early.to_client, answer);
        assert_eq!((meter.sent(), meter.received()), (first().len() as u64, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn t15_a_server_that_does_not_answer_in_tls_gets_no_more() {
    let rows: &[(&[u8], bool)] = &[(b"SSH-2.0-x\r\n", false), (b"H", false), (&[22, 3, 3, 0], true)];
    for (answer, then_closes) in rows {
        let mut passing = pass(&[&first()[..], b"held"].concat(), None);
        passing.upstream_gets(&first()).await;
        passing.upstream.write_all(answer).await.unwrap();
        if *then_closes {
            passing.upstream.shutdown().await.unwrap();
        }
        let refused = refusal(passing.end_in_silence().await);
        assert_eq!(refused.reason, Reason::UpstreamNotTls);
        assert_eq!((&refused.early.to_upstream[..], &refused.early.to_client[..]), (&b"held"[..], *answer));
    }
}

#[tokio::test(start_paused = true)]
async fn t11_a_second_hello_passes_when_it_names_the_host_again() {
    for before in [vec![], CCS.to_vec(), [&ZERO_RTT[..], &CCS, &ZERO_RTT].concat()] {
        for segment in [1, 7, 1000] {
            let mut passing = retried().await;
            let second = [&before[..], &first()].concat();
            for part in second.chunks(segment) {
                passing.client.write_all(part).await.unwrap();
            }
            passing.upstream_gets(&second).await;
            // The server's change_cipher_spec may come before or after.
            let answer = [&CCS[..], &server_hello([5; 32])].concat();
            passing.upstream.write_all(&answer).await.unwrap();
            let meter = passing.meter.clone();
            let early = passing.passed().await;
            assert_eq!((&early.to_upstream[..], &early.to_client[..]), (&b""[..], &answer[..]));
            assert_eq!(meter.sent(), (first().len() + second.len()) as u64);
            assert_eq!(meter.received(), retry().len() as u64);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t11_a_second_hello_that_differs_goes_nowhere() {
    let rows: &[(&str, Vec<u8>, Reason, Option<&str>)] = &[
        ("another name", naming(b"b.example"), Reason::SniMismatch, Some("b.example")),
        ("no name", without_sni(), Reason::NoSni, None),
        ("an odd name", naming(b"a.example\0"), Reason::ClientHelloMalformed, Some("a.example\\x00")),
        (
            "behind 0-RTT data",
            [&ZERO_RTT[..], &naming(b"b.example")].concat(),
            Reason::SniMismatch,
            Some("b.example"),
        ),
        ("two change_cipher_specs", [CCS, CCS].concat(), Reason::ClientHelloMalformed, None),
        ("an empty record", vec![23, 3, 3, 0, 0], Reason::ClientHelloMalformed, None),
        ("plain text", b"GET / HTTP/1.1".to_vec(), Reason::ClientHelloMalformed, None),
        ("a heartbeat", vec![24, 3, 3, 0, 1], Reason::ClientHelloMalformed, None),
        ("another version", vec![22, 2], Reason::ClientHelloMalformed, None),
        ("nothing", vec![], Reason::ClientHelloTimeout, None),
        ("half a record", ZERO_RTT[..6].to_vec(), Reason::ClientHelloTimeout, None),
        ("half a hello", first()[..30].to_vec(), Reason::ClientHelloTimeout, None),
    ];
    for (what, sent, reason, offered) in rows {
        let mut passing = retried().await;
        let begun = Instant::now();
        passing.client.write_all(sent).await.unwrap();
        let refused = refusal(passing.end_in_silence().await);
        assert_eq!((refused.reason, refused.offered.as_deref()), (*reason, *offered), "{what}");
        assert_eq!(refused.early.to_upstream, sent, "{what}: in report mode these go on");
        let waited = if *reason == Reason::ClientHelloTimeout { TIMEOUT } else { Duration::ZERO };
        assert_eq!(begun.elapsed(), waited, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn t11_zero_rtt_before_the_second_hello_is_bounded() {
    let mut passing = retried().await;
    let record = [&[23, 3, 3, 0x40, 0], &[0; 1 << 14][..]].concat();
    for _ in 0..=second::MAX_SECOND / record.len() {
        passing.client.write_all(&record).await.unwrap();
    }
    passing.client.write_all(&first()).await.unwrap();
    assert_eq!(refusal(passing.end_in_silence().await).reason, Reason::ClientHelloMalformed);
}

#[tokio::test(start_paused = true)]
async fn t11_a_server_may_ask_once_and_must_wait() {
    let mut passing = retried().await;
    passing.upstream.write_all(&server_hello([5; 32])).await.unwrap();
    assert_eq!(refusal(passing.end().await).reason, Reason::UpstreamNotTls, "a hello before the second");

    let mut passing = retried().await;
    passing.client.write_all(&first()).await.unwrap();
    passing.upstream_gets(&first()).await;
    passing.upstream.write_all(&retry()).await.unwrap();
    assert_eq!(refusal(passing.end().await).reason, Reason::UpstreamNotTls, "a second retry");
}

#[tokio::test(start_paused = true)]
async fn after_a_retry_either_side_may_give_up_with_an_alert() {
    let mut passing = retried().await;
    passing.client.write_all(&[&ALERT[..], b"smuggled"].concat()).await.unwrap();
    passing.upstream_gets(&ALERT).await;
    assert_eq!(ending(passing.end_in_silence().await), Ending::ClientClosed);

    let mut passing = retried().await;
    passing.upstream.write_all(&CCS).await.unwrap();
    passing.client_gets(&CCS).await;
    passing.upstream.write_all(&ALERT).await.unwrap();
    assert_eq!(passing.passed().await.to_client[..], ALERT);
}

/// A server may warn (that it does not know the name, say) and then ask for a second hello all the same.
#[tokio::test(start_paused = true)]
async fn t11_a_warning_is_no_answer() {
    const WARNING: [u8; 7] = [21, 3, 3, 0, 2, 1, 112];
    let mut passing = pass(&first(), None);
    passing.upstream_gets(&first()).await;
    let warned = [&WARNING[..], &retry()].concat();
    passing.upstream.write_all(&warned).await.unwrap();
    passing.client_gets(&warned).await;
    passing.upstream.write_all(&WARNING).await.unwrap();
    passing.client_gets(&WARNING).await;
    passing.client.write_all(&naming(b"b.example")).await.unwrap();
    assert_eq!(refusal(passing.end_in_silence().await).reason, Reason::SniMismatch);

    let mut passing = pass(&first(), None);
    passing.upstream.write_all(&WARNING).await.unwrap();
    passing.upstream.shutdown().await.unwrap();
    assert_eq!(passing.passed().await.to_client[..], WARNING, "then it left");
}

#[tokio::test(start_paused = true)]
async fn t67_the_hellos_count_against_the_upload_limit() {
    let length = first().len() as u64;
    for (limit, passes) in [(0, false), (1, false), (length - 1, false), (length, true), (length + 9, true)] {
        let mut passing = pass(&first(), Some(limit));
        passing.upstream_gets(&first()[..usize::try_from(limit.min(length)).unwrap()]).await;
        // Over the limit the gate may be gone already.
        let _ = passing.upstream.write_all(&server_hello([5; 32])).await;
        let meter = passing.meter.clone();
        let (passed, left) = passing.done.await.unwrap();
        assert_eq!(meter.sent(), limit.min(length));
        assert_eq!(left, Some(limit - limit.min(length)));
        match passed {
            Ok(_) => assert!(passes, "{limit}"),
            Err(end) => assert!(!passes && ending(end) == Ending::UploadLimit, "{limit}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_answer_ends_it() {
    let mut passing = pass(&first(), None);
    passing.client.shutdown().await.unwrap();
    assert_eq!(ending(passing.end().await), Ending::ClientClosed);

    let mut passing = pass(&first(), None);
    passing.upstream.shutdown().await.unwrap();
    assert_eq!(ending(passing.end().await), Ending::UpstreamClosed);

    let mut passing = retried().await;
    passing.client.shutdown().await.unwrap();
    assert_eq!(ending(passing.end().await), Ending::ClientClosed);

    let mut passing = retried().await;
    passing.upstream.shutdown().await.unwrap();
    assert_eq!(ending(passing.end().await), Ending::UpstreamClosed);

    let passing = pass(&first(), None);
    drop(passing.upstream);
    assert_eq!(ending(passing.done.await.unwrap().0.unwrap_err()), Ending::UpstreamReset);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_bounded_by_idle_timeout_deadline_and_cancel() {
    let seconds = Duration::from_secs;
    let limits = |deadline: Option<u64>| RelayLimits {
        idle_timeout: seconds(60),
        deadline: deadline.map(|after| Instant::now() + seconds(after)),
        upload: Allowance::default(),
    };
    for (deadline, after, expected) in [
        (None, 60, Ending::IdleTimeout),
        (Some(61), 60, Ending::IdleTimeout),
        (Some(30), 30, Ending::MaxLifetime),
    ] {
        let begun = Instant::now();
        let mut passing = pass_with(&first(), limits(deadline));
        // Bytes from the client, and an answer one byte at a time, do not postpone it.
        passing.client.write_all(b"more").await.unwrap();
        passing.upstream.write_all(&[22, 3]).await.unwrap();
        assert_eq!(ending(passing.end().await), expected);
        assert_eq!(begun.elapsed().as_secs(), after);
    }
    let passing = pass(&first(), None);
    passing.cancel.cancel(Ending::Drained);
    assert_eq!(ending(passing.end().await), Ending::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_wait_for_the_answer_is_held_back() {
    let mut passing = pass(&first(), None);
    passing.upstream_gets(&first()).await;
    passing.client.write_all(&vec![0; 1 << 19]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    passing.upstream.write_all(&server_hello([5; 32])).await.unwrap();
    let held = passing.passed().await.to_upstream.len();
    assert!((MAX_HELD..=2 * MAX_HELD).contains(&held), "{held}");
}

#[test]
fn names_are_compared_whole() {
    let name = |text: &str| Name::parse(text).unwrap();
    assert_eq!(compare_names(&host(), Some(&name("A.EXAMPLE"))), Ok(()));
    for other in ["example", "b.a.example", "aa.example", "a.example.com"] {
        assert_eq!(compare_names(&host(), Some(&name(other))), Err(Reason::SniMismatch));
    }
}
