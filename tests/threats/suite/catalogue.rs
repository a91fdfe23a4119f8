//! The rows of the threat catalogue: what is attempted, and what egressd does about it. The table in SECURITY.md is generated
//! from these rows and from the cases.

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number; [`PTR`] for the row that has none.
    pub number: u8,
    /// What is attempted.
    pub attack: &'static str,
    /// What egressd does, in a few words; the answers that the cases expect are added to it.
    pub does: &'static str,
    /// Why the row is not sent to other proxies. Empty if it has cases.
    pub not_sent: &'static str,
}

/// The row on PTR records.
pub const PTR: u8 = 0;

const fn row(number: u8, attack: &'static str, does: &'static str) -> Row {
    Row { number, attack, does, not_sent: "" }
}

const fn own(number: u8, attack: &'static str, does: &'static str, not_sent: &'static str) -> Row {
    Row { number, attack, does, not_sent }
}

const SETTINGS: &str = "a matter of configuration files";
const INSPECTION: &str = "the deployment does not look inside TLS";
const CERTIFICATES: &str = "the deployment has no client certificates";
const SOCKS: &str = "they do not speak SOCKS";
const TRANSPARENT: &str = "the deployment intercepts nothing";
const TIMES: &str = "a matter of timeouts and limits, which each deployment sets";

/// All of them.
pub const ROWS: &[Row] = &[
    row(1, "server name (SNI) that is not the CONNECT host", "compares them"),
    row(
        2,
        "another `Host` or `:authority` inside TLS",
        "does not see it: nothing can that does not open TLS. List exact hosts",
    ),
    row(3, "absolute URI with another `Host`", "refuses; else sends the URI's host"),
    row(4, "no, two or a list of `Host`", "refuses"),
    row(5, "CONNECT with another `Host`", "decides on the target alone; `Host` is only checked for its form"),
    row(
        6,
        "Encrypted ClientHello",
        "compares the outer name; sees no inner one; `ech: deny` refuses it, GREASE too",
    ),
    row(7, "hello without a server name", "refuses"),
    row(8, "odd server names", "folds case, takes one trailing dot off; refuses everything else"),
    row(9, "hello over many segments", "reads it whole, under a deadline"),
    row(10, "hello over many records", "puts it together, within bounds"),
    row(11, "another name in the hello after a HelloRetryRequest", "judges the second hello like the first"),
    row(12, "SSLv2 hello", "refuses"),
    row(13, "something else than TLS", "refuses"),
    row(
        14,
        "silence, or a server that speaks first",
        "closes at a deadline; the client hears nothing before its hello",
    ),
    row(
        15,
        "server that only pretends to speak TLS",
        "wants TLS for an answer; `verify_certificate` wants the host's certificate",
    ),
    row(16, "port or scheme of another rule", "each rule has its scheme and ports"),
    row(17, "other schemes (`ftp:`, `urn:`, `gopher:` …)", "has no gateways"),
    row(18, "user information in the target", "refuses any `@`"),
    row(19, "ports that only some parse", "takes 1 to 65535 in plain decimal"),
    row(20, "another port of an allowed host", "443 for `https`, 80 for `http`, unless a rule says more"),
    row(21, "domain that only ends or begins alike", "compares whole labels"),
    own(
        22,
        "rule that is too wide, or a regular expression",
        "refuses the configuration, with its place and what to write",
        SETTINGS,
    ),
    row(
        23,
        "names that strangers can rent under a wide pattern",
        "lets them pass where the pattern stands; `check` says what it reaches; exact hosts close it",
    ),
    row(24, "apex of `*.example.com`", "is not under it"),
    row(25, "trailing dots", "takes one off, refuses two"),
    row(26, "name in brackets", "brackets enclose an IPv6 address alone"),
    row(27, "NUL, percent, and other ends of a host", "refuses; decodes nothing"),
    row(28, "homographs, other dots", "takes ASCII alone"),
    row(29, "lengths, underscores", "63 and 253 bytes; `_` is a letter"),
    row(30, "IPv4 in hexadecimal, octal, one number", "refuses"),
    row(31, "address for a host", "is denied unless a rule lists the address"),
    row(32, "IPv6 zone", "refuses"),
    row(33, "search domains, single labels", "asks for absolute names only"),
    own(
        34,
        "allowlist file that says two things",
        "typed parser: anything odd is an error with its place",
        SETTINGS,
    ),
    own(35, "empty, missing or deleted list", "is refused; a running one keeps what it has", SETTINGS),
    row(36, "rebinding", "asks once, checks, dials what was checked"),
    row(37, "right and wrong addresses in one answer", "drops the wrong ones, and counts them"),
    row(38, "name that leads to a private address", "refuses unless `private` opens it to the rule"),
    row(39, "instance metadata", "is closed to every rule"),
    row(40, "credential endpoints", "are closed to every rule"),
    row(41, "IPv4 within IPv6", "is unwrapped and checked"),
    row(42, "NAT64, 6to4, Teredo, ISATAP", "are unwrapped and checked"),
    row(43, "special ranges", "are closed by the IANA registries"),
    own(
        44,
        "the proxy itself as target",
        "502 `loop`, by address, for every rule",
        "each proxy has its own ports",
    ),
    row(45, "admin pages and magic URLs on the proxy port", "serves none"),
    row(46, "parent of the client's choice", "ignores and strips it"),
    own(
        47,
        "parent that looks names up",
        "still decides, and still checks what is written as an address; where a name leads is then the parent's to check, and `check` says so",
        "the deployment has no parent",
    ),
    row(48, "lengths that disagree (CL, TE)", "refuses"),
    row(49, "chunk tricks", "refuses; nothing behind them goes out as a request"),
    row(50, "line tricks", "refuses"),
    row(51, "error while deciding", "denies"),
    row(52, "`Connection` that nominates other fields", "strips hop-by-hop fields; refuses protected ones"),
    row(53, "Upgrade smuggling", "strips Upgrade; a 101 is a bad answer"),
    row(54, "early data behind CONNECT", "is kept, judged, and neither lost nor leaked"),
    row(55, "request behind one that is denied", "is never read: a refusal closes"),
    row(56, "CONNECT with a body", "refuses; exactly one length of 0 is no body"),
    row(57, "TRACE, Max-Forwards, `OPTIONS *`", "refuses"),
    row(
        58,
        "another host on a kept connection",
        "each request is judged; connections to targets are shared by no two targets",
    ),
    row(59, "HTTP/2 on the proxy port", "speaks 1.1 alone"),
    row(
        60,
        "error page that says back what was sent",
        "one line of plain text with nothing of the request's fields",
    ),
    row(61, "proxy credentials upstream", "are stripped and never logged"),
    own(
        62,
        "slow heads and hellos",
        "absolute deadlines: 408 `head_timeout`, close `client_hello_timeout`",
        TIMES,
    ),
    row(63, "giant heads", "refuses"),
    own(64, "flood of tunnels", "429 and 503 by caps; the admin listener keeps descriptors", TIMES),
    own(
        65,
        "tunnel for ever; rule taken away",
        "idle and age limits; open tunnels are judged again on reload",
        TIMES,
    ),
    row(
        66,
        "names that carry data",
        "decides before it asks: a denied name never reaches DNS. Under a wide pattern a name can carry data, which `check` warns of",
    ),
    own(
        67,
        "upload of much data",
        "`upload_limit` and `upload_budget`, to the byte; of all replicas together with `shared_state`, and where its store does not answer, nothing that has a budget and no lease passes",
        "Squid and tinyproxy have no such limit for tunnels",
    ),
    row(68, "log injection", "every value is escaped JSON"),
    own(69, "labels without end in metrics", "no label holds what a client says", "they have no metrics"),
    row(
        70,
        "somebody else's address by PROXY or X-Forwarded-For",
        "a PROXY header counts from trusted peers alone; forwarding fields never",
    ),
    own(
        71,
        "half hellos that fill the memory",
        "what is held is a budget with shares: the oldest and largest goes first, 503 `limit_reached`; a quiet client gets its tunnel",
        TIMES,
    ),
    own(
        72,
        "readers that do not read, heads and uploads that stall",
        "the same, the kernel's socket buffers included; a tunnel ends with `memory_limit`",
        TIMES,
    ),
    own(
        73,
        "certificate revoked while its connection is open",
        "asks the current lists before every head; ends open tunnels with `identity_revoked`",
        CERTIFICATES,
    ),
    own(
        74,
        "certificate that expires while its connection is open",
        "asks the clock before every head; ends open tunnels with `identity_revoked`",
        CERTIFICATES,
    ),
    own(
        75,
        "two revocation lists of one CA, the older first",
        "the newest counts; one from the future or badly signed is refused with its place",
        CERTIFICATES,
    ),
    own(
        76,
        "slow zone: many names whose name servers are silent, or targets that let the handshake of `verify_certificate` wait",
        "questions to DNS and handshakes with targets are shared out by client, and end when the last that asks leaves",
        TIMES,
    ),
    own(
        77,
        "many clients or rules with an `upload_budget`",
        "accounts are shared out by client; one that has too many shares its budgets among its own rules, and none sends more than its budget",
        "Squid and tinyproxy have no such limit for tunnels",
    ),
    own(
        78,
        "silent peers at the admin port and at the proxy port",
        "the longest silent one makes room for a probe; clients that no policy can match have a few places of their own, for a second; when all places are taken, clients with few connections have more",
        TIMES,
    ),
    own(
        79,
        "kept connections, each with two descriptors",
        "their number has a bound; descriptors for admin listener, log and reload are reserved",
        TIMES,
    ),
    own(
        80,
        "inspected tunnel: another host by SNI, absolute URI or `Host`, fronting",
        "one name stands in CONNECT, SNI, URI and `Host`: TLS alert, or 421 `host_mismatch` inside the TLS",
        INSPECTION,
    ),
    own(
        81,
        "inspected tunnel: a path by another spelling (`%76%31`, `/a/../b`, `//`, `%2F`, `;`)",
        "refused, never decoded and never made normal: 400 `bad_target`; what passes goes on byte for byte",
        INSPECTION,
    ),
    own(
        82,
        "rule of Git: a push by another spelling: `service` twice or encoded, no discovery, gzip, NUL, push certificate, odd lines, more than one reading",
        "the list is read whole before its first byte goes on, more strictly than git's server does: 200 `ref_not_allowed`, 200 or 403 `git_not_allowed` in the form that git prints; not a byte of it leaves",
        INSPECTION,
    ),
    own(
        83,
        "rule of AWS: another's account: `x-at-OURS-at-THEIRS`, old key ids, two credentials in any of fields, query, form and a body of no known type, in any spelling, presigned and in a field, S3's upload forms, none",
        "the last `-at-` counts, and credentials in one place alone, the body of a form included: 200 or 403 `account_not_allowed`, with account, repository and refs in the record",
        INSPECTION,
    ),
    own(
        84,
        "a name that looks like a listed one, in a merge request: Cyrillic or other letters for ASCII, or letters of two scripts",
        "`check` warns, with the A-label, the letter and the name that it looks like; `diff` calls the rule wider",
        SETTINGS,
    ),
    own(
        85,
        "minting flood: many names under a rule that inspects, or in the ClientHello",
        "signs once for each name that its target proved, within the client's rate; keeps 10,000 certificates, shared out by client",
        INSPECTION,
    ),
    own(
        90,
        "SOCKS5 malformed in every field, BIND and UDP, names of 255 bytes, single bytes, SOCKS4",
        "refused by the nearest reply code before any rule is asked, with its reason in the record; a name is held to what a CONNECT's is",
        SOCKS,
    ),
    own(
        91,
        "SOCKS5 without the password: skipped, wrong, empty, with a colon or a NUL in it, behind another greeting",
        "no request is read before the password is right",
        SOCKS,
    ),
    own(
        92,
        "the path of a unix socket: a stale one, another process's, a file or a link in its place, another put there while egressd runs",
        "replaces a stale socket alone, and one that is closed to its own user too; removes its own alone; never a moment with wider permissions for others",
        "the deployment listens on a port",
    ),
    own(
        93,
        "CONNECT to an address under `addresses_by_sni`: forged server name, none, another protocol, a name that leads inside",
        "the name decides, by what is in force once the hello is there; egressd looks it up itself and dials its own answer, never the address that was written",
        "they judge an address as an address",
    ),
    own(
        94,
        "a client that does not know of the proxy, behind a packet filter, TPROXY or DNS: forged server name or Host, none, several, another protocol, a name that leads inside",
        "the name decides, egressd looks it up itself and dials its own answer, never the address that was asked for, unless a rule names that and no name is shown",
        TRANSPARENT,
    ),
    own(
        95,
        "a transparent connection that comes back: to a listener of egressd, by a name whose address is egressd's own, by a packet filter that leads egressd's own connections to it",
        "`loop`, found by address and by the user of the socket; behind one balancer by the hello, and for plain HTTP by a mark that only a second equal request under way carries",
        TRANSPARENT,
    ),
    row(PTR, "address whose PTR record is on the list", "never asks for a PTR record"),
];
