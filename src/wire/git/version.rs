//! The field `Git-Protocol`: which version of the protocol a client speaks.

/// A version of Git's protocol. A push is always of the first two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum ProtocolVersion {
    /// The field is left out.
    #[default]
    V0,
    /// As the first, with one line more in answers.
    V1,
    /// Requests are commands.
    V2,
}

impl ProtocolVersion {
    /// Reads the field's value. As git's server does: of several versions, separated by colons, the highest counts.
    ///
    /// # Errors
    /// Anything but versions 0 to 2: git's server passes over what it does not know, and it would go out unread.
    pub fn read(value: &[u8]) -> Result<Self, &'static str> {
        let mut highest = ProtocolVersion::V0;
        for item in value.split(|byte| *byte == b':') {
            let version = match item {
                b"version=0" => ProtocolVersion::V0,
                b"version=1" => ProtocolVersion::V1,
                b"version=2" => ProtocolVersion::V2,
                _ => return Err("a `Git-Protocol` that is not `version=0`, `version=1` or `version=2`"),
            };
            highest = highest.max(version);
        }
        Ok(highest)
    }

    /// The value that goes on, whatever the client's looked like; `None`: no field.
    pub fn field(self) -> Option<&'static str> {
        match self {
            ProtocolVersion::V0 => None,
            ProtocolVersion::V1 => Some("version=1"),
            ProtocolVersion::V2 => Some("version=2"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_counts_and_nothing_else_passes() {
        let rows = [
            ("version=2", Some(ProtocolVersion::V2)),
            ("version=1", Some(ProtocolVersion::V1)),
            ("version=0", Some(ProtocolVersion::V0)),
            ("version=1:version=2", Some(ProtocolVersion::V2)),
            ("version=2:version=0", Some(ProtocolVersion::V2)),
            ("version=2:data", None),
            ("version=3", None),
            ("version=02", None),
            ("Version=2", None),
            ("version=2 ", None),
            ("", None),
            (":version=2", None),
        ];
        for (value, want) in rows {
            assert_eq!(ProtocolVersion::read(value.as_bytes()).ok(), want, "{value}");
        }
    }
}
