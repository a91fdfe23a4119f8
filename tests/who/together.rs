//! All ways of identifying a client together: the balancer's header, a certificate, the VPC endpoint, a password; and how
//! their files are renewed while egressd runs.

use serde_json::json;

use crate::balancer::{TRUSTED, v2, vpc_endpoint};
use crate::certificates::{MUTUAL, NAME, assert_let_down, connect};
use crate::passwords::{PASSWORD, basic, connect_as, users};
use crate::support::{Authority, Egressd, Issued, Origin, Volume, Wire, directory, until, write};
use crate::{connect_to, deciding, listening};

#[test]
fn a_policy_may_ask_for_network_identity_and_vpc_endpoint_together() {
    let (authority, origin) = (Authority::new(), Origin::echo());
    let to = origin.address();
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let own = authority.issue(&[NAME]);
    for (name, text) in [("tls.crt", &*own.pem), ("tls.key", &own.key_pem), ("ca.crt", authority.pem())] {
        write(&path(name), text);
    }
    write(&path("ca.crl"), authority.crl(&[]));
    let policies = format!(
        "  - name: all\n    clients: {{networks: [192.0.2.0/24], identities: [\"dns:gitaly.corp\"], vpc_endpoints: [vpce-0abc]}}\n    \
         private: [127.0.0.0/8]\n    allow: [\"tcp://{to}\"]\n"
    );
    let proxy = Egressd::start_in(directory, &deciding(&format!("{TRUSTED}, {MUTUAL}"), &policies));
    let gitaly = authority.issue_client_named("gitaly.corp");
    let backup = authority.issue_client_named("backup.corp");
    let ours = vpc_endpoint("vpce-0abc");
    let cases: [([u8; 4], &Issued, &[u8], u16); 4] = [
        ([192, 0, 2, 9], &gitaly, &ours, 200),
        ([198, 51, 100, 9], &gitaly, &ours, 403),
        ([192, 0, 2, 9], &backup, &ours, 403),
        ([192, 0, 2, 9], &gitaly, &[], 403),
    ];
    for (client, own, fields, status) in cases {
        let mut wire = proxy.connect();
        let peer = wire.local().to_string();
        wire.send(v2(client, fields));
        let mut wire = Wire::through(authority.client_as(NAME, wire, Some(own)));
        wire.send(connect_to(&to.to_string()));
        let reply = wire.read_head();
        assert_eq!(reply.status, status, "{client:?} {fields:?}");
        let identity = if std::ptr::eq(own, &gitaly) { "dns:gitaly.corp" } else { "dns:backup.corp" };
        proxy.record(|record| record["id"] == reply.id()).assert_has(&json!({
            "client": format!("{}:4711", std::net::Ipv4Addr::from(client)), "peer": peer, "identity": identity,
            "reason": if status == 200 { json!(null) } else { json!("client_not_allowed") },
        }));
    }
}

#[test]
fn a_secret_that_the_kubelet_updates_counts_from_then_on() {
    let authority = Authority::new();
    let directory = directory();
    let root = directory.path().join("volume");
    let text = listening(&format!("{MUTUAL}, basic_auth: {{users_file: users}}"), &["a.example"]);
    let update = |own: &Issued, revoked: &[u8], password: &str| -> Vec<(&'static str, String)> {
        vec![
            ("egressd.yaml", text.clone()),
            ("tls.crt", own.pem.clone()),
            ("tls.key", own.key_pem.clone()),
            ("ca.crt", authority.pem().to_owned()),
            ("ca.crl", authority.crl(revoked)),
            ("users", users(&[("gitaly", password)])),
        ]
    };
    let mut volume = Volume::new(root.clone(), &lines(&update(&authority.issue(&[NAME]), &[], PASSWORD)));
    let proxy = Egressd::start_at(directory, &root.join("egressd.yaml"));
    let (stays, goes) = (authority.issue_client(1, "stays", None), authority.issue_client(7, "goes", None));
    let status = |own: &Issued, password: &str| {
        let mut wire = connect(&proxy, &authority, Some(own));
        wire.send(connect_as("b.example:443", &basic("gitaly", password)));
        wire.read_head().status
    };
    let expires =
        || proxy.metrics().sum("egressd_certificate_expires_timestamp_seconds", &[("listener", "proxy")]);
    assert_eq!((status(&stays, PASSWORD), status(&goes, "changed")), (403, 407));

    // No signal, only the swap of `..data`: this is how cert-manager's renewal arrives in a pod.
    volume.update(&lines(&update(&authority.issue_until(&[NAME], 2090), &[7], "changed")));
    until("the new certificate", || (expires() == 3_786_912_000.0).then_some(()));
    assert_eq!((status(&stays, PASSWORD), status(&stays, "changed")), (407, 403));
    assert_let_down(&proxy, &authority, Some(&goes));
}

fn lines<'a>(files: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    files.iter().map(|(name, text)| (*name, text.as_str())).collect()
}
