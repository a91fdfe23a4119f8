//! Copies of the access log for an OTLP receiver: what it gets, and that traffic never notices what becomes of them.
//!
//! The receivers here are made of the messages of `opentelemetry-proto` and of bytes that a test says, so that they can be wrong in
//! every way.

mod support;

use std::collections::VecDeque;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::thread::{scope, spawn};

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use rustix::process::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use support::{Authority, Egressd, Origin, command, config, directory, run, until, write};

/// What a receiver does with one request.
#[derive(Clone, Debug)]
enum Says {
    /// It has the records, except so many.
    Takes(i64),
    /// This status, with these fields and body.
    Status(&'static str),
    /// These bytes, and then the end.
    Bytes(&'static str),
    /// Nothing, ever.
    Nothing,
}

#[derive(Clone, Debug)]
struct Seen {
    head: String,
    body: Vec<u8>,
    taken: bool,
}

#[derive(Default)]
struct Script {
    says: VecDeque<Says>,
    always: Option<Says>,
    seen: Vec<Seen>,
}

#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Receiver {
    /// Answers one request after the other as told, and takes the rest.
    fn saying(says: impl IntoIterator<Item = Says>) -> Self {
        Receiver::start(says, None, None)
    }

    fn always(says: Says) -> Self {
        Receiver::start([], Some(says), None)
    }

    fn start(
        says: impl IntoIterator<Item = Says>,
        always: Option<Says>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let script = Script { says: says.into_iter().collect(), always, seen: Vec::new() };
        let receiver = Receiver { address, script: Arc::new(Mutex::new(script)) };
        let serving = receiver.clone();
        spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serving, tls) = (serving.clone(), tls.clone());
                spawn(move || match tls {
                    None => serving.serve(stream),
                    Some(tls) => {
                        serving.serve(StreamOwned::new(ServerConnection::new(tls).expect("TLS"), stream));
                    }
                });
            }
        });
        receiver
    }

    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some((head, body)) = request(&mut stream) {
            let says = {
                let mut script = self.script.lock().expect("no panic");
                let says = script.says.pop_front().or(script.always.clone()).unwrap_or(Says::Takes(0));
                script.seen.push(Seen { head, body, taken: matches!(says, Says::Takes(_)) });
                says
            };
            let answer = match says {
                Says::Takes(rejected_log_records) => {
                    let partial =
                        ExportLogsPartialSuccess { rejected_log_records, error_message: String::new() };
                    let partial_success = Some(partial).filter(|partial| partial.rejected_log_records > 0);
                    let body = ExportLogsServiceResponse { partial_success }.encode_to_vec();
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: ";
                    [format!("{head}{}\r\n\r\n", body.len()).as_bytes(), &body].concat()
                }
                Says::Status(rest) => format!("HTTP/1.1 {rest}").into_bytes(),
                Says::Bytes(bytes) => {
                    let _ = stream.get_mut().write_all(bytes.as_bytes());
                    return;
                }
                Says::Nothing => {
                    // Until the other side leaves.
                    let _ = stream.read(&mut [0]);
                    return;
                }
            };
            if stream.get_mut().write_all(&answer).and_then(|()| stream.get_mut().flush()).is_err() {
                return;
            }
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.script.lock().expect("no panic").seen.clone()
    }

    /// The records that it took.
    fn records(&self) -> Vec<LogRecord> {
        let taken = self.seen().into_iter().filter(|seen| seen.taken);
        let requests = taken.map(|seen| seen.request());
        let logs = requests.flat_map(|request| request.resource_logs).flat_map(|logs| logs.scope_logs);
        logs.flat_map(|logs| logs.log_records).collect()
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Seen {
    fn request(&self) -> ExportLogsServiceRequest {
        let mut plain = Vec::new();
        let body = match self.field("content-encoding") {
            Some("gzip") => {
                flate2::read::GzDecoder::new(self.body.as_slice()).read_to_end(&mut plain).expect("gzip");
                plain.as_slice()
            }
            _ => self.body.as_slice(),
        };
        ExportLogsServiceRequest::decode(body).expect("a request of OTLP")
    }

    fn field(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| -> Option<(String, usize)> {
            let (name, _) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), name.len() + 2))
        };
        self.head
            .lines()
            .find_map(|line| of(line).filter(|(found, _)| found == name).map(|(_, at)| &line[at..]))
    }
}

fn request(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// What an attribute is in JSON.
fn json(value: &Any) -> Value {
    match value {
        Any::StringValue(text) => text.as_str().into(),
        Any::BoolValue(value) => (*value).into(),
        Any::IntValue(number) => (*number).into(),
        Any::DoubleValue(number) => (*number).into(),
        Any::ArrayValue(list) => {
            list.values.iter().map(|value| value.value.as_ref().map_or(Value::Null, json)).collect()
        }
        Any::KvlistValue(members) => object(&members.values),
        other => panic!("{other:?}"),
    }
}

fn object(attributes: &[KeyValue]) -> Value {
    let value = |each: &KeyValue| each.value.as_ref()?.value.as_ref().map(json);
    Value::Object(
        attributes.iter().map(|each| (each.key.clone(), value(each).unwrap_or(Value::Null))).collect(),
    )
}

fn attributes(record: &LogRecord) -> Value {
    object(&record.attributes)
}

/// Runs egressd with `otlp` and more keys under `access_log`, with more lines of the configuration, files and variables.
fn start(
    rules: &[&str],
    otlp: &str,
    more: &str,
    files: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Egressd {
    let directory = directory();
    for (name, content) in files {
        write(&directory.path().join(name), content);
    }
    let file = directory.path().join("egressd.yaml");
    write(&file, text(rules, otlp, more));
    let mut command = command();
    command.arg("run").arg("--config").arg(&file).envs(variables.iter().copied());
    let proxy = Egressd::spawn(directory, command);
    until("egressd to be ready", || (proxy.get("/readyz").status == 200).then_some(()));
    proxy
}

fn text(rules: &[&str], otlp: &str, more: &str) -> String {
    format!("{}access_log: {{otlp: {otlp}}}\n{more}", config(rules))
}

/// One refused request: one record.
fn ask(proxy: &Egressd) {
    proxy.refuses(
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        403,
        "host_not_allowed",
    );
}

fn count(proxy: &Egressd, result: &str) -> u64 {
    proxy.metrics().count("egressd_otlp_records_total", &[("result", result)])
}

fn counted(proxy: &Egressd, result: &str, want: u64) {
    until(&format!("{want} records to be {result}"), || (count(proxy, result) == want).then_some(()));
}

#[test]
fn the_receiver_gets_each_record_whole_in_the_order_of_the_log() {
    let (receiver, origin) = (Receiver::saying([]), Origin::echo());
    let otlp = format!("{{endpoint: '{}', headers_file: otlp.headers}}", receiver.endpoint());
    let files = [("otlp.headers", "Authorization: Bearer s3cret\nX-Tenant: egress\n")];
    let proxy = start(&[&format!("tcp://{}", origin.address())], &otlp, "", &files, &[]);
    let mut tunnel = proxy.tunnel(&origin.address().to_string());
    tunnel.send(b"ping");
    tunnel.read_exact(4);
    tunnel.finish();
    tunnel.read_to_end();
    proxy.record(|record| record["event"] == "close");
    ask(&proxy);
    counted(&proxy, "exported", 3);
    let want: Vec<Value> =
        proxy.log().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let got: Vec<Value> = receiver.records().iter().map(attributes).collect();
    assert_eq!(got.len(), 3);
    for (want, got) in want.iter().zip(&got) {
        for (name, value) in want.as_object().expect("an object") {
            assert_eq!(&got[name], value, "{name}");
        }
    }
    let severities: Vec<i32> = receiver.records().iter().map(|record| record.severity_number).collect();
    assert_eq!(severities, [9, 9, 17]);
    for seen in receiver.seen() {
        assert!(seen.head.starts_with("POST /v1/logs HTTP/1.1\r\n"), "{}", seen.head);
        assert_eq!(seen.field("host"), Some(receiver.address.to_string().as_str()));
        assert_eq!(seen.field("content-type"), Some("application/x-protobuf"));
        assert_eq!(
            (seen.field("authorization"), seen.field("x-tenant")),
            (Some("Bearer s3cret"), Some("egress"))
        );
        let request = seen.request();
        let resource = object(&request.resource_logs[0].resource.as_ref().expect("a resource").attributes);
        assert_eq!(
            (&resource["service.name"], &resource["service.instance.id"]),
            (&"egressd".into(), &want[0]["instance"])
        );
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    }
    assert!(!proxy.stderr().contains("s3cret"));
    until("what was held to be given back", || {
        (proxy.metrics().sum("egressd_held_bytes", &[("kind", "otlp")]) == 0.0).then_some(())
    });
}

/// The codes of the protocol, and answers that are none.
#[test]
fn what_a_later_try_may_deliver_is_sent_again_and_what_is_refused_is_not() {
    let again = [
        Says::Status("429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"),
        Says::Status("503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy"),
        Says::Status("502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
        Says::Status("504 Gateway Timeout\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n"),
        Says::Bytes("SSH-2.0-OpenSSH_9.2\r\n"),
        Says::Bytes("HTTP/1.1 200 OK"),
        Says::Bytes(""),
        Says::Nothing,
    ];
    let refused = [
        Says::Status("400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        Says::Status("404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        Says::Status("500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
        Says::Status("307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        Says::Status("200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"),
        Says::Takes(1),
    ];
    let again = again.into_iter().map(|says| (says, "exported", 2));
    let cases = again.chain(refused.into_iter().map(|says| (says, "rejected", 1)));
    scope(|scope| {
        for (says, result, requests) in cases {
            scope.spawn(move || {
                let receiver = Receiver::saying([says.clone()]);
                let otlp = format!("{{endpoint: '{}'}}", receiver.endpoint());
                // Long enough for every other answer, on a busy machine too.
                let silent = matches!(says, Says::Nothing);
                let timeout = [("OTEL_EXPORTER_OTLP_TIMEOUT", if silent { "2000" } else { "30000" })];
                let proxy = start(&[], &otlp, "", &[], &timeout);
                ask(&proxy);
                counted(&proxy, result, 1);
                let seen = receiver.seen().len();
                assert!(seen == requests || silent && seen > requests, "{says:?}: {seen}");
                // It goes on with what comes after.
                ask(&proxy);
                let next = proxy.records()[1]["id"].clone();
                until("the next record", || {
                    let has = |record: &LogRecord| attributes(record)["id"] == next;
                    receiver.records().iter().any(has).then_some(())
                });
                assert_eq!((count(&proxy, "dropped"), count(&proxy, "lost")), (0, 0), "{says:?}");
            });
        }
    });
}

#[test]
fn traffic_never_notices_a_receiver_that_is_down_or_slow_or_wrong_and_drops_are_counted() {
    let busy = "429 Too Many Requests\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n";
    let down = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    };
    let receivers = [
        Receiver::always(Says::Nothing),
        Receiver::always(Says::Status(busy)),
        Receiver::always(Says::Status("503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")),
        Receiver::always(Says::Bytes("garbage")),
    ];
    let endpoints = receivers.iter().map(Receiver::endpoint).chain([format!("http://{down}")]);
    const ASKED: usize = 300;
    scope(|scope| {
        for endpoint in endpoints {
            scope.spawn(move || {
                // A thirty-second of it is for copies: 128 KiB.
                let more = "limits: {memory: 4MiB, requests_per_second_per_client: 100000}\n";
                let proxy = start(&[], &format!("{{endpoint: '{endpoint}'}}"), more, &[], &[]);
                for _ in 0..ASKED {
                    ask(&proxy);
                }
                assert_eq!(proxy.records().len(), ASKED, "the log has everything");
                let dropped = count(&proxy, "dropped");
                assert!(dropped > 0 && dropped < ASKED as u64, "{dropped}");
                assert_eq!((count(&proxy, "exported"), count(&proxy, "rejected")), (0, 0));
                // What waits, and the batch that is being sent once more as it is encoded.
                let held = proxy.metrics().sum("egressd_held_bytes", &[("kind", "otlp")]);
                assert!(held > 0.0 && held <= 3.0 * 128.0 * 1024.0, "{held}");
                assert_eq!(proxy.get("/readyz").status, 200);
                let copies = proxy.metrics().sum("egressd_access_log_records_total", &[("result", "lost")]);
                assert_eq!(copies, 0.0);
            });
        }
    });
}

#[test]
fn a_drain_sends_what_is_left_and_waits_for_no_receiver_for_long() {
    let (receiver, origin) = (Receiver::saying([]), Origin::echo());
    let rule = format!("tcp://{}", origin.address());
    let more = "shutdown: {grace_period: 1s}\n";
    let proxy = start(&[&rule], &format!("{{endpoint: '{}'}}", receiver.endpoint()), more, &[], &[]);
    let _tunnel = proxy.tunnel(&origin.address().to_string());
    proxy.record(|record| record["event"] == "open");
    let ended = proxy.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let endings: Vec<Value> =
        receiver.records().iter().map(|record| attributes(record)["ending"].clone()).collect();
    assert_eq!(endings, [Value::Null, "drained".into()]);
    assert!(!ended.stderr.contains("could not be copied"), "{}", ended.stderr);

    let silent = Receiver::always(Says::Nothing);
    let proxy = start(&[], &format!("{{endpoint: '{}'}}", silent.endpoint()), more, &[], &[]);
    ask(&proxy);
    let ended = proxy.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("1 access log record could not be copied to the OTLP receiver"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.records.len(), 1);
}

#[test]
fn a_reload_follows_the_endpoint_the_headers_and_the_roots() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let receiver = Receiver::start([], None, Some(authority.issue(&["localhost"]).server_config()));
    let endpoint = format!("https://localhost:{}", receiver.address.port());
    let otlp = format!("{{endpoint: '{endpoint}', headers_file: otlp.headers}}");
    let roots = "certificates: {roots: roots.pem}\nlimits: {requests_per_second_per_client: 100000}\n";
    let files = [("otlp.headers", "X-Tenant: one\n"), ("roots.pem", stranger.pem())];
    let proxy = start(&[], &otlp, roots, &files, &[]);
    ask(&proxy);
    proxy.says("does not take access log records");
    assert_eq!((receiver.seen().len(), count(&proxy, "exported")), (0, 0), "nothing goes to a stranger");
    write(&proxy.file("roots.pem"), authority.pem());
    counted(&proxy, "exported", 1);
    write(&proxy.file("otlp.headers"), "X-Tenant: two\n");
    until("the new headers", || {
        ask(&proxy);
        receiver.seen().last().filter(|seen| seen.field("x-tenant") == Some("two")).map(drop)
    });
    let other = Receiver::saying([]);
    write(&proxy.file("egressd.yaml"), text(&[], &format!("{{endpoint: '{}'}}", other.endpoint()), roots));
    until("the new endpoint", || {
        ask(&proxy);
        (!other.seen().is_empty()).then_some(())
    });
    write(&proxy.file("egressd.yaml"), config(&[]));
    proxy.signal(Signal::HUP);
    proxy.says("`access_log.otlp` was removed, which needs a restart");
}

/// A receiver that is overloaded may ask for ten minutes, and one that hangs may take its time: neither keeps what a reload says waiting.
#[test]
fn a_reload_is_followed_at_once_in_a_pause_and_in_a_request() {
    let busy = Says::Status("503 Service Unavailable\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n");
    scope(|scope| {
        for says in [busy, Says::Nothing] {
            scope.spawn(move || {
                let (old, new) = (Receiver::always(says.clone()), Receiver::saying([]));
                let variables = [
                    ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", &new.endpoint()),
                ];
                let otlp = format!("{{endpoint: '{}', headers_file: h}}", old.endpoint());
                let proxy = start(&[], &otlp, "", &[("h", "X-Tenant: one\n")], &variables);
                ask(&proxy);
                let asked = |times: usize, tenant: &str| {
                    until(&format!("the old receiver to be asked as {tenant}: {says:?}"), || {
                        let seen = old.seen();
                        let last = seen.last().filter(|seen| seen.field("x-tenant") == Some(tenant));
                        (last.is_some() && seen.len() == times).then_some(())
                    });
                };
                asked(1, "one");
                write(&proxy.file("h"), "X-Tenant: two\n");
                asked(2, "two");
                // Another change is no reason to ask again.
                let before = hash(&proxy);
                write(&proxy.file("egressd.yaml"), text(&["a.example"], &otlp, ""));
                until("the other change", || (hash(&proxy) != before).then_some(()));
                // Where to is the environment's now.
                write(&proxy.file("egressd.yaml"), text(&["a.example"], "{headers_file: h}", ""));
                counted(&proxy, "exported", 1);
                assert_eq!((old.seen().len(), new.records().len()), (2, 1), "{says:?}");
                assert_eq!(new.seen()[0].field("x-tenant"), Some("two"));
                assert_eq!((count(&proxy, "dropped"), count(&proxy, "lost")), (0, 0));
            });
        }
    });
}

/// The configuration in force.
fn hash(proxy: &Egressd) -> Value {
    let status: Value = serde_json::from_str(&proxy.get("/api/status").body).expect("JSON");
    status["config"]["sha256"].clone()
}

#[test]
fn the_standard_variables_say_where_and_how() {
    let authority = Authority::new();
    let receiver = Receiver::start([], None, Some(authority.issue(&["localhost"]).server_config()));
    let pem = directory();
    let ca = pem.path().join("ca.pem");
    write(&ca, authority.pem());
    let endpoint = format!("https://localhost:{}/otlp", receiver.address.port());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=from%20env,x-other=env"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().expect("ASCII")),
        ("OTEL_SERVICE_NAME", "egress"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
    ];
    let proxy = start(&[], "{headers_file: h}", "", &[("h", "X-Other: file\n")], &variables);
    ask(&proxy);
    counted(&proxy, "exported", 1);
    let seen = &receiver.seen()[0];
    assert!(seen.head.starts_with("POST /otlp/v1/logs HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!((seen.field("x-tenant"), seen.field("x-other")), (Some("from env"), Some("file")));
    assert_eq!(seen.field("content-encoding"), Some("gzip"));
    let resource = object(&seen.request().resource_logs[0].resource.clone().expect("a resource").attributes);
    assert_eq!(
        (&resource["service.name"], &resource["deployment.environment"]),
        (&"egress".into(), &"test".into())
    );
    assert_eq!(receiver.records().len(), 1);

    // By themselves they send nothing anywhere.
    let silent = Egressd::spawn(directory(), {
        let mut command = command();
        let file = pem.path().join("egressd.yaml");
        write(&file, config(&[]));
        command.arg("run").arg("--config").arg(&file).envs(variables);
        command
    });
    until("egressd to be ready", || (silent.get("/readyz").status == 200).then_some(()));
    ask(&silent);
    assert!(!silent.metrics().has("egressd_otlp_records_total"));
    assert_eq!(silent.stop().code, 0);
    assert_eq!(receiver.seen().len(), 1);
}

#[test]
fn variables_that_cannot_be_meant_end_the_start() {
    for (name, value, want) in [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\", and egressd sends http/protobuf alone",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "collector:4317",
            "OTEL_EXPORTER_OTLP_ENDPOINT: `collector:4317` is not the URL",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "OTEL_EXPORTER_OTLP_TIMEOUT is \"10s\": write milliseconds"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret", "OTEL_EXPORTER_OTLP_HEADERS: header 1: write name=value"),
    ] {
        let directory = directory();
        let file = directory.path().join("egressd.yaml");
        write(&file, text(&[], "{}", ""));
        let mut command = command();
        command.arg("run").arg("--config").arg(&file).env(name, value);
        let ended = Egressd::spawn(directory, command).wait();
        assert_ne!(ended.code, 0, "{name}");
        let begin = format!("cannot copy the access log (access_log.otlp): {want}");
        assert!(ended.stderr.contains(&begin) && !ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
}

#[test]
fn headers_that_every_user_may_read_get_a_warning() {
    let directory = directory();
    let (file, headers) = (directory.path().join("egressd.yaml"), directory.path().join("h"));
    write(&headers, "Authorization: Bearer s3cret\n");
    write(&file, text(&["a.example"], "{endpoint: 'https://collector:4318', headers_file: h}", ""));
    for (mode, told) in [(0o640, false), (0o600, false), (0o644, true)] {
        std::fs::set_permissions(&headers, Permissions::from_mode(mode)).expect("changed");
        let checked = run(&["check", "-c", file.to_str().expect("ASCII")]);
        let said =
            String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        let want = format!("may read the headers for the OTLP receiver (mode {mode:03o})");
        assert_eq!(said.contains(&want), told, "{mode:o}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}
