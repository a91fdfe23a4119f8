//! The names of the codes: which codes exist, and what to write instead of those that have no value in egressd.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What a code stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// `%`
    Percent,
    /// `>a`
    ClientAddress,
    /// `>p`
    ClientPort,
    /// `<a`
    ServerAddress,
    /// `<p`
    ServerPort,
    /// `<A`: the host of the target.
    ServerName,
    /// `<la`
    LocalAddress,
    /// `<lp`
    LocalPort,
    /// `ts`: seconds since 1970.
    Seconds,
    /// `tu`: the milliseconds after them.
    Milliseconds,
    /// `tl` and `tg`.
    Time(Moment),
    /// `tS`: when the request arrived, in seconds with three decimals.
    Started,
    /// `tr`: from the request's head to its end, in milliseconds.
    Duration,
    /// `dt`: the lookup, in milliseconds.
    Dns,
    /// `un`: the client's proven identity.
    Identity,
    /// `ul`: the identity from a password.
    Login,
    /// `ui`, `ue`: never known in egressd, so `-`.
    Nobody,
    /// `>Hs`
    Status,
    /// `Ss`
    SquidStatus,
    /// `Sh`
    Hierarchy,
    /// `mt`
    MediaType,
    /// `rm`
    Method,
    /// `ru`: without the query, as in Squid's default.
    Uri,
    /// `>rs`
    Scheme,
    /// `>rd`
    Host,
    /// `>rP`
    Port,
    /// `>rp`: without the query.
    Path,
    /// `rv`
    Version,
    /// `<st`: all bytes that were sent to the client.
    ReplySize,
    /// `{User-Agent}>h`
    UserAgent,
    /// `ssl::>sni`
    Sni,
    /// `err_code`: the reason.
    Reason,
    /// `master_xaction`: the id.
    Id,
    /// `sn`: lines since the start.
    Sequence,
    /// `{name}note`
    Note(Note),
}

/// How a time is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The format for strftime.
    pub format: Box<str>,
    /// True: in the zone of the machine. False: in UTC.
    pub local: bool,
}

macro_rules! notes {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "each is the field of that name")]
        pub enum $name { $($variant,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name in braces, and in the JSON log.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

notes! {
    /// Values that only egressd has, by their names in the JSON log.
    Note {
        Event = "event",
        Listener = "listener",
        Peer = "peer",
        Policy = "policy",
        Mode = "mode",
        Rule = "rule",
        RuleSource = "rule_source",
        Decision = "decision",
        Sent = "sent",
        Received = "received",
        Connect = "connect_ms",
        Ending = "ending",
        Config = "config",
        Instance = "instance",
        Protocol = "protocol",
        Original = "original",
        Tunnel = "tunnel",
        Suppressed = "suppressed",
        AuthScheme = "auth_scheme",
    }
}

/// The strftime format if none is given.
const USUAL_TIME: &str = "%d/%b/%Y:%H:%M:%S %z";

/// Every name that Squid knows and that takes no argument here. If one name begins with another, the longer one comes
/// first.
const NAMES: &[(&str, What)] = &[
    ("master_xaction", What::Id),
    ("err_code", What::Reason),
    ("ssl::>sni", What::Sni),
    ("tls::>sni", What::Sni),
    ("<la", What::LocalAddress),
    ("oa", What::LocalAddress),
    ("<lp", What::LocalPort),
    ("<st", What::ReplySize),
    (">Hs", What::Status),
    ("Hs", What::Status),
    (">rm", What::Method),
    (">ru", What::Uri),
    (">rs", What::Scheme),
    (">rd", What::Host),
    (">rP", What::Port),
    (">rp", What::Path),
    (">rv", What::Version),
    ("rm", What::Method),
    ("ru", What::Uri),
    ("rp", What::Path),
    ("rv", What::Version),
    ("ts", What::Seconds),
    ("tu", What::Milliseconds),
    ("tS", What::Started),
    ("tr", What::Duration),
    ("dt", What::Dns),
    ("un", What::Identity),
    ("ul", What::Login),
    ("ui", What::Nobody),
    ("ue", What::Nobody),
    ("Ss", What::SquidStatus),
    ("Sh", What::Hierarchy),
    ("mt", What::MediaType),
    ("sn", What::Sequence),
    (">a", What::ClientAddress),
    (">p", What::ClientPort),
    ("<a", What::ServerAddress),
    ("<A", What::ServerName),
    ("<p", What::ServerPort),
    ("%", What::Percent),
];

/// Names with an argument, which [`what`] reads.
const WITH_ARGUMENT: &[&str] = &[">h", "tl", "tg", "note"];

/// Names that Squid knows and egressd does not, the longest first, each with what to write instead.
const UNSERVED: &[(&str, &str)] = &[
    (">ha", "headers are not changed on their way in: write %{User-Agent}>h"),
    ("<h", "headers of responses are not recorded: write %mt for the media type"),
    (">A", "egressd makes no reverse lookups: write %>a"),
    (">eui", "hardware addresses are not known: remove it"),
    (">la", "the listener's name is recorded instead: write %{listener}note"),
    ("la", "the listener's name is recorded instead: write %{listener}note"),
    (">lp", "the listener's name is recorded instead: write %{listener}note"),
    ("lp", "the listener's name is recorded instead: write %{listener}note"),
    ("<Hs", "the client gets the target's own status: write %>Hs"),
    ("err_detail", "the reason is one word: write %err_code"),
    (">st", "heads are not counted separately: write %{sent}note for the bytes that went to the target"),
    (">sh", "the size of a head is not recorded: remove it"),
    ("<sh", "the size of a head is not recorded separately: write %<st, which includes it"),
    ("<bs", "the size of a body is not recorded separately: write %<st, which includes it"),
    ("<sH", "there is no cache: write %<st"),
    ("<sS", "there is no cache: write %<st"),
    ("st", "requests and replies are not counted together: write %<st"),
    ("<tt", "only the total time is known: write %tr"),
    ("<pt", "only the total time is known: write %tr"),
    ("<rm", "egressd does not change this part of a request: write %rm"),
    ("<ru", "egressd does not change this part of a request: write %ru"),
    ("<rs", "egressd does not change this part of a request: write %>rs"),
    ("<rd", "egressd does not change this part of a request: write %>rd"),
    ("<rP", "egressd does not change this part of a request: write %>rP"),
    ("<rp", "egressd does not change this part of a request: write %>rp"),
    ("<rv", "egressd does not change this part of a request: write %rv"),
    ("et", "there are no external ACLs: remove it"),
    ("ea", "there are no external ACLs: remove it"),
    ("credentials", "credentials are never logged: write %un"),
    ("ssl::", "of TLS, only the server name is known: write %ssl::>sni"),
    ("tls::", "of TLS, only the server name is known: write %ssl::>sni"),
    ("icap::", "there is no ICAP: remove it"),
    ("adapt::", "there is no adaptation of content: remove it"),
];

const WHICH: &str = "there is no such code; the codes are %>a %>p %<a %<A %<p %<la %<lp %ts %tu %tl %tg %tS %tr %dt \
                     %un %ul %>Hs %Ss %Sh %mt %rm %ru %>rs %>rd %>rP %>rp %rv %<st %sn %err_code %master_xaction \
                     %ssl::>sni %{User-Agent}>h %{policy}note %%";

/// The name that `text` begins with, and what follows it.
pub(super) fn split(text: &str) -> Result<(&str, &str), String> {
    // Squid's older prefix for the same codes.
    let text = text.strip_prefix("http::").unwrap_or(text);
    let known = NAMES.iter().map(|(name, _)| *name).chain(WITH_ARGUMENT.iter().copied());
    let unserved = UNSERVED.iter().map(|(name, _)| *name);
    let longest = known.chain(unserved).filter(|name| text.starts_with(name)).max_by_key(|name| name.len());
    let name = longest.ok_or(WHICH)?;
    if let Some((_, advice)) = UNSERVED.iter().find(|(unserved, _)| *unserved == name) {
        return Err((*advice).to_owned());
    }
    Ok(text.split_at(name.len()))
}

/// The code for a name with its argument.
pub(super) fn what(name: &str, argument: Option<&str>) -> Result<What, String> {
    match (name, argument) {
        (">h", Some(header)) if header.eq_ignore_ascii_case("user-agent") => Ok(What::UserAgent),
        (">h", _) => {
            Err("User-Agent is the only request header that is recorded: write %{User-Agent}>h".to_owned())
        }
        ("note", Some(note)) => {
            let found = Note::ALL.iter().find(|known| known.as_str() == note).map(|note| What::Note(*note));
            let names: Vec<&str> = Note::ALL.iter().map(|note| note.as_str()).collect();
            found.ok_or_else(|| format!("there is no such note; the notes are {}", names.join(", ")))
        }
        ("note", None) => Err("the name is missing: write one, as in %{policy}note".to_owned()),
        ("tl" | "tg", format) => moment(format.unwrap_or(USUAL_TIME), name == "tl").map(What::Time),
        (_, Some(_)) if name != "%" => Err(format!("%{name} takes no argument: remove the braces")),
        _ => NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, what)| what.clone())
            .ok_or_else(|| WHICH.to_owned()),
    }
}

fn moment(format: &str, local: bool) -> Result<Moment, String> {
    let moment = Moment { format: format.into(), local };
    match moment.write(Timestamp::UNIX_EPOCH, &TimeZone::UTC) {
        Ok(text) if text.contains(char::is_control) => {
            Err("the time would contain a control character, which would break the line: remove it"
                .to_owned())
        }
        Ok(_) => Ok(moment),
        Err(error) => Err(format!("{error}: see `man strftime`")),
    }
}

impl Moment {
    /// `time` in this format.
    ///
    /// # Errors
    /// A code that strftime does not know. It does not happen for a format that was read successfully.
    pub fn write(&self, time: Timestamp, zone: &TimeZone) -> Result<String, jiff::Error> {
        let zone = if self.local { zone.clone() } else { TimeZone::UTC };
        jiff::fmt::strtime::format(&*self.format, &jiff::ZonedDateTime::new(time, zone))
    }
}

impl What {
    /// Whether it is a number: it can be padded with zeros, and is never cut.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            What::ClientPort
                | What::ServerPort
                | What::LocalPort
                | What::Seconds
                | What::Milliseconds
                | What::Duration
                | What::Dns
                | What::Status
                | What::Port
                | What::ReplySize
                | What::Sequence
        )
    }
}
