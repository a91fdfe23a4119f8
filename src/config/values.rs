//! The leaf types of the file. Each is one small language, from [`super::languages`] or [`crate::words::units`], as
//! serde reads it and as the JSON Schema shows it.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use jiff::Timestamp;
#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::languages::{self, Listen, ProxyUrl};
use super::otlp_endpoint::OtlpEndpoint;
use super::pairs::Pairs;
use super::typed::At;
use crate::rules::HostPattern;
use crate::transport::tls;
use crate::wire::head::{MAX_METHOD, is_token_byte};
use crate::words::aws::{AccessKeyId, Account};
use crate::words::quote::quoted;
use crate::words::store_url::StoreUrl;
use crate::words::target::Name;
use crate::words::units::{self, UploadBudget};

/// Fields with their values.
pub(super) type FieldValues = Pairs<Field, Line>;
/// Fields with the files that their values are in.
pub(super) type FieldFiles = Pairs<Field, FilePath>;

/// Declares a newtype that serde reads with a function of text.
macro_rules! leaf {
    ($(#[$meta:meta])* $name:ident($inner:ty) = $parse:expr, $what:literal, $schema:tt) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Leaf { what: $what, parse: $parse }).map($name)
            }
        }


        #[cfg(test)]
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// Reads one leaf.
struct Leaf<T> {
    /// What to write, with its article.
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Leaf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

leaf!(
    /// A duration, to the millisecond.
    Length(Duration) = units::duration,
    "a duration, such as 10s",
    { "type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$", "minLength": 2, "examples": ["10s", "5m", "1h30m"] }
);
leaf!(
    /// A size in bytes.
    Size(u64) = units::size,
    "a size, such as 16KiB",
    { "type": ["string", "integer"], "pattern": "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)?$", "minimum": 0, "examples": ["16KiB", "50MiB"] }
);
leaf!(
    /// Bytes in a sliding window.
    Budget(UploadBudget) = units::budget,
    "a budget, such as 5GiB/24h",
    { "type": "string", "pattern": "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)?/[0-9dhms]+$", "examples": ["5GiB/24h"] }
);
leaf!(
    /// A day in UTC, or a moment.
    Moment(Timestamp) = languages::moment,
    "a date, such as 2027-03-31",
    { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?$", "examples": ["2027-03-31", "2027-03-31T18:00:00Z"] }
);
leaf!(
    /// An IP network in CIDR notation.
    Network(IpNet) = languages::network,
    "a network, such as 10.0.0.0/8",
    { "type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$", "examples": ["10.0.0.0/8", "fc00::/7"] }
);
leaf!(
    /// An IP address.
    Ip(IpAddr) = languages::ip,
    "an IP address, such as 127.0.0.1",
    { "type": "string", "pattern": "^[0-9A-Fa-f:.]+$", "examples": ["127.0.0.1", "::1"] }
);
leaf!(
    /// An IP address and a port.
    Socket(SocketAddr) = languages::socket_address,
    "an address and a port, such as 0.0.0.0:3128",
    { "type": "string", "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.%]+\\]):[0-9]{1,5}$", "examples": ["0.0.0.0:3128", "[::]:3128"] }
);
leaf!(
    /// Where a listener is.
    ListenAt(Listen) = languages::listen_at,
    "an address and a port, such as 0.0.0.0:3128, or unix:/PATH",
    { "type": "string", "pattern": "^(([0-9.]+|\\[[0-9A-Fa-f:.%]+\\]):[0-9]{1,5}|unix:/.+)$", "examples": ["0.0.0.0:3128", "[::]:3128", "unix:/run/egressd/proxy.sock"] }
);
leaf!(
    /// The permissions of a file, in octal digits.
    FileMode(u32) = languages::file_mode,
    "permissions in quotes, such as \"0660\"",
    { "type": "string", "pattern": "^0?[0-7]{3}$", "examples": ["0660"] }
);
leaf!(
    /// An IP address, with a port or without.
    Server(SocketAddr) = languages::dns_server,
    "the address of a DNS server",
    { "type": "string", "pattern": "^[0-9A-Fa-f:.\\[\\]]+$", "examples": ["169.254.169.253", "127.0.0.1:5353"] }
);
leaf!(
    /// The URL of a parent proxy.
    Parent(ProxyUrl) = languages::proxy_url,
    "a URL, such as http://proxy.corp:3128",
    { "type": "string", "pattern": "^https?://[^/@]+:[0-9]{1,5}/?$", "examples": ["http://proxy.corp:3128"] }
);
leaf!(
    /// Hosts, as in a rule, or a network.
    HostOrNetwork(HostPattern) = languages::hosts,
    "a host, such as *.corp.example, or a network, such as 10.0.0.0/8",
    { "type": "string", "minLength": 1, "examples": ["*.corp.example", "10.0.0.0/8"] }
);
leaf!(
    /// The URL of an OTLP receiver.
    Collector(OtlpEndpoint) = OtlpEndpoint::parse,
    "a URL, such as https://collector:4318",
    { "type": "string", "pattern": "^https?://[^/@?#]+(/[^?#]*)?$", "examples": ["https://collector:4318"] }
);
leaf!(
    /// The URL of a store.
    Store(StoreUrl) = StoreUrl::parse,
    "a URL, such as rediss://valkey:6379/0",
    { "type": "string", "pattern": "^rediss?([+](cluster|sentinel))?://[^@?#]+$", "examples": ["rediss://valkey:6379/0"] }
);
leaf!(
    /// A host name in canonical form.
    HostName(Name) = |text| Name::parse(text).map_err(|error| format!("{} is not a host name: {error}", quoted(text))),
    "a host name",
    { "type": "string", "examples": ["git.test"] }
);
leaf!(
    /// A header that may be removed from a request.
    Header(HeaderName) = header,
    "a header name, such as User-Agent",
    { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "examples": ["User-Agent"] }
);
leaf!(
    /// A header that a rule may set or remove.
    Field(HeaderName) = field,
    "a header name, such as X-Tenant",
    { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "examples": ["X-Tenant", "Cookie"] }
);
leaf!(
    /// A method that a rule may allow.
    MethodName(Box<str>) = method,
    "a method, such as GET",
    { "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Z-]+$", "maxLength": 32, "examples": ["GET", "POST"] }
);
leaf!(
    /// One line of free text, at least one character.
    Line(Box<str>) = line,
    "one line of text",
    { "type": "string", "minLength": 1, "maxLength": 1024 }
);
leaf!(
    /// A name: short, one line.
    Label(Box<str>) = label,
    "a name",
    { "type": "string", "minLength": 1, "maxLength": 128 }
);
leaf!(
    /// A file, relative to the configuration file's directory.
    FilePath(Box<str>) = path,
    "the path of a file",
    { "type": "string", "minLength": 1 }
);
leaf!(
    /// The identity that a client has proven, with the kind of proof in front.
    Identity(Box<str>) = identity,
    "an identity, such as cn:gitaly",
    { "type": "string", "pattern": "^(spiffe://|dns:|cn:|user:).", "examples": ["spiffe://corp/gitaly", "user:gitaly"] }
);
leaf!(
    /// An AWS VPC endpoint.
    VpcEndpoint(Box<str>) = vpc_endpoint,
    "an endpoint, such as vpce-0abc",
    { "type": "string", "pattern": "^vpce-[0-9a-f]+$", "examples": ["vpce-0abc"] }
);

leaf!(
    /// A region of AWS whose hosts end in amazonaws.com.
    Region(Box<str>) = languages::region,
    "a region of AWS, such as eu-west-1",
    { "type": "string", "pattern": "^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$", "examples": ["eu-west-1"] }
);
leaf!(
    /// An AWS account.
    AccountNumber(Account) = account,
    "an account, such as \"123456789012\"",
    { "type": "string", "pattern": "^[0-9]{12}$", "examples": ["123456789012"] }
);
leaf!(
    /// The id of an AWS access key.
    KeyId(AccessKeyId) = |text| AccessKeyId::new(text).ok_or_else(|| format!(
        "{} is not an access key id: write AKIA or ASIA with the sixteen characters after it", quoted(text)
    )),
    "an access key id",
    { "type": "string", "pattern": "^A[KS]IA[A-Z2-7]{16}$" }
);
leaf!(
    /// The name of an AWS service or region, as signatures have it.
    AwsName(Box<str>) = aws_name,
    "a name, such as codecommit or eu-central-1",
    { "type": "string", "pattern": "^[a-z0-9-]+$", "maxLength": 64, "examples": ["codecommit", "eu-central-1"] }
);

/// The headers that frame the message or name its target. Without them it would be a different message.
const FRAMING: [HeaderName; 5] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::TRANSFER_ENCODING,
    http::header::CONNECTION,
    http::header::EXPECT,
];

fn header(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is not a header name: write one such as User-Agent", quoted(text)))?;
    if FRAMING.contains(&name) {
        return Err(format!(
            "{} cannot be removed, because the request needs it: delete it from this list",
            quoted(text)
        ));
    }
    Ok(name)
}

/// Refuses what belongs to one connection, frames the message, names its target, or is what a signature is made over.
fn field(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is not a header name: write one such as X-Tenant", quoted(text)))?;
    let why = match name.as_str() {
        "host" => "it names the target, which the rule decides",
        "content-length" | "transfer-encoding" | "trailer" | "te" | "expect" => "it frames the message",
        "connection" | "keep-alive" | "upgrade" | "http2-settings" | "close" => "it is for one connection",
        other if other.starts_with("sec-websocket-") => "it is for one connection",
        other if other.starts_with("proxy-") => "it is for a proxy, and never reaches a target",
        other if other.starts_with("x-amz-") => {
            "AWS signatures cover it: the target would refuse the request"
        }
        _ => return Ok(name),
    };
    Err(format!("{} cannot be set or removed, because {why}: delete it here", quoted(text)))
}

fn method(text: &str) -> Result<Box<str>, String> {
    let shown = quoted(text);
    let is_token = !text.is_empty() && text.bytes().all(is_token_byte);
    if text == "*" {
        return Err("`*` is not a method: leave `methods` out, which means any".to_owned());
    }
    if !is_token || text.len() > MAX_METHOD {
        return Err(format!("{shown} is not a method: write one such as GET"));
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        return Err(format!("{shown} is in lower case, and methods are case-sensitive: write {upper}"));
    }
    if ["CONNECT", "TRACE", "TRACK", "PRI"].contains(&text) {
        return Err(format!("{shown} is refused in any case (method_not_allowed): remove it"));
    }
    Ok(text.into())
}

fn account(text: &str) -> Result<Account, String> {
    let shown = quoted(text);
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    match Account::new(text) {
        Some(account) => Ok(account),
        None if Account::new(&digits).is_some() => {
            Err(format!("{shown} is an account in groups: write \"{digits}\""))
        }
        None => Err(format!(
            "{shown} is not an account: write its twelve digits in quotes, zeros in front included, such as \"012345678901\""
        )),
    }
}

fn aws_name(text: &str) -> Result<Box<str>, String> {
    if text.contains('*') {
        return Err(format!(
            "{} has a `*`: write each name, or leave the key out, which means any",
            quoted(text)
        ));
    }
    let is_name = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !(1..=64).contains(&text.len()) || !text.bytes().all(is_name) {
        let text = quoted(text);
        return Err(format!("{text} is not as signatures have it: write lower-case letters, digits and `-`"));
    }
    Ok(text.into())
}

fn line(text: &str) -> Result<Box<str>, String> {
    bounded(text, 1024)
}

fn label(text: &str) -> Result<Box<str>, String> {
    bounded(text, 128)
}

/// Names and notes are shown in logs and on terminals, so they contain nothing that moves a cursor.
fn bounded(text: &str, max: usize) -> Result<Box<str>, String> {
    if text.trim().is_empty() {
        return Err("the text is empty: write some text, or remove the key".to_owned());
    }
    if text.contains(char::is_control) {
        return Err("the text contains a control character or a line break: write one plain line".to_owned());
    }
    if text.chars().count() > max {
        return Err(format!("the text is longer than {max} characters: shorten it"));
    }
    Ok(text.into())
}

fn path(text: &str) -> Result<Box<str>, String> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err("the path is empty or contains a control character: write the path of a file".to_owned());
    }
    Ok(text.into())
}

/// Accepts only the spelling in which a certificate or a password proves the identity. Any other spelling would match
/// no client.
fn identity(text: &str) -> Result<Box<str>, String> {
    let shown = quoted(text);
    if text.starts_with("spiffe://") {
        if tls::is_spiffe(text) {
            return Ok(text.into());
        }
        return Err(format!(
            "{shown} is not a SPIFFE id: write spiffe://TRUST-DOMAIN/PATH, the trust domain in lower case, no `/` at the end"
        ));
    }
    if let Some(name) = text.strip_prefix("dns:") {
        return match Name::parse(name) {
            Ok(name) => Ok(format!("dns:{name}").into()),
            Err(error) => Err(format!("{shown} does not name a valid host: {error}")),
        };
    }
    if text.strip_prefix("cn:").is_some_and(tls::is_common_name) {
        return Ok(text.into());
    }
    if text.strip_prefix("user:").is_some_and(|user| !user.trim().is_empty() && !user.contains(':'))
        && !text.contains(char::is_control)
    {
        return Ok(text.into());
    }
    Err(format!(
        "{shown} is not an identity: write spiffe://…, dns:NAME, cn:NAME (of a certificate) or user:NAME (of a password)"
    ))
}

fn vpc_endpoint(text: &str) -> Result<Box<str>, String> {
    match text.strip_prefix("vpce-") {
        Some(id) if !id.is_empty() && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
            Ok(text.into())
        }
        _ => Err(format!("{} is not a VPC endpoint: write its id, such as vpce-0abc", quoted(text))),
    }
}

/// `dns.hosts`: each name with its addresses.
pub(super) type Hosts = Pairs<HostName, Addresses>;

/// The addresses of one name.
#[derive(Clone, Debug)]
pub(super) struct Addresses(pub(super) Vec<At<Ip>>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses, such as [10.0.0.1]")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(address);
                }
                Ok(Addresses(addresses))
            }
        }

        deserializer.deserialize_seq(Items)
    }
}

#[cfg(test)]
impl JsonSchema for Addresses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Addresses".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Vec<Ip>>()
    }
}
