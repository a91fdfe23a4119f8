//! Seals, checked by programs that are not ours: the canonical form by Python's `json`, hashes by `sha256`, signatures and
//! fingerprints by `openssl`.

use std::path::Path;

use serde_json::Value;

use crate::support::{Egressd, Origin, config, directory, read, run, until, write};
use crate::tool::{Ran, tool};

/// Reads a log and writes, for each seal, what is signed and its signature; checks every hash by itself. Python's floats are
/// ECMAScript's but for whole numbers and exponents, and a log has no number that needs one.
const ORACLE: &str = r#"
import base64, hashlib, json, sys

def canonical(value):
    def number(value):
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, dict):
            return {name: number(member) for name, member in value.items()}
        if isinstance(value, list):
            return [number(item) for item in value]
        return value
    return json.dumps(number(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

def sha256(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()

def marks(value):
    """Where what belongs to seals stands: in the line itself, or where ECS and OCSF have room."""
    return next((value[group] for group in ("egressd", "unmapped") if group in value), value)

records, hashes, previous, seals = [], [], None, 0
for line in open(sys.argv[1]):
    value = json.loads(line)
    within = marks(value)
    if "seal" not in within:
        assert within["sealed"]["seq"] == len(records), value
        records.append(value)
        hashes.append(sha256(canonical(value)))
        continue
    signature = base64.b64decode(within.pop("signature"))
    body, seal = canonical(value), within["seal"]
    assert seal["hashes"] == hashes and seal["count"] == len(hashes) and seal["previous"] == previous, seal
    assert seal["first"] + seal["count"] == len(records) and seal["number"] == seals, seal
    open(f"{sys.argv[2]}/{seals}.body", "wb").write(body)
    open(f"{sys.argv[2]}/{seals}.sig", "wb").write(signature)
    hashes, previous, seals = [], sha256(body), seals + 1
print(seals, len(records), seal["key"], seal["final"], previous)
"#;

#[test]
fn other_programs_come_to_the_same_hashes_and_accept_the_signatures() {
    let kept = directory();
    let path = |name: &str| kept.path().join(name).display().to_string();
    assert!(run(&["seal", "new", "--out", &path("keys")]).status.success());
    write(&kept.path().join("oracle.py"), ORACLE);
    let public = path("keys/seal.pub");
    let openssl = |arguments: &[&str]| Ran::of(tool("openssl", kept.path()).args(arguments));
    let origin = Origin::echo();
    let text = |format: &str| {
        config(&[&format!("tcp://{}", origin.address())])
            + &format!(
                "access_log: {{output: \"{}\", format: {format}, seal: {{key: \"{}\", every: 1s}}}}\n",
                path(&format!("{format}.log")),
                path("keys/seal.key")
            )
    };
    let mut fingerprint = String::new();
    for format in ["json", "ecs", "ocsf"] {
        let proxy = Egressd::start(&text(format));
        for number in 0..80 {
            let mut wire = proxy.tunnel(&origin.address().to_string());
            wire.send(b"ping");
            wire.read_exact(4);
            wire.finish();
            wire.read_to_end();
            // A refusal with what only escapes can say, in ASCII and in canonical JSON.
            let mut wire = proxy.connect();
            wire.send(
                format!("CONNECT host{number}.example:443 HTTP/1.1\r\nHost: host{number}.example:443\r\nUser-Agent: \u{e9}\"\\\t\u{1f600}\r\n\r\n")
                    .as_bytes(),
            );
            wire.read_to_end();
        }
        let status = until("a seal", || {
            let status: Value = serde_json::from_str(&proxy.get("/api/status").body).expect("JSON");
            status["access_log"]["seal"]["seq"].is_u64().then_some(status)
        });
        assert_eq!(proxy.stop().code, 0);

        let log = path(&format!("{format}.log"));
        let told = Ran::ok(tool("python3", kept.path()).args([path("oracle.py"), log, path("")]));
        let told: Vec<&str> = told.split_whitespace().collect();
        let [seals, records, key, last, _] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((*records, *last), ("240", "True"), "{format}");
        let seals: usize = seals.parse().expect("a number");
        assert!(seals >= 3, "{seals}");
        assert_eq!(status["access_log"]["seal"]["key"], **key);
        fingerprint = (*key).to_owned();

        let check = |number: usize, body: &str| {
            let (body, signature) = (path(&format!("{number}.{body}")), path(&format!("{number}.sig")));
            openssl(&[
                "pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin", "-in", &body, "-sigfile",
                &signature,
            ])
        };
        for number in 0..seals {
            assert_eq!(check(number, "body").code, Some(0), "{format}: seal {number}");
        }
        let body = std::fs::read(kept.path().join("1.body")).expect("written");
        write(&kept.path().join("1.other"), [&body, &b" "[..]].concat());
        assert_ne!(check(1, "other").code, Some(0), "openssl does check");
    }

    // The fingerprint is what openssl and sha256sum say.
    assert_eq!(
        openssl(&["pkey", "-pubin", "-in", &public, "-outform", "DER", "-out", &path("der")]).code,
        Some(0)
    );
    let sum = Ran::ok(tool("sha256sum", kept.path()).arg(path("der")));
    assert_eq!(sum.split_whitespace().next(), Some(&*fingerprint));
    // And a pair that openssl made seals and verifies.
    assert_eq!(openssl(&["genpkey", "-algorithm", "ed25519", "-out", &path("theirs.key")]).code, Some(0));
    assert_eq!(
        openssl(&["pkey", "-in", &path("theirs.key"), "-pubout", "-out", &path("theirs.pub")]).code,
        Some(0)
    );
    let ours = Ran::ok(tool("openssl", kept.path()).args(["pkey", "-in", &path("keys/seal.key"), "-pubout"]));
    assert_eq!(ours, read(Path::new(&public)));
    let text =
        text("json").replace(&path("keys/seal.key"), &path("theirs.key")).replace("json.log", "theirs.log");
    let proxy = Egressd::start(&text);
    assert_eq!(proxy.stop().code, 0);
    let verified = run(&["verify", &path("theirs.log"), "--key", &path("theirs.pub")]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
}
