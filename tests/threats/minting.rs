//! Floods of names under one inspecting rule: each could cost a certificate. How many are kept, and whose are given up, is in the
//! tests beside the cache; a test here would need more than 10,000 names.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::inspected_world::{Site, Tls, World};
use crate::support::{Egressd, End, Wire, client_hello, config};

const FLOOD: [u8; 4] = [127, 0, 8, 1];
const QUIET: [u8; 4] = [127, 0, 8, 2];
/// Names that the flood asks for.
const NAMES: usize = 60;

struct Scene {
    world: World,
    site: Site,
    proxy: Egressd,
}

impl Scene {
    /// A target that proves every name below `flood.test`, and none below `liar.test`.
    fn new(limits: &str) -> Self {
        let world = World::new();
        let site = Site::ok(&world.targets.issue(&["*.flood.test"]));
        let port = site.port();
        let rules = ["flood.test", "liar.test"]
            .map(|domain| format!("{{to: \"https://*.{domain}:{port}\", inspect: true}}"));
        let names =
            (0..NAMES).map(|n| format!("n{n}.flood.test: [127.0.0.1], n{n}.liar.test: [127.0.0.1], "));
        let hosts =
            format!("dns: {{hosts: {{{}quiet.flood.test: [127.0.0.1]}}}}\n", names.collect::<String>());
        let rest = World::rest();
        let (rest, _) = rest.split_once("dns:").expect("the other hosts");
        let proxy = world.start(&(config(&[&rules[0], &rules[1]]) + rest + &hosts + limits));
        Scene { world, site, proxy }
    }

    /// What the proxy says to the CONNECT of this client.
    fn connect(&self, from: [u8; 4], host: &str) -> (u16, Wire) {
        let authority = format!("{host}:{}", self.site.port());
        let mut wire = Wire::connect_from(from.into(), self.proxy.address());
        wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        (wire.read_head().status, wire)
    }

    /// A whole request of this client to `host`: its status.
    fn ask(&self, tls: &Tls, from: [u8; 4], host: &str) -> u16 {
        let (status, tunnel) = self.connect(from, host);
        if status != 200 {
            return status;
        }
        let mut wire = tls.handshake(tunnel, host).expect("a certificate for this name");
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}:{}\r\n\r\n", self.site.port()));
        wire.read_reply().status
    }

    fn leaves(&self, result: &str) -> u64 {
        self.proxy.metrics().count("egressd_leaf_certificates_total", &[("result", result)])
    }

    fn tls(&self) -> Tls {
        Tls::trusting(Some(&self.world.inspection))
    }
}

#[test]
fn t85_a_name_is_signed_for_once_however_many_ask_and_a_quiet_client_keeps_its_own() {
    let scene = Scene::new("limits: {requests_per_second_per_client: 100000}\n");
    let tls = scene.tls();
    assert_eq!(scene.ask(&tls, QUIET, "quiet.flood.test"), 200);
    assert_eq!(scene.leaves("minted"), 1);
    let flooding = AtomicBool::new(true);
    thread::scope(|scope| {
        let floods: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for name in 0..NAMES {
                        assert_eq!(scene.ask(&tls, FLOOD, &format!("n{name}.flood.test")), 200);
                    }
                })
            })
            .collect();
        let quiet = scope.spawn(|| {
            let mut served = 0;
            while flooding.load(Ordering::Relaxed) {
                assert_eq!(scene.ask(&tls, QUIET, "quiet.flood.test"), 200, "while others flood");
                served += 1;
            }
            served
        });
        floods.into_iter().for_each(|flood| flood.join().expect("every name is served"));
        flooding.store(false, Ordering::Relaxed);
        assert!(quiet.join().expect("served to its end") > 0);
    });
    // Four asked for each name at the same time, and the quiet client's was never made again.
    assert_eq!(scene.leaves("minted"), 1 + NAMES as u64);
}

#[test]
fn t85_nothing_is_signed_for_a_name_that_the_target_did_not_prove_or_that_only_the_hello_names() {
    let scene = Scene::new("limits: {requests_per_second_per_client: 100000}\n");
    for name in 0..NAMES {
        let (status, _) = scene.connect(FLOOD, &format!("n{name}.liar.test"));
        assert_eq!(status, 502, "the target's certificate is for other names");
        let (status, mut tunnel) = scene.connect(FLOOD, "n0.flood.test");
        assert_eq!(status, 200);
        tunnel.send(client_hello(Some(&format!("n{}.flood.test", name + 1))));
        assert_eq!(tunnel.read_to_end(), (vec![21, 3, 3, 0, 2, 2, 112], End::Fin), "unrecognized_name");
    }
    assert_eq!((scene.leaves("minted"), scene.leaves("cached")), (0, 0));
}

#[test]
fn t85_a_client_mints_no_faster_than_its_rate_allows_and_another_is_served() {
    let scene = Scene::new("limits: {requests_per_second_per_client: 2}\n");
    let tls = scene.tls();
    let statuses: Vec<u16> =
        (0..NAMES).map(|name| scene.ask(&tls, FLOOD, &format!("n{name}.flood.test"))).collect();
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(passed + refused, NAMES, "{statuses:?}");
    assert!(passed > 0 && refused > 0, "{statuses:?}");
    // A tunnel whose request was refused had its certificate: no more than that.
    let minted = scene.leaves("minted");
    assert!(minted < NAMES as u64, "{minted}: {statuses:?}");
    assert_eq!(scene.ask(&tls, QUIET, "quiet.flood.test"), 200);
}
