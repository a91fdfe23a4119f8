//! Where records are sent and how: the configuration and the environment together.
//!
//! Not here: the connection ([`super::send`]).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::environment::{Environment, SettingsError};
use crate::config::{Otlp, OtlpEndpoint};
use crate::transport::tls::authorities::{Authorities, Roots};
use crate::transport::tls::client::{client_config, server_name};
use crate::words::io_error::reason;
use crate::words::target::{Method, Target};

/// A receiver, and what is needed to send to it.
pub(super) struct Receiver {
    pub(super) at: Target,
    pub(super) path: String,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) headers: HeaderMap,
    /// For one request, the connection included.
    pub(super) timeout: Duration,
    pub(super) gzip: bool,
}

impl Receiver {
    pub(super) fn new(otlp: &Otlp, roots: &Roots, environment: &Environment) -> Result<Self, SettingsError> {
        let (endpoint, path) = match &otlp.endpoint {
            Some(endpoint) => (endpoint.clone(), endpoint.logs_path()),
            None => environment.endpoint()?,
        };
        let OtlpEndpoint { tls, host, port, .. } = endpoint;
        let tls = match tls {
            false => None,
            true => {
                let authorities = authorities(environment)?;
                let mut config = client_config(authorities.as_ref(), roots)
                    .map_err(|error| SettingsError(error.to_string()))?;
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                let name = server_name(&host)
                    .ok_or_else(|| SettingsError(format!("no certificate can name the host {host}")))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        let mut headers = environment.headers()?;
        for (name, value) in &otlp.headers.0 {
            headers.insert(name, value.clone());
        }
        Ok(Receiver {
            at: Target { host, port, method: Method::Connect },
            path,
            tls,
            headers,
            timeout: environment.timeout()?,
            gzip: environment.gzip()?,
        })
    }
}

fn authorities(environment: &Environment) -> Result<Option<Authorities>, SettingsError> {
    let Some((variable, path)) = environment.certificate() else { return Ok(None) };
    let wrong = |why: String| SettingsError(format!("{variable}: {path}: {why}"));
    let pem = std::fs::read(path).map_err(|error| wrong(reason(&error)))?;
    let doubt = |text: String| tracing::warn!("{variable}: {path}: {text}");
    Authorities::parse(&pem, doubt).map(Some).map_err(wrong)
}

impl std::fmt::Display for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.at, self.path)
    }
}
