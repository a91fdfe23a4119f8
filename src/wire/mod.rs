//! What bytes mean: parsers of what untrusted peers send. They read slices and know no socket.

pub mod alert;
pub mod auth_scheme;
pub mod aws;
pub mod basic_auth;
pub mod canonical;
pub mod client_hello;
pub mod first_bytes;
pub mod git;
pub mod head;
pub mod proxy_protocol;
pub mod query;
pub mod seal;
pub mod server_hello;
pub mod socks5;
pub mod tls_record;
