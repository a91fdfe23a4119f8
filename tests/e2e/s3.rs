//! S3 through a rule with `aws`: boto3, and clients that sign each chunk, with a key of ours and a key of others, to a server that proves
//! signatures as S3 does (`tests/support/s3.py`, `tests/clients/s3.py`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::codecommit::access_key;
use crate::support::{Authority, Egressd, config, directory, own_loopback, read, until, write};
use crate::tool::{Daemon, Ran, here, isolate, tool};

const HOST: &str = "s3.ap-northeast-1.amazonaws.com";
const OURS: &str = "210987654321";
const THEIRS: &str = "456247553902";

#[test]
fn a_key_of_our_account_passes_in_every_form_and_a_foreign_one_in_none() {
    let (targets, inspection) = (Authority::new(), Authority::new());
    let (place, home) = (directory(), directory());
    let root = place.path();
    let certificate = targets.issue(&[HOST]);
    write(&root.join("tls.crt"), &certificate.pem);
    write(&root.join("tls.key"), &certificate.key_pem);
    let session = access_key(OURS, 9).replace("AKIA", "ASIA");
    let keys = json!({
        "ours": {"id": access_key(OURS, 1), "secret": "of+us/1"},
        "session": {"id": session, "secret": "of+us/9", "token": "a/session+token=="},
        "theirs": {"id": access_key(THEIRS, 1), "secret": "of+them/1"},
    });
    let account = |whose: &str| if whose == "theirs" { THEIRS } else { OURS };
    let known: BTreeMap<&str, Value> = ["ours", "session", "theirs"]
        .into_iter()
        .map(|whose| {
            let key = &keys[whose];
            let id = key["id"].as_str().expect("a text");
            (id, json!({"account": account(whose), "secret": key["secret"], "token": key["token"]}))
        })
        .collect();
    let address = own_loopback();
    let settings = json!({
        "address": address, "port": 0, "place": root, "region": "ap-northeast-1", "keys": known,
        "certificate": root.join("tls.crt"), "key": root.join("tls.key"),
        // Ours lets the foreign account in, so that it is egressd alone that keeps it out.
        "buckets": {
            "ours": {"account": OURS, "grants": [THEIRS]},
            "granting": {"account": THEIRS, "grants": [OURS]},
            "closed": {"account": THEIRS, "grants": []},
        },
    });
    write(&root.join("settings.json"), settings.to_string());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut python = here("/usr/bin/python3");
    python.arg(tests.join("support/s3.py")).arg(root.join("settings.json"));
    isolate(&mut python, root);
    let mut server = Daemon::start(&mut python);
    let port: u16 = until("the server to listen", || {
        server.assert_alive();
        std::fs::read_to_string(root.join("port")).ok()?.parse().ok()
    });

    let files = directory();
    write(&files.path().join("roots.pem"), targets.pem());
    write(&files.path().join("ca.crt"), inspection.pem());
    write(&files.path().join("ca.key"), inspection.key_pem());
    let rule = format!(
        "{{to: \"{HOST}:{port}\", requests: [{{aws: {{accounts: [\"{OURS}\"], services: [s3], regions: [ap-northeast-1]}}}}]}}"
    );
    let text = config(&[&rule])
        + &format!(
            "certificates: {{roots: roots.pem}}\ninspection: {{certificate: ca.crt, key: ca.key}}\ndns: {{hosts: {{{HOST}: [{address}]}}}}\n"
        );
    let proxy = Egressd::start_in(files, &text);

    write(&home.path().join("root.pem"), inspection.pem());
    let asks = json!({
        "endpoint": format!("https://{HOST}:{port}"), "region": "ap-northeast-1", "proxy": format!("http://{}", proxy.address()),
        "root": home.path().join("root.pem"), "keys": keys, "account": OURS,
        "buckets": {"ours": "ours", "granting": "granting", "closed": "closed"},
    });
    write(&home.path().join("asks.json"), asks.to_string());
    let mut client = tool("/usr/bin/python3", home.path());
    // It leaves no compiled files in the source.
    client.arg("-B").arg(tests.join("clients/s3.py")).arg(home.path().join("asks.json"));
    let told = Ran::ok(&mut client);
    let acts: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();

    let mut passed = Vec::new();
    for act in &acts {
        let (whose, what) = (act["whose"].as_str().expect("a text"), act["what"].as_str().expect("a text"));
        match (whose, what) {
            (_, "two signatures") | ("theirs" | "nobody", _) => {
                assert_eq!((&act["ok"], &act["status"]), (&json!(false), &json!(403)), "{act}");
            }
            // S3 says so itself: the request was let through.
            ("ours", "foreign bucket, owner expected" | "closed bucket") => {
                assert_eq!(act["code"], "AccessDenied", "{act}");
            }
            _ => {
                assert_eq!(act["ok"], true, "{act}");
                passed.push(what);
            }
        }
    }
    // `accounts` bounds who signs, and not where data lands: a bucket of others took what our key wrote.
    for what in [
        "foreign bucket",
        "foreign bucket in parts",
        "presigned",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    ] {
        assert!(passed.contains(&what), "{what} in {passed:?}");
    }
    assert_eq!((acts.len(), passed.len()), (31, 16), "{told}");

    the_command_line_says_the_same(home.path(), &asks);

    let seen: Vec<Value> =
        read(&root.join("requests")).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(seen.iter().all(|line| line["account"] == OURS), "only our account came through: {seen:?}");
    assert!(
        seen.iter().any(|line| line["path"] == "/granting/taken" && line["status"] == 200),
        "our key wrote to a bucket of another account: {seen:?}"
    );
    for payload in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
        assert!(
            seen.iter().any(|line| line["payload"] == payload && line["status"] == 200),
            "{payload} {seen:?}"
        );
    }
    let ended = proxy.stop();
    let of = |event: &'static str| ended.records.iter().filter(move |record| record["event"] == event);
    assert_eq!(of("request").count(), seen.len(), "each that came through is on record");
    for record in of("request") {
        assert_eq!(record["aws"]["account"], OURS, "{record:?}");
        assert_eq!(record["aws"]["service"], "s3", "{record:?}");
        assert_eq!(record["aws"]["region"], "ap-northeast-1", "{record:?}");
    }
    let inner: Vec<_> = of("deny").collect();
    assert!(inner.iter().all(|record| record["reason"] == "account_not_allowed"), "{inner:?}");
    let foreign = inner.iter().filter(|record| record["aws"]["account"] == THEIRS);
    assert!(foreign.count() >= 7, "{inner:?}");
    let log = format!("{:?}", ended.records);
    for secret in ["X-Amz-Signature", "a/session+token==", "of+us/1"] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
}

/// AWS's command line copies a file that goes in parts: with our key to our bucket and back, and to one of others that lets us in. With a
/// foreign key it is refused, and prints what egressd says.
fn the_command_line_says_the_same(home: &Path, asks: &Value) {
    let file = home.join("large");
    write(&file, vec![b'x'; 12 << 20]);
    write(&home.join("aws"), "[default]\ns3 =\n  addressing_style = path\n");
    let copy = |whose: &str, from: &str, to: &str| {
        let mut aws = tool("/usr/bin/aws", home);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        aws.arg("--endpoint-url").arg(text(&asks["endpoint"])).args(["s3", "cp", "--no-progress", from, to]);
        for (variable, value) in [
            ("AWS_ACCESS_KEY_ID", &asks["keys"][whose]["id"]),
            ("AWS_SECRET_ACCESS_KEY", &asks["keys"][whose]["secret"]),
            ("AWS_REGION", &asks["region"]),
            ("AWS_CA_BUNDLE", &asks["root"]),
            ("HTTPS_PROXY", &asks["proxy"]),
        ] {
            aws.env(variable, text(value));
        }
        aws.env("AWS_CONFIG_FILE", home.join("aws"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1");
        Ran::of(&mut aws)
    };
    let large = file.to_str().expect("a text");
    let back = home.join("back");
    for (from, to) in [
        (large, "s3://ours/cli/large"),
        ("s3://ours/cli/large", back.to_str().expect("a text")),
        (large, "s3://granting/cli"),
    ] {
        let ran = copy("ours", from, to);
        assert_eq!(ran.code, Some(0), "{from} {to}: {ran:?}");
    }
    assert!(std::fs::read(&back).expect("it came back") == std::fs::read(&file).expect("it is there"));
    let closed = copy("ours", large, "s3://closed/cli");
    assert!(closed.code == Some(1) && closed.stderr.contains("AccessDenied"), "S3 said so: {closed:?}");
    for (from, to) in
        [(large, "s3://ours/theirs"), (large, "s3://closed/theirs"), ("s3://ours/cli/large", "again")]
    {
        let foreign = copy("theirs", from, to);
        assert!(foreign.code == Some(1) && foreign.stderr.contains("403"), "{from} {to}: {foreign:?}");
    }
}
