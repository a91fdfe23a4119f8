//! The clients that are known, and how each is made to request the probe and nothing else.

/// A client.
pub(super) struct Kind {
    /// Its name in the output.
    pub(super) name: &'static str,
    /// The program, as PATH finds it.
    pub(super) program: &'static str,
    /// Its arguments. `{probe}` is the host; the client runs in an empty directory, `{here}`.
    pub(super) arguments: &'static [&'static str],
    /// What its environment has in addition.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// What to do if the variables do not help.
    pub(super) hint: &'static str,
}

const NONE: &[(&str, &str)] = &[];

/// Each makes one attempt, within seconds, and changes nothing but the directory that it runs in.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "git",
        program: "git",
        arguments: &["ls-remote", "https://{probe}/doctor.git"],
        environment: &[("GIT_TERMINAL_PROMPT", "0")],
        hint: "git config --get-regexp 'http.*proxy' shows what its files say",
    },
    Kind {
        name: "curl",
        program: "curl",
        arguments: &[
            "--silent",
            "--show-error",
            "--max-time",
            "15",
            "--output",
            "/dev/null",
            "https://{probe}/",
        ],
        environment: NONE,
        hint: "see ~/.curlrc",
    },
    Kind {
        name: "wget",
        program: "wget",
        arguments: &["--tries=1", "--timeout=15", "--output-document=/dev/null", "https://{probe}/"],
        environment: NONE,
        hint: "see ~/.wgetrc and /etc/wgetrc; it speaks no TLS to a proxy",
    },
    Kind {
        name: "python",
        program: "python3",
        arguments: &["-c", "import urllib.request; urllib.request.urlopen('https://{probe}/', timeout=15)"],
        environment: NONE,
        hint: "urllib speaks no TLS to a proxy",
    },
    Kind {
        name: "pip",
        program: "python3",
        arguments: &[
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "--retries",
            "1",
            "--timeout",
            "10",
            "download",
            "--no-deps",
            "--dest",
            "{here}",
            "--index-url",
            "https://{probe}/simple/",
            "egressd-doctor",
        ],
        environment: NONE,
        hint: "pip config list shows what its files say",
    },
    Kind {
        name: "node",
        program: "node",
        arguments: &[
            "-e",
            "fetch('https://{probe}/').catch(e => { console.error(String(e.cause ?? e), String(e.cause?.cause ?? '')); process.exit(1) })",
        ],
        environment: NONE,
        hint: "Node reads them from 22.21 and 24 on: with an older one, give undici's ProxyAgent to setGlobalDispatcher",
    },
    Kind {
        name: "npm",
        program: "npm",
        arguments: &[
            "view",
            "--registry=https://{probe}/",
            "--fetch-retries=0",
            "--fetch-timeout=15000",
            "--no-update-notifier",
            "--logs-max=0",
            "--cache={here}",
            "egressd-doctor",
            "version",
        ],
        environment: NONE,
        hint: "npm config get https-proxy and noproxy show what its files say",
    },
    Kind {
        // It is in every Java, and asks with Java's own client.
        name: "java",
        program: "keytool",
        arguments: &["-J-Duser.language=en", "-printcert", "-v", "-sslserver", "{probe}:443"],
        environment: NONE,
        hint: "Java speaks no TLS to a proxy, and sends it a password only from an Authenticator",
    },
    Kind {
        name: "go",
        program: "go",
        arguments: &["list", "-m", "-versions", "{probe}/doctor"],
        environment: &[
            ("GOPROXY", "https://{probe}"),
            ("GOFLAGS", "-mod=mod"),
            ("GONOSUMDB", "*"),
            ("GOTOOLCHAIN", "local"),
            ("GOMODCACHE", "{here}/mod"),
            ("GOCACHE", "{here}/cache"),
            ("GO111MODULE", "on"),
        ],
        hint: "go env shows what its files say",
    },
    Kind {
        name: "kubectl",
        program: "kubectl",
        arguments: &[
            "--kubeconfig=/dev/null",
            "--server=https://{probe}",
            "--request-timeout=15s",
            "get",
            "--raw",
            "/version",
        ],
        environment: NONE,
        hint: "see proxy-url in its kubeconfig",
    },
    Kind {
        name: "helm",
        program: "helm",
        arguments: &["show", "chart", "https://{probe}/doctor-1.0.0.tgz"],
        environment: NONE,
        hint: "it reads the variables as all programs in Go",
    },
    Kind {
        name: "skopeo",
        program: "skopeo",
        arguments: &["--command-timeout=15s", "inspect", "--retry-times=0", "docker://{probe}/doctor"],
        environment: NONE,
        hint: "it reads the variables as all programs in Go",
    },
    Kind {
        name: "apt",
        program: "/usr/lib/apt/apt-helper",
        arguments: &[
            "-o",
            "Acquire::Retries=0",
            "-o",
            "Acquire::https::Timeout=15",
            "download-file",
            "https://{probe}/doctor",
            "{here}/doctor",
        ],
        environment: NONE,
        hint: "apt-config dump Acquire shows what its files say",
    },
];
