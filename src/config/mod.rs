//! The configuration: one YAML file, the files of policies that it includes, and the files that these name.
//!
//! There are two steps, as typed and as meant: [`mod@file`] holds the keys as serde reads them, each with its position;
//! [`build`] makes a [`Config`] of them. All errors are reported at once, as `FILE:LINE:COLUMN: error: text` with
//! what to write instead, and a [`Config`] exists only if there was no error. Nothing here opens sockets or watches
//! files. The clock is used only for warnings: which rules and certificates have expired by now.

mod argon2_hash;
mod build;
mod cases;
mod file;
mod finding;
mod hash;
mod hosts_lint;
mod identity_lint;
mod include;
mod inspection;
mod key_positions;
mod keys;
mod languages;
mod list_file;
mod listeners;
mod load;
mod named_files;
mod options;
mod otlp;
mod otlp_endpoint;
mod own_address;
mod pairs;
mod placeholders;
mod places;
mod policies;
mod policy_clients;
mod requests;
mod rivals;
mod schema;
mod seal;
mod secret_files;
pub mod sets;
mod settings;
mod shared_state;
#[cfg(test)]
pub(crate) mod test_files;
mod text;
mod transparent_lint;
mod tree;
mod typed;
mod upstream;
pub mod users;
mod values;

pub use self::cases::{Case, load_cases};
pub(crate) use self::finding::nearest;
pub use self::finding::{Finding, Position, Severity};
pub use self::hash::{ConfigHash, ShortHash};
pub use self::key_positions::Positions;
pub(crate) use self::languages::network_line;
#[cfg(test)]
pub(crate) use self::load::warnings_at;
pub use self::load::{DEFAULT, DEFAULT_NAME, Loaded, load, load_by, load_bytes, load_str};
pub use self::named_files::{NamedFile, OnDisk, ReadFiles, read_from_disk};
pub use self::otlp::{Otlp, OtlpHeaders, otlp_header};
pub use self::otlp_endpoint::OtlpEndpoint;
pub use self::schema::schema;
pub use self::settings::{
    AccessLog, Admin, BasicAuth, Config, DiagnosticsFormat, Dns, Http, Inspection, Limits, ListenAddress,
    Listener, Log, LogFormat, LogLevel, LogOutput, OnLogFailure, Protocols, ProxyProtocol, Seal, Shutdown,
    Tls, Tunnel,
};
pub use self::shared_state::SharedState;
pub use self::upstream::{Certificates, Credentials, UpstreamProxy};
