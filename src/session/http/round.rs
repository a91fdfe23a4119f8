//! Plain requests of transparent clients that come back: DNS leads egressd's own connections to it too, by a balancer in front of several
//! replicas, whose addresses are none of this one's.
//!
//! A request has nothing that is unlike every other, as a ClientHello has its random. So it goes on as it came, unless one to the same
//! target with the same method and path is under way: it may be that one, and may be another client's. Then it has a mark, which is
//! `CDN-Loop` (RFC 8586) with a name that means this process to nobody else. What comes with the mark has been here, and is refused. A client
//! that writes the mark itself is refused, and gains nothing.
//!
//! Not here: loops that an address shows ([`crate::outbound::dial`]), and those of TLS ([`crate::session::tunnel::by_sni`]).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::session::refuse::Refused;
use crate::session::request::Request;
use crate::state::hellos::HelloUnderWay;
use crate::state::shared::Shared;
use crate::wire::head::{Head, RequestTarget};
use crate::words::client::Protocol;
use crate::words::outcome::Reason;

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// Replicas that one request can go round.
const MOST_MARKS: usize = 32;

/// A request on its way, until this is dropped.
#[derive(Default, Debug)]
pub(super) struct Round<'h> {
    _under_way: Option<HelloUnderWay<'h>>,
    mark: Mark,
}

/// What the request has to carry: the marks that it came with, and ours. Empty: it goes on as it came.
#[derive(Clone, Default, Debug)]
pub(super) struct Mark(Vec<HeaderValue>);

impl<'h> Round<'h> {
    /// The request goes on, if it has not been here before.
    ///
    /// # Errors
    /// It comes back.
    pub(super) fn begin(head: &Head, request: &Request<'_>, shared: &'h Shared) -> Result<Self, Refused> {
        let RequestTarget::Absolute { target, path_and_query } = &head.target else {
            return Ok(Round::default());
        };
        if request.protocol() != Protocol::Transparent {
            return Ok(Round::default());
        }
        let own = shared.hellos.mark();
        let came_with = head.headers.get_all(&CDN_LOOP);
        if came_with.iter().any(|value| names(value, &own)) {
            return Err(comes_back());
        }
        let asks = format!("{} {target}{path_and_query}", head.method);
        let under_way = shared.hellos.enter(asks.as_bytes());
        let mark = match (&under_way, HeaderValue::try_from(own)) {
            (None, Ok(own)) => {
                let others = came_with.iter().filter(|value| is_mark(value)).take(MOST_MARKS);
                Mark(others.cloned().chain([own]).collect())
            }
            _ => Mark::default(),
        };
        Ok(Round { _under_way: under_way, mark })
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark.clone()
    }
}

impl Mark {
    /// Written last: whatever a rule takes out, those of the other replicas go on.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        for value in &self.0 {
            if !headers.get_all(&CDN_LOOP).iter().any(|there| there == value) {
                headers.append(CDN_LOOP, value.clone());
            }
        }
    }
}

/// Whether another replica may have written it: as [`mark`](crate::state::hellos::Hellos::mark) does. Whatever else a client wrote is for the
/// rule, which may take it out.
fn is_mark(value: &HeaderValue) -> bool {
    value.len() == 16 && value.as_bytes().iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a field has this name in its list, whatever parameters follow.
fn names(value: &HeaderValue, own: &str) -> bool {
    let mut listed = value.as_bytes().split(|byte| *byte == b',');
    listed.any(|one| {
        let name = one.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii() == own.as_bytes()
    })
}

fn comes_back() -> Refused {
    let why = "this request has been here before: DNS leads egressd's own connections back to it, perhaps by a load balancer";
    Refused::new(Reason::Loop, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_is_found_in_a_list_and_nowhere_else() {
        let rows: [(&[u8], bool); 8] = [
            (b"a1", true),
            (b"cdn.example, a1;v=1", true),
            (b"x;a1 ,\ta1 ", true),
            (b"a1b", false),
            (b"A1", false),
            (b"x; a1", false),
            (b"", false),
            (b"\xff, a 1", false),
        ];
        for (value, want) in rows {
            let value = HeaderValue::from_bytes(value).expect("a value");
            assert_eq!(names(&value, "a1"), want, "{value:?}");
        }
    }

    #[test]
    fn what_a_client_wrote_is_no_mark_of_a_replica() {
        for (value, want) in [
            ("0123456789abcdef", true),
            ("0123456789abcde", false),
            ("0123456789ABCDEF", false),
            ("0123456789abcdef0", false),
            ("secret,0123456789", false),
            ("", false),
        ] {
            assert_eq!(is_mark(&HeaderValue::from_static(value)), want, "{value}");
        }
    }

    #[test]
    fn the_marks_of_others_go_on() {
        let mut headers = HeaderMap::new();
        headers.insert(CDN_LOOP, HeaderValue::from_static("other"));
        let value = HeaderValue::from_static;
        Mark::default().write(&mut headers);
        assert_eq!(headers.get_all(&CDN_LOOP).into_iter().collect::<Vec<_>>(), ["other"]);
        headers.clear();
        Mark(vec![value("other"), value("own")]).write(&mut headers);
        assert_eq!(headers.get_all(&CDN_LOOP).into_iter().collect::<Vec<_>>(), ["other", "own"]);
    }
}
