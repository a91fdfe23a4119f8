//! Generated exchanges. The number of an exchange is its seed, and stands in its path: so client, target and check know the same one.

use crate::support::Numbers;

/// How a message is framed (RFC 9112 §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// Neither field.
    None,
    Length,
    Chunked,
    /// The end of the connection. Only answers.
    Close,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Body {
    pub(super) framing: Framing,
    pub(super) bytes: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// Seeds the sizes of chunks.
    chunks: u64,
}

/// What the target does, and a client sees of it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// 102 or 103, each with a field.
    pub(super) interim: Vec<u16>,
    pub(super) status: u16,
    pub(super) body: Body,
    /// It says `Connection: close`, and closes.
    pub(super) closes: bool,
    /// It answers an `Expect` at once, and reads no body.
    pub(super) early: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) method: &'static str,
    /// Path and query.
    pub(super) target: String,
    pub(super) fields: Vec<String>,
    pub(super) body: Body,
    pub(super) expects: bool,
    pub(super) answer: Answer,
    /// The client may send it before the answer to the exchange before it has come.
    pub(super) pipelined: bool,
    /// Where the client cuts what it sends.
    pub(super) cuts: Vec<usize>,
}

/// Nothing, a little, or more than fits in any buffer.
fn size(numbers: &mut Numbers) -> usize {
    match numbers.below(20) {
        0..4 => 0,
        4..16 => numbers.below(300),
        16..19 => numbers.below(20_000),
        _ => numbers.below(200_000),
    }
}

fn trailers(numbers: &mut Numbers, percent: usize) -> Vec<(String, String)> {
    if !numbers.chance(percent) {
        return Vec::new();
    }
    (0..=numbers.below(3)).map(|at| (format!("x-check-{at}"), format!("{:x}", numbers.next()))).collect()
}

impl Body {
    fn none() -> Self {
        Body { framing: Framing::None, bytes: Vec::new(), trailers: Vec::new(), chunks: 0 }
    }

    fn any(numbers: &mut Numbers, framing: Framing, with_trailers: usize) -> Self {
        if framing == Framing::None {
            return Body::none();
        }
        let (size, mut seed) = (size(numbers), Numbers::from(numbers.next()));
        let bytes = (0..size).map(|_| seed.next() as u8).collect();
        let trailers =
            if framing == Framing::Chunked { trailers(numbers, with_trailers) } else { Vec::new() };
        Body { framing, bytes, trailers, chunks: numbers.next() }
    }

    /// The fields that say how it is framed.
    fn fields(&self) -> String {
        match self.framing {
            Framing::None | Framing::Close => String::new(),
            Framing::Length => format!("Content-Length: {}\r\n", self.bytes.len()),
            Framing::Chunked => {
                let names: Vec<&str> = self.trailers.iter().map(|(name, _)| name.as_str()).collect();
                let trailer = if names.is_empty() {
                    String::new()
                } else {
                    format!("Trailer: {}\r\n", names.join(", "))
                };
                format!("Transfer-Encoding: chunked\r\n{trailer}")
            }
        }
    }

    /// The bytes on the wire.
    pub(super) fn framed(&self) -> Vec<u8> {
        if self.framing != Framing::Chunked {
            return self.bytes.clone();
        }
        let (mut numbers, mut left, mut framed) =
            (Numbers::from(self.chunks), self.bytes.as_slice(), Vec::new());
        while !left.is_empty() {
            let most = numbers.one(&[10, 1000, 70_000]);
            let (chunk, rest) = left.split_at((1 + numbers.below(most)).min(left.len()));
            framed.extend(
                match numbers.below(3) {
                    0 => format!("{:X}\r\n", chunk.len()),
                    1 => format!("{:05x}\r\n", chunk.len()),
                    _ => format!("{:x}\r\n", chunk.len()),
                }
                .into_bytes(),
            );
            framed.extend(chunk);
            framed.extend(b"\r\n");
            left = rest;
        }
        framed.extend(b"0\r\n");
        for (name, value) in &self.trailers {
            framed.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        framed.extend(b"\r\n");
        framed
    }
}

impl Exchange {
    pub(super) fn of(number: u64) -> Self {
        let numbers = &mut Numbers::from(number);
        let method = numbers
            .one(&["GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"]);
        let may_have = if matches!(method, "GET" | "HEAD") { 15 } else { 80 };
        let framing = match numbers.chance(may_have) {
            false => Framing::None,
            true => numbers.one(&[Framing::Length, Framing::Chunked]),
        };
        let body = Body::any(numbers, framing, 40);
        let expects = framing != Framing::None && !body.framed().is_empty() && numbers.chance(20);
        let rest = numbers.one(&["", "/a", "/b%20c/%C3%A9", "/x-y_z.1/~z", "?q=1&r=%2f", "/a?secret=1"]);
        let mut fields = vec!["User-Agent: exchanges".to_owned()];
        // What a client says of trailers is of its connection with egressd.
        if numbers.chance(50) {
            fields.push("TE: trailers".to_owned());
            fields.push("Connection: TE".to_owned());
        }
        let answer = Answer::any(numbers, expects);
        let pipelined = !expects && numbers.chance(10);
        let cuts = (0..numbers.below(4)).map(|_| numbers.below(2000)).collect();
        Exchange {
            method,
            target: format!("/{number}{rest}"),
            fields,
            body,
            expects,
            answer,
            pipelined,
            cuts,
        }
    }

    /// The number in a path.
    pub(super) fn number(target: &str) -> u64 {
        let digits: String = target.chars().skip(1).take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number in {target}"))
    }

    pub(super) fn head(&self, authority: &str) -> Vec<u8> {
        let fields: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        let expect = if self.expects { "Expect: 100-continue\r\n" } else { "" };
        format!(
            "{} {} HTTP/1.1\r\nHost: {authority}\r\n{fields}{expect}{}\r\n",
            self.method,
            self.target,
            self.body.fields()
        )
        .into_bytes()
    }

    /// Whether its answer has a body on the wire (RFC 9112 §6.3).
    pub(super) fn answer_has_body(&self) -> bool {
        self.method != "HEAD" && !matches!(self.answer.status, 204 | 304)
    }
}

impl Answer {
    fn any(numbers: &mut Numbers, expects: bool) -> Self {
        let early = expects && numbers.chance(20);
        let status = if early { 417 } else { numbers.one(&[200, 200, 200, 201, 204, 304, 404, 500]) };
        let framing = match status {
            204 => Framing::None,
            // These are of the answer to a GET, and no body follows them.
            304 => numbers.one(&[Framing::None, Framing::Length]),
            417 => Framing::Length,
            _ => match numbers.below(20) {
                0 => Framing::Close,
                1..10 => Framing::Chunked,
                _ => Framing::Length,
            },
        };
        let interim = if numbers.chance(20) { vec![103; 1 + numbers.below(3)] } else { Vec::new() };
        let body = Body::any(numbers, framing, 40);
        let closes = early || framing == Framing::Close || numbers.chance(3);
        Answer { interim, status, body, closes, early }
    }

    /// What goes before the body.
    pub(super) fn head(&self) -> Vec<u8> {
        let close = if self.closes { "Connection: close\r\n" } else { "" };
        let interim: String = self
            .interim
            .iter()
            .map(|status| format!("HTTP/1.1 {status} Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"))
            .collect();
        let type_ = "Content-Type: application/octet-stream\r\n";
        format!("{interim}HTTP/1.1 {} Some Phrase\r\n{type_}{close}{}\r\n", self.status, self.body.fields())
            .into_bytes()
    }
}
