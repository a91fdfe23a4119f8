//! The URL of an OTLP receiver. Not here: the rest of its settings ([`super::otlp`]).

use std::fmt;

use crate::words::quote::quoted;
use crate::words::target::{Host, Port, Target};

/// What is appended to the path of an endpoint for all signals.
const LOGS: &str = "/v1/logs";

/// The parts of an endpoint's URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtlpEndpoint {
    /// Whether egressd connects to it with TLS.
    pub tls: bool,
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: Port,
    /// Its path, without a slash at the end.
    pub path: Box<str>,
}

impl OtlpEndpoint {
    /// `http://HOST[:PORT][/PATH]` or `https://…`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shape = "write http://HOST:PORT or https://HOST:PORT";
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(format!("{} is not the URL of an OTLP receiver: {shape}", quoted(text))),
        };
        if rest.contains('@') {
            // The text may hold a password: it is not quoted.
            return Err("the URL cannot contain credentials: put `Authorization: …` into the file that \
                        `headers_file` names"
                .to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if rest.contains(['?', '#']) || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            let shown = quoted(text);
            return Err(format!("{shown} has more than scheme, host, port and path: {shape}"));
        }
        let after_host = authority.rfind(']').map_or(0, |end| end + 1);
        let has_port = authority.get(after_host..).is_some_and(|rest| rest.contains(':'));
        let default = if tls { ":443" } else { ":80" };
        let authority = format!("{authority}{}", if has_port { "" } else { default });
        match Target::connect(&authority) {
            Ok(Target { host, port, .. }) => {
                Ok(OtlpEndpoint { tls, host, port, path: path.trim_end_matches('/').into() })
            }
            Err(error) => {
                Err(format!("{} is not the URL of an OTLP receiver: {error}; {shape}", quoted(text)))
            }
        }
    }

    /// The path for logs, of an endpoint for all signals: what ends in `/v1/logs` already stays as it is.
    pub fn logs_path(&self) -> String {
        match self.path.ends_with(LOGS) {
            true => self.path.to_string(),
            false => format!("{}{LOGS}", self.path),
        }
    }

    /// Whether what is sent stays on this machine.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Address(address) => address.to_canonical().is_loopback(),
            Host::Name(name) => name.as_str() == "localhost" || name.as_str().ends_with(".localhost"),
        }
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::test_rows::check;

    #[test]
    fn an_endpoint_is_a_url_without_credentials_and_query() {
        let shape = "write http://HOST:PORT or https://HOST:PORT";
        let rows = [
            ("https://collector:4318", "https://collector:4318 /v1/logs".to_owned()),
            ("http://Collector.example", "http://collector.example:80 /v1/logs".to_owned()),
            ("https://collector/", "https://collector:443 /v1/logs".to_owned()),
            ("https://[2001:db8::1]", "https://[2001:db8::1]:443 /v1/logs".to_owned()),
            ("http://[::1]:4318/otlp/", "http://[::1]:4318/otlp /otlp/v1/logs".to_owned()),
            ("http://c:4318/v1/logs", "http://c:4318/v1/logs /v1/logs".to_owned()),
            ("collector:4318", format!("error: `collector:4318` is not the URL of an OTLP receiver: {shape}")),
            ("grpc://c:4317", format!("error: `grpc://c:4317` is not the URL of an OTLP receiver: {shape}")),
            (
                "https://u:s3cret@c",
                "error: the URL cannot contain credentials: put `Authorization: …` into the file that `headers_file` names"
                    .to_owned(),
            ),
            ("https://c?key=1", format!("error: `https://c?key=1` has more than scheme, host, port and path: {shape}")),
            (
                "https://c:0",
                format!(
                    "error: `https://c:0` is not the URL of an OTLP receiver: the port is not a decimal number from 1 to 65535 without a leading zero; {shape}"
                ),
            ),
        ];
        let rows: Vec<(&str, &str)> = rows.iter().map(|(text, want)| (*text, want.as_str())).collect();
        check(&rows, OtlpEndpoint::parse, |endpoint| format!("{endpoint} {}", endpoint.logs_path()));
    }
}
