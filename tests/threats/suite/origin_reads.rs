//! How a strict origin reads the bytes that a proxy sent it: as one correct request, or not.
//!
//! Only for the comparison: a proxy that repairs an odd request before it forwards it has let nothing odd through.

/// Whether these bytes are one plain request to this host, in the form of RFC 9112, with its body and nothing after it.
pub fn is_one_clean_request(bytes: &[u8], host: &str, port: u16) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let Ok(head) = std::str::from_utf8(head) else { return false };
    let mut lines = head.split("\r\n");
    let Some(line) = lines.next().filter(|line| is_request_line(line)) else { return false };
    let Some(fields) = lines.map(field).collect::<Option<Vec<_>>>() else { return false };
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value).collect()
    };
    let hosts = all("host");
    let is_host = |value: &&str| **value == *host || **value == format!("{host}:{port}");
    let nominates = |value: &&str| {
        let odd = |option: &str| {
            !["keep-alive", "close", "te"].contains(&option.trim().to_ascii_lowercase().as_str())
        };
        value.split(',').any(odd)
    };
    hosts.len() == 1
        && hosts.iter().all(is_host)
        && !all("connection").iter().any(nominates)
        && ["upgrade", "proxy-authorization", "proxy-connection"].iter().all(|name| all(name).is_empty())
        && match (&all("content-length")[..], &all("transfer-encoding")[..]) {
            ([], []) => body.is_empty(),
            ([length], []) => length.bytes().all(|b| b.is_ascii_digit()) && length.parse() == Ok(body.len()),
            ([], ["chunked"]) => line.ends_with("HTTP/1.1") && is_chunked(body),
            _ => false,
        }
}

fn is_request_line(line: &str) -> bool {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else { return false };
    method.bytes().all(|byte| byte.is_ascii_uppercase())
        && !["TRACE", "TRACK", "CONNECT"].contains(&method)
        && target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_graphic())
        && ["HTTP/1.0", "HTTP/1.1"].contains(&version)
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let clean =
        !name.is_empty() && name.bytes().all(is_token) && !value.chars().any(|c| c.is_control() && c != '\t');
    clean.then(|| (name, value.trim()))
}

fn is_chunked(mut body: &[u8]) -> bool {
    loop {
        let Some(end) = body.windows(2).position(|window| window == b"\r\n") else { return false };
        let size =
            std::str::from_utf8(&body[..end]).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(size) = size.and_then(|text| usize::from_str_radix(text, 16).ok()) else { return false };
        let rest = &body[end + 2..];
        match (size, rest.get(..size), rest.get(size..size + 2)) {
            (0, ..) => return rest == b"\r\n",
            (_, Some(_), Some(b"\r\n")) => body = &rest[size + 2..],
            _ => return false,
        }
    }
}

#[test]
fn odd_requests_are_not_clean() {
    let is_clean = |bytes: &[u8]| is_one_clean_request(bytes, "ok.test", 80);
    for clean in [
        "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "POST /a?b HTTP/1.0\r\nHost: ok.test:80\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        assert!(is_clean(clean.as_bytes()), "{clean}");
    }
    for odd in [
        "GET / HTTP/1.1\r\nHost: ok.test\n\r\n",
        "GET / HTTP/1.1\r\nHost: ok.test\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: ok.test\r\nHost: ok.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\nGET / HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: +2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: Host\r\n\r\n",
    ] {
        assert!(!is_clean(odd.as_bytes()), "{odd}");
    }
}
