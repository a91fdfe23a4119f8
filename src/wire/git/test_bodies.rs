//! Bodies of requests for the tests.

use super::pkt_line;

/// The zero id.
pub(crate) const ZERO: &str = "0000000000000000000000000000000000000000";
/// An id.
pub(crate) const OLD: &str = "1111111111111111111111111111111111111111";
/// Another.
pub(crate) const NEW: &str = "2222222222222222222222222222222222222222";

/// A list of commands, each of which updates a ref.
pub(crate) fn push(capabilities: &str, refs: &[&str]) -> Vec<u8> {
    let commands = refs.iter().enumerate().map(|(at, name)| {
        let capabilities = if at == 0 { format!("\0{capabilities}") } else { String::new() };
        format!("{OLD} {NEW} {name}{capabilities}")
    });
    let mut body = lines(&commands.collect::<Vec<_>>());
    pkt_line::flush(&mut body);
    body
}

/// One line for each text.
pub(crate) fn lines<T: AsRef<[u8]>>(texts: &[T]) -> Vec<u8> {
    let mut out = Vec::new();
    texts.iter().for_each(|text| pkt_line::write(&mut out, &[text.as_ref()]));
    out
}
