//! The header of a TLS record, in numbers (RFC 8446 §5.1). Which lengths are let pass differs, and stands where records
//! are read.

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
