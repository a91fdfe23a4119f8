//! One HTTP request, as far as rules may judge it.

use super::recognised::Recognised;

/// One HTTP request, as far as rules may judge it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpRequest<'r> {
    /// As it was sent: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'r str,
    /// The path as it was sent, never decoded, without the query.
    pub path: &'r str,
    /// What follows the first `?`, as it was sent; `None`: there is none.
    pub query: Option<&'r str>,
    /// What it asks to make of its connection.
    pub upgrade: Upgrade,
    /// Whether it came in a tunnel whose TLS egressd opened.
    pub inspected: bool,
    /// What it says beyond that; `None`: no rule asks for it, or it is not known. No entry with `git` or `aws` fits then.
    pub recognised: Option<&'r Recognised>,
}

/// What a request asks to make of its connection, by its `Upgrade` fields (RFC 9110 §7.8).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Upgrade {
    /// Nothing.
    #[default]
    None,
    /// A WebSocket and nothing else.
    Websocket,
    /// Anything else, or a choice of several.
    Other,
}

impl Upgrade {
    /// What the values of all `Upgrade` fields of one request ask for.
    pub fn of<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Upgrade::None,
            (Some(value), None) if value.trim_ascii().eq_ignore_ascii_case(b"websocket") => {
                Upgrade::Websocket
            }
            _ => Upgrade::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_one_field_with_that_word_alone() {
        let rows: &[(&[&str], Upgrade)] = &[
            (&[], Upgrade::None),
            (&["websocket"], Upgrade::Websocket),
            (&["WebSocket "], Upgrade::Websocket),
            (&[""], Upgrade::Other),
            (&["h2c"], Upgrade::Other),
            (&["websocket, h2c"], Upgrade::Other),
            (&["websocket/13"], Upgrade::Other),
            (&["websocket", "websocket"], Upgrade::Other),
            (&["h2c", "websocket"], Upgrade::Other),
        ];
        for (values, want) in rows {
            assert_eq!(Upgrade::of(values.iter().map(|value| value.as_bytes())), *want, "{values:?}");
        }
    }
}
