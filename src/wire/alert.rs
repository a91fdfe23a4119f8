//! The fatal TLS alerts that egressd itself sends (RFC 8446 §6). Not here: which refusal sends which alert, and the alerts of
//! rustls in its own handshakes.

/// The description of a fatal alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alert {
    /// `bad_certificate`.
    BadCertificate = 42,
    /// `access_denied`.
    AccessDenied = 49,
    /// `decode_error`.
    DecodeError = 50,
    /// `unrecognized_name`.
    UnrecognizedName = 112,
    /// `no_application_protocol` (RFC 7301 §3.2).
    NoApplicationProtocol = 120,
}

impl Alert {
    /// The alert as a plaintext record, which is valid before any key is in use.
    pub fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 3, 3, 0, 2, FATAL, self as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_one_plaintext_record() {
        assert_eq!(Alert::UnrecognizedName.record(), [21, 3, 3, 0, 2, 2, 112]);
    }
}
