//! What the environment says of OTLP: the standard variables, of which those for logs win over those for all signals.
//!
//! Keys of the configuration win over both. Not read: variables for client certificates, and those of SDKs that say whether to
//! export at all, because that is what `access_log.otlp` says.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;

use crate::config::{OtlpEndpoint, otlp_header};
use crate::words::small_sort::SmallCollect as _;

/// How the names of all variables begin.
const PREFIX: &str = "OTEL_";
/// Where a collector listens that runs beside the program.
const DEFAULT: &str = "http://localhost:4318";
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is wrong with the settings: the variable or the key, and what to write instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(super) String);

/// The variables, as they were at the start.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        let known = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(known).collect()
    }

    /// A variable that is set, and not to the empty text, which counts as not set.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_LOGS_…`, or else `OTEL_EXPORTER_OTLP_…`, with its name.
    fn exporter(&self, name: &str) -> Option<(String, &str)> {
        [format!("OTEL_EXPORTER_OTLP_LOGS_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
            .into_iter()
            .find_map(|name| self.get(&name).map(|value| (name.clone(), value)))
    }

    /// The endpoint, with its path for logs.
    pub(super) fn endpoint(&self) -> Result<(OtlpEndpoint, String), SettingsError> {
        let of_logs = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let parse = |name: &str, value: &str| {
            OtlpEndpoint::parse(value).map_err(|error| SettingsError(format!("{name}: {error}")))
        };
        if let Some((name, value)) = self.exporter("PROTOCOL").filter(|(_, value)| *value != "http/protobuf")
        {
            return Err(SettingsError(format!(
                "{name} is {value:?}, and egressd sends http/protobuf alone: set it to http/protobuf, with the endpoint for that, or \
                 write `endpoint` in `access_log.otlp`"
            )));
        }
        if let Some(value) = self.get(of_logs.0) {
            let endpoint = parse(of_logs.0, value)?;
            // As it is: only a URL without any path has the root's.
            let path = if endpoint.path.is_empty() { "/".to_owned() } else { endpoint.path.to_string() };
            return Ok((endpoint, path));
        }
        let endpoint = match self.get(of_logs.1) {
            Some(value) => parse(of_logs.1, value)?,
            None => parse("the default", DEFAULT)?,
        };
        let path = endpoint.logs_path();
        Ok((endpoint, path))
    }

    /// `name=value,name=value`, percent-encoded (W3C Baggage). An error never shows a value.
    pub(super) fn headers(&self) -> Result<HeaderMap, SettingsError> {
        let mut headers = HeaderMap::new();
        let Some((variable, list)) = self.exporter("HEADERS") else { return Ok(headers) };
        for (number, pair) in (1..).zip(list.split(',').filter(|pair| !pair.trim().is_empty())) {
            let wrong = |why: String| SettingsError(format!("{variable}: header {number}: {why}"));
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong("write name=value".to_owned()))?;
            let value = percent_decoded(value.trim())
                .ok_or_else(|| wrong("the value is not percent-encoded text: write % as %25".to_owned()))?;
            let (name, value) = otlp_header(name.trim(), &value).map_err(wrong)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// For one request. In milliseconds.
    pub(super) fn timeout(&self) -> Result<Duration, SettingsError> {
        let Some((name, value)) = self.exporter("TIMEOUT") else { return Ok(TIMEOUT) };
        match value.parse::<u64>() {
            // An hour is no timeout.
            Ok(millis) if (1..=3_600_000).contains(&millis) => Ok(Duration::from_millis(millis)),
            _ => Err(SettingsError(format!("{name} is {value:?}: write milliseconds, from 1 to 3600000"))),
        }
    }

    /// Whether requests are packed with gzip.
    pub(super) fn gzip(&self) -> Result<bool, SettingsError> {
        match self.exporter("COMPRESSION") {
            None => Ok(false),
            Some((_, "gzip")) => Ok(true),
            Some((_, "none")) => Ok(false),
            Some((name, value)) => Err(SettingsError(format!("{name} is {value:?}: write gzip or none"))),
        }
    }

    /// The file with the authorities that verify the receiver, and the variable that names it.
    pub(super) fn certificate(&self) -> Option<(String, &str)> {
        self.exporter("CERTIFICATE")
    }

    /// What `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say of this program. What cannot be read is left out.
    pub(super) fn resource(&self) -> BTreeMap<String, String> {
        let pairs = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',');
        let mut attributes: BTreeMap<String, String> = pairs
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((name.trim().to_owned(), percent_decoded(value.trim())?)))
            .filter(|(name, _)| !name.is_empty())
            .small_collect();
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            attributes.insert("service.name".to_owned(), name.to_owned());
        }
        attributes
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Environment(variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).small_collect())
    }
}

impl std::fmt::Debug for Environment {
    /// Values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let [high, low] = digits else { return None };
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn where_to(pairs: &[(&str, &str)]) -> String {
        match env(pairs).endpoint() {
            Ok((endpoint, path)) => {
                format!(
                    "{}://{}:{} {path}",
                    if endpoint.tls { "https" } else { "http" },
                    endpoint.host,
                    endpoint.port
                )
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn the_endpoint_for_logs_is_used_as_it_is_and_the_one_for_all_signals_gets_a_path() {
        let (all, logs, protocol) = (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        );
        assert_eq!(where_to(&[]), "http://localhost:4318 /v1/logs");
        assert_eq!(where_to(&[(all, "https://c:4318/otlp/")]), "https://c:4318 /otlp/v1/logs");
        assert_eq!(where_to(&[(all, "https://c:4318"), (logs, "http://d:1/in")]), "http://d:1 /in");
        assert_eq!(where_to(&[(logs, "http://d:1")]), "http://d:1 /");
        assert_eq!(where_to(&[(all, "")]), "http://localhost:4318 /v1/logs");
        assert!(
            where_to(&[(all, "c:4317")]).starts_with("error: OTEL_EXPORTER_OTLP_ENDPOINT: `c:4317` is not")
        );
        assert!(
            where_to(&[(protocol, "grpc")]).starts_with("error: OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"")
        );
        assert_eq!(where_to(&[(protocol, "http/protobuf")]), "http://localhost:4318 /v1/logs");
    }

    #[test]
    fn headers_are_pairs_and_no_error_shows_a_value() {
        let (all, logs) = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS");
        let read = |value: &str| env(&[(all, value)]).headers();
        let headers = read("api-key=s3cret%20x , x-tenant=a=b,").expect("headers");
        assert_eq!(
            (&headers["api-key"], &headers["x-tenant"]),
            (&"s3cret x".parse().unwrap(), &"a=b".parse().unwrap())
        );
        let both = env(&[(all, "a=1"), (logs, "b=2")]).headers().expect("headers");
        assert!(both.get("a").is_none() && both["b"] == "2", "those for logs win as a whole");
        for wrong in ["s3cret", "a=s3cret%2", "a=s3cret%ff", "a b=s3cret", "host=s3cret", "a=s3cret%0a"] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(
                error.starts_with("OTEL_EXPORTER_OTLP_HEADERS: header 1: ") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn numbers_and_words_are_read_or_named() {
        let timeout = |value: &str| env(&[("OTEL_EXPORTER_OTLP_TIMEOUT", value)]).timeout();
        assert_eq!(env(&[]).timeout(), Ok(Duration::from_secs(10)));
        assert_eq!(timeout("1500"), Ok(Duration::from_millis(1500)));
        for wrong in ["10s", "0", "-1", "3600001"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
        let gzip = |value: &str| env(&[("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", value)]).gzip();
        assert_eq!((gzip("gzip"), gzip("none"), gzip("")), (Ok(true), Ok(false), Ok(false)));
        assert_eq!(
            gzip("zstd"),
            Err(SettingsError(
                "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION is \"zstd\": write gzip or none".to_owned()
            ))
        );
    }

    #[test]
    fn the_resource_is_named_by_its_own_variable_first() {
        let attributes = env(&[
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment=p%C3%BC,broken,x=%zz"),
            ("OTEL_SERVICE_NAME", "egress"),
            ("PATH", "x"),
        ])
        .resource();
        let want = [("deployment.environment", "pü"), ("service.name", "egress")];
        assert!(attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(want));
    }
}
