//! Tunnels that wait for their turn, because many flow.

use super::*;
use crate::transport::held::{Flowing, HeldBytes, Told};
use crate::transport::turns::tests::all_taken;

/// What comes while it waits for its turn is not forgotten when its last look, which gives the place in line up, is due.
#[tokio::test]
async fn a_tunnel_in_line_goes_on_when_its_last_look_gives_the_place_up() {
    const BURST: usize = 256 * 1024;
    let holder = HeldBytes::new(64 * 1024 * 1024).enter();
    let crowd: Vec<Flowing> = (0..20).map(|_| Flowing::new(&holder, Told::default())).collect();
    let (mut client, near_client) = connection(None).await;
    let (near_upstream, mut upstream) = connection(None).await;
    let pool: &'static Pool = Box::leak(Box::new(Pool::new(Sizes { large: 0, small: 0 })));
    let relayed = tokio::spawn(async move {
        let (meter, cancel) = (Meter::default(), Cancel::new());
        let mut relay = Relay::new(Early::default(), limits(), &holder, Some(pool));
        relay.run(&near_client, &near_upstream, &meter, &cancel, &|| {}).await
    });
    // After a second the timer is set for minutes: then nothing but the turn wakes it.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    client.write_all(&vec![b'x'; BURST]).await.unwrap();
    exactly(&mut upstream, BURST).await;
    // All others have their turn, for longer than the looks last.
    let others = all_taken().await;
    client.write_all(b"!").await.unwrap();
    let came = tokio::time::timeout(Duration::from_secs(30), exactly(&mut upstream, 1)).await;
    assert_eq!(came.expect("it is not forgotten"), b"!");
    reset(&client);
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(30), relayed).await;
    assert_eq!(ended.expect("the reset is not forgotten").unwrap(), Ending::ClientReset);
    drop((others, crowd));
}

/// To close a tunnel may take a second, and a turn at reading what its client still sends: it must not be waiting for its own.
#[tokio::test]
async fn a_tunnel_that_has_ended_keeps_no_turn() {
    const BURST: usize = 256 * 1024;
    let holder = HeldBytes::new(64 * 1024 * 1024).enter();
    let crowd: Vec<Flowing> = (0..20).map(|_| Flowing::new(&holder, Told::default())).collect();
    let (mut client, near_client) = connection(None).await;
    let (near_upstream, mut upstream) = connection(None).await;
    let pool: &'static Pool = Box::leak(Box::new(Pool::new(Sizes { large: 0, small: 0 })));
    let relayed = tokio::spawn(async move {
        let (meter, cancel) = (Meter::default(), Cancel::new());
        let mut relay = Relay::new(Early::default(), limits(), &holder, Some(pool));
        let ending = relay.run(&near_client, &near_upstream, &meter, &cancel, &|| {}).await;
        // Every turn is free, while what has ended is still there.
        let taken = tokio::time::timeout(Duration::from_secs(20), all_taken()).await;
        drop(relay);
        (ending, taken.is_ok())
    });
    client.write_all(&vec![b'x'; BURST]).await.unwrap();
    exactly(&mut upstream, BURST).await;
    reset(&client);
    drop(client);
    assert_eq!(relayed.await.unwrap(), (Ending::ClientReset, true));
    drop(crowd);
}
