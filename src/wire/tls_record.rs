//! The numbers of a TLS record's header (RFC 8446 §5.1). Not here: the allowed lengths, which differ between the readers of
//! records.

/// Bytes of the header: type, version, length.
pub const HEADER: usize = 5;

/// The type `change_cipher_spec`.
pub const CHANGE_CIPHER_SPEC: u8 = 20;
/// The type `alert`.
pub const ALERT: u8 = 21;
/// The type `handshake`.
pub const HANDSHAKE: u8 = 22;
/// The type `application_data`.
pub const APPLICATION_DATA: u8 = 23;
