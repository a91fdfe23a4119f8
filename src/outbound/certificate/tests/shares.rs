//! What clients share: handshakes at once, and the time of each.

use tokio::task::JoinHandle;

use super::*;

/// So many claims of silent targets, asked by one client; each is a task.
fn flood(
    verifier: &Arc<CertificateVerifier>,
    silent: &Silent,
    of: IpAddr,
    claims: usize,
) -> Vec<JoinHandle<Verdict>> {
    let ask = |number| {
        let (verifier, connect) = (verifier.clone(), silent.again());
        let claim = claim(&format!("s{number}-{}.test", of.to_string().replace('.', "-")));
        tokio::spawn(async move { verifier.verify(&claim, of, TIMEOUT, connect).await })
    };
    (0..claims).map(ask).collect()
}

#[tokio::test(start_paused = true)]
async fn one_clients_silent_targets_are_not_felt_by_another() {
    let authority = Authority::new();
    let verifier = authority.verifier();
    let (silent, target) = (Silent::default(), Target::new(authority.issue(&["a.test", "b.test"], |_| {})));
    let begun = Instant::now();
    let flood = flood(&verifier, &silent, client(66), 10 * PLACES);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(silent.open(), PLACES, "a client alone has every place");

    let proven = verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, target.again()).await;
    assert_eq!((proven, begun.elapsed()), (Ok(()), Duration::from_secs(1)), "at once");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(silent.open(), PLACES, "the place went back");

    let mut told = Vec::new();
    for asked in flood {
        told.push(asked.await.unwrap().unwrap_err().reason);
    }
    let count = |reason| told.iter().filter(|other| **other == reason).count();
    assert_eq!(begun.elapsed(), TIMEOUT, "each within its time");
    let (silences, placeless) = (count(Reason::UpstreamNotTls), count(Reason::LocalResources));
    assert_eq!((silences, silences + placeless), (PLACES - 1, 10 * PLACES), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_had_no_whole_handshake_has_no_verdict() {
    let authority = Authority::new();
    let verifier = authority.verifier();
    let (silent, target) = (Silent::default(), Target::new(authority.issue(&["a.test"], |_| {})));
    // More clients than places, so that the next one waits as well.
    let floods: Vec<_> = (0..2 * PLACES)
        .flat_map(|of| flood(&verifier, &silent, client(100 + u8::try_from(of).unwrap()), 1))
        .collect();
    sleep(Duration::from_millis(1)).await;
    let waits = Duration::from_secs(5);
    let verdict = verifier.verify(&claim("a.test"), CLIENT, waits, target.again()).await.unwrap_err();
    assert_eq!(verdict.reason, Reason::LocalResources, "{verdict:?}");
    assert_eq!(target.connections(), 0);
    assert!(verifier.lock().get(&claim("a.test")).is_none_or(|slot| matches!(slot, Slot::Probing(..))));

    floods.iter().for_each(JoinHandle::abort);
    let proven = verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, target.again()).await;
    assert_eq!(proven, Ok(()), "not kept");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_handshake_begins_with_its_place() {
    let authority = Authority::new();
    let verifier = authority.verifier();
    let (silent, slow) = (Silent::default(), Target::new(authority.issue(&["a.test"], |_| {})));
    let slow = Target { delay: Duration::from_secs(9), ..slow };
    let floods: Vec<_> = (0..PLACES)
        .flat_map(|of| flood(&verifier, &silent, client(100 + u8::try_from(of).unwrap()), 1))
        .collect();
    sleep(Duration::from_secs(5)).await;
    let begun = Instant::now();
    let ask = |at: Duration| {
        let (verifier, slow) = (verifier.clone(), slow.clone());
        tokio::spawn(async move {
            sleep(at).await;
            verifier.verify(&claim("a.test"), CLIENT, TIMEOUT, slow.again()).await
        })
    };
    // The places come back after 4.8 seconds: too late for the first, not for the one that comes to it.
    let (first, second) = (ask(Duration::ZERO), ask(Duration::from_secs(6)));
    assert_eq!(first.await.unwrap().unwrap_err().reason, Reason::LocalResources);
    assert_eq!(begun.elapsed(), TIMEOUT);
    assert_eq!(second.await.unwrap(), Ok(()));
    assert_eq!((slow.connections(), begun.elapsed()), (1, Duration::from_millis(13_800)));
    for asked in floods {
        assert_eq!(asked.await.unwrap().unwrap_err().reason, Reason::UpstreamNotTls);
    }
}
