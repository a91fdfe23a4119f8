//! What is answered, and how.

use super::*;
use crate::words::outcome::Class;

fn reply(reason: Reason) -> Reply<'static> {
    let (id, advice, shows) = (Uuid::nil(), "no rule names it", Shows::Text);
    Reply { reason, id, advice, body: true, keep: None, inside: false, shows }
}

#[test]
fn a_refusal_says_why_in_status_field_and_line() {
    let bytes = reply(Reason::HostNotAllowed).to_bytes().unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "HTTP/1.1 403 egressd: host_not_allowed\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 91\r\n\
         X-Content-Type-Options: nosniff\r\n\
         X-Request-Id: 00000000-0000-0000-0000-000000000000\r\n\
         Proxy-Status: egressd; error=http_request_denied; details=\"host_not_allowed\"\r\n\
         Connection: close\r\n\r\n\
         egressd: host_not_allowed: no rule names it (request 00000000-0000-0000-0000-000000000000)\n"
    );
}

#[test]
fn what_may_pass_later_says_when() {
    let text = String::from_utf8(reply(Reason::Draining).to_bytes().unwrap()).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 egressd: draining\r\n"), "{text}");
    assert!(text.contains("\r\nRetry-After: 5\r\n"), "{text}");
}

/// The whole reply is well-formed for a strict reader, whatever the reason; and what a client prints of it is the reason,
/// in letters that no terminal, log or shell takes for anything else.
#[test]
fn every_http_reason_has_a_status_a_phrase_of_our_own_letters_and_one_body_line() {
    let advice = ["no rule names it", "", "evil.test\r\nHTTP/1.1 200 OK\r\n\r\n", "\u{1b}[2J\u{202e}%41\0"];
    for (reason, advice) in Reason::ALL.iter().flat_map(|reason| advice.map(|advice| (*reason, advice))) {
        let Some(bytes) = (Reply { advice, ..reply(reason) }).to_bytes() else { continue };
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let line = head.split_once("\r\n").unwrap().0;
        let status = status(reason).unwrap();
        assert!((400..600).contains(&status), "{reason}: {status}");
        assert_eq!(line, format!("HTTP/1.1 {status} egressd: {reason}"));
        assert!(reason.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{reason}");
        assert_eq!(body.matches('\n').count(), 1, "{reason}");

        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut read = httparse::Response::new(&mut fields);
        assert_eq!(read.parse(&bytes), Ok(httparse::Status::Complete(head.len() + 4)), "{reason}");
        assert_eq!((read.code, read.reason), (Some(status), line.get("HTTP/1.1 400 ".len()..)), "{reason}");
        let length = read.headers.iter().find(|field| field.name == "Content-Length").unwrap().value;
        assert_eq!(length, body.len().to_string().as_bytes(), "{reason}");
    }
}

#[test]
fn an_error_is_a_429_or_a_5xx_and_all_else_is_a_denial() {
    for reason in Reason::ALL {
        // A target that cannot prove itself is a denial, whatever was sent before.
        if matches!(wire_form(*reason), WireForm::Either { .. }) {
            assert!(reason.is_denial(), "{reason}");
            continue;
        }
        let is_error = status(*reason).is_some_and(|status| status == 429 || status >= 500);
        assert_eq!(reason.is_denial(), !is_error, "{reason}");
    }
}

#[test]
fn what_is_closed_before_any_request_is_closed_without_a_reply() {
    for reason in Reason::ALL {
        let before = reason.class() == Class::Connection;
        assert_eq!(wire_form(*reason) == WireForm::Closed, before, "{reason}");
    }
}

#[test]
fn plain_http_at_a_tls_listener_is_told_the_cause_in_the_line_that_its_user_sees() {
    let text = String::from_utf8(in_clear(Uuid::nil(), true)).unwrap();
    let line = "HTTP/1.1 400 egressd: tls_handshake_failed: this listener speaks TLS: use https:// in the proxy URL\r\n";
    assert!(text.starts_with(line), "{text}");
    assert!(text.contains("\r\nConnection: close\r\n") && text.ends_with("0000)\n"), "{text}");
    assert!(in_clear(Uuid::nil(), false).ends_with(b"\r\n\r\n"));
}

#[test]
fn inside_a_tunnel_a_client_that_speaks_tls_has_an_alert() {
    assert_eq!(alert(Reason::SniMismatch), Some(Alert::UnrecognizedName));
    assert_eq!(alert(Reason::HostNotAllowed), Some(Alert::AccessDenied), "revoked before its hello passed");
    assert_eq!(alert(Reason::ClientCertificateInvalid), Some(Alert::AccessDenied), "the same");
    assert_eq!(alert(Reason::CertificateInvalid), Some(Alert::BadCertificate));
    assert_eq!(status(Reason::CertificateInvalid), Some(502), "before the 200");
    assert_eq!(alert(Reason::NotTls), None);
    assert_eq!(status(Reason::NotTls), Some(200));
}

#[test]
fn advice_cannot_forge_a_line() {
    let text = Reply { advice: "a\r\nX: y\u{1b}[2J", ..reply(Reason::BadRequest) }.to_bytes().unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("\r\nX: y") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn no_connect_is_offered_inside_a_tunnel() {
    let allow = |inside| {
        let bytes = Reply { inside, ..reply(Reason::MethodNotAllowed) }.to_bytes().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().find_map(|line| line.strip_prefix("Allow: ")).unwrap().to_owned()
    };
    assert_eq!(allow(false), "CONNECT, GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
    assert_eq!(allow(true), "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    let text = Reply { body: false, ..reply(Reason::HostDenied) }.to_bytes().unwrap();
    assert!(text.ends_with(b"\r\n\r\n"));
}
