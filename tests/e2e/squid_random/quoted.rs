//! Words in quotation marks on a line of `http_access`: to Squid they name files with names of lists.

use egressd::commands::import::squid::{self as import, Choices, Files};
use egressd::config;
use egressd::words::client::Client;
use egressd::words::target::Target;

use super::{Arena, Request, SECOND, SQUID};
use crate::support::{directory, write};

const HOSTS: &[(&str, &str)] = &[("a.example.com", "52.1.1.1"), ("a.example.org", "52.1.1.2")];

/// Lines that stand before `http_access deny all`, and whether Squid takes them.
const ROWS: &[(&str, bool)] = &[
    ("http_access allow com", true),
    ("http_access allow \"com\"", true),
    ("http_access allow 'com'", true),
    ("http_access allow \"com", true),
    ("http_access allow com \"org\"", true),
    ("http_access \"allow\" com", true),
    ("http_access allow !\"com\"", false),
    ("http_access allow com\"", false),
    ("http_access deny \"com\" all\nhttp_access allow org", true),
    ("http_access allow \"AT/names\"", true),
    ("http_access allow \"AT/names\" org", true),
    ("configuration_includes_quoted_values on\nhttp_access allow \"com\"", true),
    ("acl both any-of \"com\" org\nhttp_access allow both", true),
    ("acl both all-of \"com\" org\nhttp_access allow both", true),
];

#[test]
fn a_list_in_quotation_marks_is_never_wider_than_squid() {
    let mut arena = Arena::new(HOSTS);
    let (mut passed, mut taken) = (0, 0);
    for (number, (lines, takes)) in ROWS.iter().enumerate() {
        let home = directory();
        let path = home.path();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
        let at = path.display();
        write(&path.join("names"), "com\n");
        let lines = lines.replace("AT", &at.to_string());
        let conf = format!(
            "acl com dstdomain -n .example.com\nacl org dstdomain -n .example.org\n{lines}\nhttp_access deny all\n\
             configuration_includes_quoted_values off\nhttp_port {SQUID} name=people\nhttp_port {SECOND}\ndns_nameservers 127.0.0.1\npid_filename {at}/pid\n\
             cache_log {at}/cache.log\naccess_log none\npinger_enable off\nnetdb_filename none\n\
             shutdown_lifetime 0 seconds\nvisible_hostname squid.test\ndebug_options ALL,1 28,3\n"
        );
        let file = path.join("squid.conf");
        write(&file, conf);
        let imported = import::squid(&Files::on_disk(None), &file.display().to_string(), Choices::default())
            .expect("imported");
        let config = config::load_str("egressd.yaml", &imported.yaml, |path| std::fs::read(path))
            .expect("loads")
            .config;
        let requests: Vec<Request> = HOSTS
            .iter()
            .map(|(name, _)| Request {
                client: "127.0.0.1",
                method: "GET",
                target: format!("http://{name}/"),
                door: 0,
                literal: false,
            })
            .collect();
        let by_squid = arena.squid(path, u64::try_from(number).expect("few"), &requests);
        assert_eq!(by_squid.is_some(), *takes, "{lines}");
        let Some(by_squid) = by_squid else { continue };
        taken += 1;
        for ((name, _), squid) in HOSTS.iter().zip(by_squid) {
            let target = Target::http(&format!("{name}:80")).expect("a target");
            let client = Client::direct(([127, 0, 0, 1], 4711).into());
            let passes = config.policies.decide(&target, &client, jiff::Timestamp::now()).is_ok();
            assert!(squid.passes || !passes, "wider: {name}\n{lines}\n{}", imported.yaml);
            passed += usize::from(passes);
        }
    }
    assert!(taken >= 10 && passed >= 2, "{passed} passes in {taken} configurations");
}
