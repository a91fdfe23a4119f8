//! Tunnels that wait for their turn, because many flow.

use socket2::SockRef;

use super::super::direction::LONGEST_TURN;
use super::*;
use crate::transport::held::{Flowing, HeldBytes, Told};
use crate::transport::socket::{NOTSENT_IN_BULK, NOTSENT_OF_FEW};
use crate::transport::turns::FLOWING;
use crate::transport::turns::tests::all_taken;

const BURST: usize = 256 * 1024;

/// What may wait unsent for a receiver of bulk follows how many flow: at first for the few, then with the others, then again.
#[tokio::test]
async fn few_that_flow_may_have_more_unsent_than_many() {
    let budget = HeldBytes::unlimited();
    let holder = budget.enter();
    let (mut client, near_client) = connection(None).await;
    let (near_upstream, mut upstream) = connection(None).await;
    let target = Arc::new(near_upstream);
    let near_upstream = Arc::clone(&target);
    let relayed = tokio::spawn(async move {
        let (meter, cancel) = (Meter::default(), Cancel::new());
        let mut relay = Relay::splicing(Early::default(), limits(), &holder);
        relay.run(&near_client, &near_upstream, &meter, &cancel, &|| {}).await
    });
    let unsent = || SockRef::from(&target).tcp_notsent_lowat().unwrap() as usize;
    let others = budget.enter();
    for few in [true, false, true] {
        let others =
            (0..if few { 0 } else { 2 * FLOWING.at_once() }).map(|_| Flowing::new(&others, Told::default()));
        let others: Vec<Flowing> = others.collect();
        let sending = async { client.write_all(&vec![b'x'; 3 * LONGEST_TURN]).await.unwrap() };
        tokio::join!(sending, exactly(&mut upstream, 3 * LONGEST_TURN));
        assert_eq!(unsent(), if few { NOTSENT_OF_FEW } else { NOTSENT_IN_BULK });
        drop(others);
    }
    drop((client, upstream));
    assert!(matches!(relayed.await.unwrap(), Ending::ClientClosed | Ending::UpstreamClosed));
}

/// A tunnel among many that flow.
struct InCrowd {
    client: TcpStream,
    upstream: TcpStream,
    relayed: JoinHandle<(Relay<'static>, Ending)>,
    _crowd: Vec<Flowing>,
}

impl InCrowd {
    async fn new() -> Self {
        let holder = HeldBytes::new(64 * 1024 * 1024).enter();
        let crowd = (0..20).map(|_| Flowing::new(&holder, Told::default())).collect();
        let (client, near_client) = connection(None).await;
        let (near_upstream, upstream) = connection(None).await;
        let pool: &'static Pool = Box::leak(Box::new(Pool::new(Sizes { large: 0, small: 0 })));
        let relayed = tokio::spawn(async move {
            let (meter, cancel) = (Meter::default(), Cancel::new());
            let mut relay = Relay::new(Early::default(), limits(), &holder, Some(pool));
            let ending = relay.run(&near_client, &near_upstream, &meter, &cancel, &|| {}).await;
            (relay, ending)
        });
        InCrowd { client, upstream, relayed, _crowd: crowd }
    }

    async fn bursts(&mut self) {
        self.client.write_all(&vec![b'x'; BURST]).await.unwrap();
        exactly(&mut self.upstream, BURST).await;
    }

    /// The client resets it. What has ended, and how.
    async fn reset_by_client(self) -> (Relay<'static>, Ending) {
        reset(&self.client);
        drop(self.client);
        let ended = tokio::time::timeout(Duration::from_secs(30), self.relayed).await;
        ended.expect("the reset is not forgotten").unwrap()
    }
}

/// What comes while it waits for its turn is not forgotten when its last look, which gives the place in line up, is due.
#[tokio::test]
async fn a_tunnel_in_line_goes_on_when_its_last_look_gives_the_place_up() {
    let mut tunnel = InCrowd::new().await;
    // After a second the timer is set for minutes: then nothing but the turn wakes it.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    tunnel.bursts().await;
    // All others have their turn, for longer than the looks last.
    let others = all_taken().await;
    tunnel.client.write_all(b"!").await.unwrap();
    let came = tokio::time::timeout(Duration::from_secs(30), exactly(&mut tunnel.upstream, 1)).await;
    assert_eq!(came.expect("it is not forgotten"), b"!");
    assert_eq!(tunnel.reset_by_client().await.1, Ending::ClientReset);
    drop(others);
}

/// To close a tunnel may take a second, and a turn at reading what its client still sends: it must not be waiting for its own.
#[tokio::test]
async fn a_tunnel_that_has_ended_keeps_no_turn() {
    let mut tunnel = InCrowd::new().await;
    tunnel.bursts().await;
    let (relay, ending) = tunnel.reset_by_client().await;
    assert_eq!(ending, Ending::ClientReset);
    let all = tokio::time::timeout(Duration::from_secs(20), all_taken()).await;
    assert!(all.is_ok(), "every turn is free, while what has ended is still there");
    drop(relay);
}
