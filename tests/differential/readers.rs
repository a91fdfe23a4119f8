//! Two readers of what reaches a target: a strict one that follows RFC 9112 exactly, and a lenient one that forgives all that
//! servers are known to forgive. What both read as the same single request can smuggle nothing past either.

/// One request as a reader understands it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case, values trimmed, sorted; one character per byte.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn new(method: &str, target: &str, mut fields: Vec<(String, String)>, body: Vec<u8>) -> Self {
        fields.sort();
        Seen { method: method.to_owned(), target: target.to_owned(), fields, body }
    }

    /// The one value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands there twice: {self:?}");
        value
    }
}

/// One character per byte.
pub(crate) fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The strict reader: the first request in `bytes` and its length; `None`: not complete yet.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn strict(bytes: &[u8]) -> Result<Option<(Seen, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = latin_1(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("the request line: {first:?}"));
    };
    let token = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
    };
    if !token(method) || !target.starts_with('/') || !target.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!("the request line: {first:?}"));
    }
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(format!("no field: {line:?}"))?;
        let value = value.trim_matches([' ', '\t']);
        if !token(name) || value.chars().any(|c| c != '\t' && (c < ' ' || c == '\u{7f}')) {
            return Err(format!("a field: {line:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    };
    if all("host").len() != 1 {
        return Err("not one Host".to_owned());
    }
    let rest = &bytes[end + 4..];
    let (body, length) = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => (Vec::new(), 0),
        ([digits], []) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = digits.parse().map_err(|_| "a huge length")?;
            let Some(body) = rest.get(..length) else { return Ok(None) };
            (body.to_vec(), length)
        }
        ([], ["chunked"]) => match strict_chunks(rest)? {
            Some(body) => body,
            None => return Ok(None),
        },
        framing => return Err(format!("the framing: {framing:?}")),
    };
    Ok(Some((Seen::new(method, target, fields, body), end + 4 + length)))
}

fn strict_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = bytes[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let line = latin_1(&bytes[at..at + end]);
        at += end + 2;
        if line.is_empty() || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a chunk's size: {line:?}"));
        }
        let size = usize::from_str_radix(&line, 16).map_err(|_| "a huge chunk")?;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk that is longer than its size".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    loop {
        let Some(end) = bytes[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        at += end + 2;
        if end == 0 {
            return Ok(Some((body, at)));
        }
    }
}

/// The forgiving reader: every request that it finds in `bytes`, to the end.
pub(crate) fn lenient(bytes: &[u8]) -> Vec<Seen> {
    let (mut at, mut seen) = (0, Vec::new());
    while at < bytes.len() {
        let mut lines: Vec<String> = Vec::new();
        while let Some(line) = lenient_line(bytes, &mut at) {
            match line.as_str() {
                "" if lines.is_empty() => {}
                "" => break,
                // A folded line.
                _ if line.starts_with([' ', '\t']) && lines.len() > 1 => {
                    let last = lines.len() - 1;
                    lines[last].push_str(line.trim_start());
                }
                _ => lines.push(line),
            }
        }
        let Some(first) = lines.first() else { break };
        let mut words = first.split_ascii_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let fields: Vec<(String, String)> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
            .collect();
        let last = |name: &str| fields.iter().rev().find(|(field, _)| field == name).map(|(_, value)| value);
        let body =
            if last("transfer-encoding").is_some_and(|coding| coding.to_lowercase().contains("chunked")) {
                lenient_chunks(bytes, &mut at)
            } else {
                let digits: String = last("content-length").map_or(String::new(), |value| {
                    value.trim_start_matches('+').chars().take_while(char::is_ascii_digit).collect()
                });
                let end = (at + digits.parse().unwrap_or(0)).min(bytes.len());
                let body = bytes[at..end].to_vec();
                at = end;
                body
            };
        seen.push(Seen::new(method, target, fields.clone(), body));
    }
    seen
}

/// A line ends with CRLF, with LF alone, or with CR alone.
fn lenient_line(bytes: &[u8], at: &mut usize) -> Option<String> {
    let rest = bytes.get(*at..).filter(|rest| !rest.is_empty())?;
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
    let skipped = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
    *at = (*at + end + skipped).min(bytes.len());
    Some(latin_1(&rest[..end]))
}

fn lenient_chunks(bytes: &[u8], at: &mut usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = lenient_line(bytes, at) {
        let digits: String = line.trim().chars().take_while(char::is_ascii_hexdigit).collect();
        let size = usize::from_str_radix(&digits, 16).unwrap_or(0);
        if size == 0 {
            while lenient_line(bytes, at).is_some_and(|line| !line.is_empty()) {}
            break;
        }
        let end = (*at + size).min(bytes.len());
        body.extend_from_slice(&bytes[*at..end]);
        *at = end;
        lenient_line(bytes, at);
    }
    body
}
