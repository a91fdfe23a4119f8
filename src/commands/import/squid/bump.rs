//! `ssl_bump`: what Squid ended by the server name of a ClientHello, and what it opened.

use super::acl::Literal;
use super::lexer::Line;
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};

/// One line that ends a tunnel, or lets it through.
#[derive(Clone, Debug)]
pub(super) struct BumpRule {
    pub(super) place: SourceLine,
    pub(super) allow: bool,
    pub(super) literals: Vec<Literal>,
    /// Under an `if` that only the running Squid can evaluate.
    pub(super) doubtful: bool,
    pub(super) shown: String,
}

/// The lines that count.
#[derive(Clone, Default, Debug)]
pub(super) struct Bump {
    pub(super) rules: Vec<BumpRule>,
    /// Squid looked at the server name, or into the tunnel.
    pub(super) looks: bool,
    /// There are ports to which this does not apply.
    pub(super) elsewhere: bool,
}

/// Why a tunnel is ended that Squid let through on some port.
pub(super) const OTHER_PORT: &str = "Squid did this on ports with `ssl-bump` alone, and a policy holds for every listener: where clients use the other ports, remove the line and import again";

/// Reads the lines.
pub(super) fn read(lines: &[Line], notes: &mut Notes) -> Bump {
    let lines_of = |name: &'static str| lines.iter().filter(move |line| line.name == name);
    let Some(first) = lines_of("ssl_bump").next() else { return Bump::default() };
    let ports: Vec<&Line> = lines_of("http_port").chain(lines_of("https_port")).collect();
    let has = |line: &Line, options: &[&str]| line.from(1).any(|word| options.contains(&word));
    let bumping = |line: &Line| has(line, &["ssl-bump", "sslbump"]);
    if !ports.is_empty() && !ports.iter().any(|line| bumping(line)) {
        let text =
            format!("{}: no port has `ssl-bump`, so Squid looks at no line of `ssl_bump`", first.shown());
        notes.tell(&first.place, NoteKind::Lost, text);
        return Bump::default();
    }
    let opens =
        |line: &&Line| matches!(line.word(0), Some("bump" | "client-first" | "server-first" | "allow"));
    let opening = lines_of("ssl_bump").any(|line| opens(&line));
    let mut bump = Bump { looks: true, ..Bump::default() };
    bump.elsewhere = ports.iter().any(|line| {
        !bumping(line) && !has(line, &["intercept", "transparent", "tproxy", "accel", "vhost", "defaultsite"])
    });
    for line in lines_of("ssl_bump") {
        // Behind `stare` Squid opens the tunnel, whatever comes after.
        if opens(&line) || (line.word(0) == Some("stare") && !opening) {
            let text = format!(
                "{}: Squid opened these tunnels, judged the host, path and method of each request in them, and wanted a valid certificate from the target; egressd opens none, and compares the server name with the host of the CONNECT. `verify_certificate: true` in a rule wants the valid certificate again; a host whose requests must be judged must not have a rule",
                line.shown()
            );
            notes.tell(&line.place, NoteKind::Wider, text);
        }
        let allow = match line.word(0) {
            Some("peek" | "stare") | None => continue,
            Some("terminate") => false,
            Some(_) => true,
        };
        bump.rules.push(BumpRule {
            place: line.place.clone(),
            allow,
            literals: Literal::list(line, 1),
            doubtful: line.doubtful,
            shown: line.shown(),
        });
    }
    bump
}
