//! `egressd doctor --clients` and `--gitlab` on a host whose DNS answers nothing: the real clients, and a made-up GitLab.

use std::process::Command;

use tempfile::TempDir;

use crate::network::Network;
use crate::support::{Egressd, command, config, directory, until, write};
use crate::tool::Ran;

/// A network without DNS, and an egressd in it that lists one host.
struct Scene {
    network: Network,
    proxy: Egressd,
    files: TempDir,
}

impl Scene {
    fn new() -> Self {
        let network = Network::with("nameserver 127.0.0.1\n", "true");
        let (home, files) = (directory(), directory());
        write(&home.path().join("egressd.yaml"), config(&["listed.test"]));
        let mut run = network.command(command().get_program().to_str().expect("UTF-8"));
        run.arg("run").arg("--config").arg(home.path().join("egressd.yaml"));
        let proxy = Egressd::spawn(home, run);
        let scene = Scene { network, proxy, files };
        let admin = scene.proxy.admin();
        until("egressd to be ready", || {
            let ready =
                Ran::of(scene.network.command("curl").args(["--silent", &format!("http://{admin}/readyz")]));
            (ready.code == Some(0)).then_some(())
        });
        scene
    }

    fn via(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    fn doctor(&self, more: &[&str]) -> Command {
        let mut doctor = self.network.command(command().get_program().to_str().expect("UTF-8"));
        doctor
            .args(["doctor", "--via", &self.via(), "--allowed", "listed.test", "--denied", "denied.test"])
            .args(more);
        doctor
    }
}

/// The line about one client. One that is not installed has none, and these all are.
fn line<'r>(ran: &'r Ran, what: &str) -> &'r str {
    let mut lines = ran.stdout.lines().filter(|line| line.split_whitespace().nth(1) == Some(what));
    lines.next().unwrap_or_else(|| panic!("no line for {what}: {ran:?}"))
}

const INSTALLED: [&str; 8] = ["git", "curl", "wget", "python", "pip", "npm", "apt", "go"];

#[test]
fn clients_that_ask_the_proxy_are_told_from_those_that_do_not() {
    let scene = Scene::new();
    let mut doctor = scene.doctor(&["--clients"]);
    for name in ["http_proxy", "https_proxy", "HTTPS_PROXY"] {
        doctor.env(name, scene.via());
    }
    let ran = Ran::of(&mut doctor);
    println!("{}", ran.stdout);
    for client in INSTALLED {
        assert!(line(&ran, client).starts_with("ok "), "{ran:?}");
    }
    assert!(
        line(&ran, "wget").contains("asks egressd, which refused the probe (host_not_allowed)"),
        "{ran:?}"
    );
    assert!(line(&ran, "git").contains("answered 403"), "{ran:?}");
    let asked = scene.proxy.records().iter().filter(|r| r["target"] == "egressd-doctor.invalid:443").count();
    assert!(asked >= INSTALLED.len(), "{asked} requests");

    // The admin listener knows the reason that git and curl do not print.
    let admin = format!("http://{}", scene.proxy.admin());
    let mut doctor = scene.doctor(&["--clients", "--admin", &admin]);
    for name in ["http_proxy", "https_proxy", "HTTPS_PROXY"] {
        doctor.env(name, scene.via());
    }
    let ran = Ran::of(&mut doctor);
    for client in INSTALLED {
        let line = line(&ran, client);
        assert!(line.starts_with("ok ") && line.contains("(host_not_allowed)"), "{ran:?}");
    }
    assert!(line(&ran, "git").contains(&format!("{admin} counted it; the client printed 403")), "{ran:?}");

    let ran = Ran::of(&mut scene.doctor(&["--clients"]));
    println!("{}", ran.stdout);
    for client in INSTALLED {
        let line = line(&ran, client);
        assert!(line.starts_with("WRONG") && line.contains("it does not ask a proxy"), "{ran:?}");
        assert!(
            line.contains(&format!(
                "with the variables that egressd env --via {} prints, it asks",
                scene.via()
            )),
            "{ran:?}"
        );
    }
    assert_eq!(ran.code, Some(1));
}

#[test]
fn a_proxy_that_a_client_cannot_reach_is_told() {
    let scene = Scene::new();
    let mut doctor = scene.doctor(&["--clients"]);
    // Nothing listens at port 9.
    let ran =
        Ran::of(doctor.env("http_proxy", "http://127.0.0.1:9").env("https_proxy", "http://127.0.0.1:9"));
    for client in ["git", "curl", "wget", "python"] {
        let line = line(&ran, client);
        assert!(line.starts_with("WRONG") && line.contains("its proxy cannot be reached"), "{ran:?}");
    }
}

#[test]
fn a_proxy_that_a_client_does_not_know_is_not_taken_for_none() {
    let scene = Scene::new();
    let mut doctor = scene.doctor(&["--clients"]);
    let misspelt = "http://egresd.test:3128";
    let ran = Ran::of(doctor.env("http_proxy", misspelt).env("https_proxy", misspelt));
    // Python prints no name.
    for client in ["git", "curl", "wget", "pip", "npm", "apt", "go"] {
        let line = line(&ran, client);
        assert!(line.starts_with("WRONG") && line.contains("its proxy cannot be reached"), "{ran:?}");
    }
}

#[test]
fn a_proxy_that_does_not_answer_is_told_once_and_not_by_each_client() {
    let scene = Scene::new();
    let mut doctor = scene.network.command(command().get_program().to_str().expect("UTF-8"));
    let nobody = "http://127.0.0.1:9";
    doctor
        .args(["doctor", "--via", nobody, "--clients"])
        .env("https_proxy", nobody)
        .env("http_proxy", nobody);
    let ran = Ran::of(&mut doctor);
    assert!(line(&ran, "reach").starts_with("WRONG"), "{ran:?}");
    let told = line(&ran, "clients");
    assert!(told.starts_with("open ") && told.contains(&format!("{nobody} does not answer")), "{ran:?}");
    assert_eq!((ran.stdout.lines().count(), ran.code), (2, Some(1)), "{ran:?}");
}

/// Answers 403 to whatever it is asked.
const ANOTHER_PROXY: &str = "
import socket, sys
server = socket.create_server(('127.0.0.1', 0))
print(server.getsockname()[1], flush=True)
while True:
    client, _ = server.accept()
    client.recv(65536)
    client.sendall(b'HTTP/1.1 403 Forbidden\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n')
    client.close()
";

#[test]
fn a_client_that_asks_another_proxy_is_told_from_one_that_asks_egressd() {
    let scene = Scene::new();
    let mut other = scene.network.command("python3");
    other.args(["-c", ANOTHER_PROXY]).stdout(std::process::Stdio::piped());
    let mut other = other.spawn().expect("python3 starts");
    let mut port = String::new();
    let stdout = other.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut port).expect("its port");
    let admin = format!("http://{}", scene.proxy.admin());
    let mut doctor = scene.doctor(&["--clients", "--admin", &admin]);
    let proxy = format!("http://127.0.0.1:{}", port.trim());
    let ran = Ran::of(doctor.env("http_proxy", &proxy).env("https_proxy", &proxy));
    let _ = other.kill();
    let _ = other.wait();
    for client in ["git", "curl"] {
        let line = line(&ran, client);
        let told = format!(
            "it printed 403 and no reason, and {admin} counted no such request: it asks another proxy"
        );
        assert!(line.starts_with("open") && line.contains(&told), "{ran:?}");
    }
}

#[test]
fn a_gitlab_host_is_examined_by_the_command() {
    let scene = Scene::new();
    let root = scene.files.path();
    let set = |part: &str, name: &str, value: &str| {
        let place = root.join("opt/gitlab/etc").join(part).join("env");
        std::fs::create_dir_all(&place).expect("a directory");
        write(&place.join(name), value);
    };
    let list = "localhost,127.0.0.1,169.254.169.254,gitlab.example.com";
    let gitlab_rb = root.join("etc/gitlab/gitlab.rb");
    std::fs::create_dir_all(gitlab_rb.parent().expect("under the root")).expect("a directory");
    write(&gitlab_rb, "external_url 'https://gitlab.example.com'\n");
    for part in ["gitaly", "gitlab-rails", "gitlab-workhorse"] {
        set(part, "http_proxy", &scene.via());
        set(part, "https_proxy", &scene.via());
        set(part, "no_proxy", list);
    }
    let examined = |more: &[&str]| {
        let mut arguments = vec!["--gitlab", "--root", root.to_str().expect("UTF-8")];
        arguments.extend(more);
        Ran::of(&mut scene.doctor(&arguments))
    };
    let ran = examined(&[]);
    println!("{}", ran.stdout);
    for part in ["gitaly", "rails", "workhorse"] {
        assert!(line(&ran, part).starts_with("ok "), "{ran:?}");
    }
    let resolves = line(&ran, "resolves");
    assert!(
        resolves.starts_with("ok ")
            && resolves.contains("listed.test is not known here, which Rails accepts"),
        "{ran:?}"
    );
    assert!(line(&ran, "trusted").starts_with("open "), "{ran:?}");
    // As anybody but root, who reads neither file, and is told which command to run.
    let env = root.join("opt/gitlab/etc/gitlab-rails/env");
    let mode = |path: &std::path::Path, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    mode(&gitlab_rb, 0o600);
    mode(&env, 0o700);
    mode(root, 0o755);
    let program = scene.files.path().join("egressd");
    std::fs::copy(command().get_program(), &program).expect("the program");
    let mut doctor = scene.network.command("setpriv");
    doctor
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["doctor", "--via", &scene.via(), "--allowed", "listed.test", "--denied", "denied.test"])
        .args(["--gitlab", "--root", root.to_str().expect("UTF-8")]);
    let ran = Ran::of(&mut doctor);
    println!("{}", ran.stdout);
    let run =
        format!("(permission denied): run it as root: sudo egressd doctor --via {} --gitlab", scene.via());
    for part in ["gitaly", "rails", "workhorse"] {
        let line = line(&ran, part);
        assert!(line.starts_with("open ") && line.contains(&run) && !line.contains("not set"), "{ran:?}");
    }
    mode(&env, 0o755);
    std::fs::remove_file(root.join("opt/gitlab/etc/gitlab-rails/env/https_proxy")).expect("it was there");
    let ran = examined(&["--inspection-root", "/nowhere"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--inspection-root: cannot read /nowhere"), "{ran:?}");
    let ran = examined(&[]);
    let rails = line(&ran, "rails");
    assert!(
        rails.starts_with("WRONG") && rails.contains(&format!("'https_proxy' => '{}'", scene.via())),
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(1));
    let ran = Ran::of(&mut scene.doctor(&["--root", "/"]));
    assert!(ran.code == Some(2) && ran.stderr.contains("--gitlab"), "{ran:?}");
}
