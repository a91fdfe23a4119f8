//! One attack: what is sent, what egressd answers, and what would count as harm.

/// Something the client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes at once. Placeholders such as `{OK}` are filled in, see [`super::world::World::fill`].
    Send(Vec<u8>),
    /// Sends them in segments of this many bytes.
    Trickle(Vec<u8>, usize),
    /// Waits for the reply to CONNECT; unless it is 200, the remaining steps are skipped.
    Established,
    /// Waits for a whole reply to a plain request.
    Reply,
    /// Waits until the other side has sent something more.
    Heard,
    /// Sends a FIN.
    Fin,
    /// Speaks TLS with this server name, and sends these bytes inside.
    Tls(&'static str, Vec<u8>),
}

/// What egressd answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// A refusal with this status and reason. Nothing has connected to any target.
    Reply(u16, &'static str),
    /// The same, after part of the request was already forwarded: a body that turns out to be malformed.
    Late(u16, &'static str),
    /// After the 200 a fatal TLS alert. No byte reached the target.
    Alert(u8, &'static str),
    /// After the 200 a close without a reply. No byte reached the target.
    Close(&'static str),
    /// The tunnel passes bytes both ways.
    Flows,
    /// A target's answer to a plain request, with this status.
    Answers(u16),
}

/// What makes an attack a success, for any proxy.
#[derive(Clone, Debug)]
pub enum Harm {
    /// Any byte at any target, or any connection to a target other than `{OK}`.
    Reached,
    /// These bytes at any target, in upper or lower case.
    Bytes(Vec<u8>),
    /// A connection to a target other than `{OK}`.
    Elsewhere,
    /// A question to the name server whose name contains this.
    Asked(String),
    /// These bytes in what the client got.
    Told(Vec<u8>),
    /// These bytes, raw, in the proxy's log.
    Logged(Vec<u8>),
    /// A success without any target: the proxy serves a page of its own.
    Served,
    /// No harm: the request is correct, and has to pass.
    None,
    /// These bytes inside the encrypted stream, which a proxy cannot see unless it decrypts TLS.
    Inside(Vec<u8>),
}

/// One attack.
#[derive(Clone, Debug)]
pub struct Case {
    /// The catalogue's row.
    pub row: u8,
    /// What is attempted, in a few words; unique in its row.
    pub what: String,
    /// What the client does.
    pub steps: Vec<Step>,
    /// What egressd answers.
    pub expect: Expect,
    /// What would count as harm.
    pub harm: Harm,
    /// The attack succeeds, and no proxy can prevent it: the suite shows that, too.
    pub unstoppable: bool,
}

/// Begins a case.
pub fn case(row: u8, what: impl Into<String>) -> Case {
    Case {
        row,
        what: what.into(),
        steps: Vec::new(),
        expect: Expect::Reply(400, "bad_request"),
        harm: Harm::Reached,
        unstoppable: false,
    }
}

/// CONNECT to the TLS port of this host.
pub fn connect(host: impl AsRef<[u8]>) -> Vec<u8> {
    let host = host.as_ref();
    [b"CONNECT ", host, b":{TLS} HTTP/1.1\r\nHost: {OK}:{TLS}\r\n\r\n"].concat()
}

/// CONNECT to this target, with host and port as they are written.
pub fn connect_to(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"CONNECT ", target.as_ref(), b" HTTP/1.1\r\nHost: {OK}:{TLS}\r\n\r\n"].concat()
}

/// GET of this URI, with the Host that it names and with these fields, each with its CRLF.
pub fn get(uri: impl AsRef<[u8]>, fields: impl AsRef<[u8]>) -> Vec<u8> {
    let uri = uri.as_ref();
    let rest = uri.strip_prefix(b"http://").unwrap_or(b"{OK}:{WEB}");
    let host = rest.split(|byte| b"/?#".contains(byte)).next().unwrap_or_default();
    get_with_host(uri, host, fields)
}

/// The same with another Host.
pub fn get_with_host(uri: impl AsRef<[u8]>, host: impl AsRef<[u8]>, fields: impl AsRef<[u8]>) -> Vec<u8> {
    let (uri, host) = (uri.as_ref(), host.as_ref());
    [b"GET ", uri, b" HTTP/1.1\r\nHost: ", host, b"\r\n", fields.as_ref(), b"\r\n"].concat()
}

/// POST to the allowed plain target with these fields and this body.
pub fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = b"POST http://{OK}:{WEB}/ HTTP/1.1\r\nHost: {OK}:{WEB}\r\n";
    [&head[..], fields.as_ref(), b"\r\n", body.as_ref()].concat()
}

impl Case {
    /// Sends these bytes in one segment.
    pub fn send(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Send(bytes.as_ref().to_vec()));
        self
    }

    /// Sends these bytes in segments of `size`.
    pub fn trickle(mut self, bytes: impl AsRef<[u8]>, size: usize) -> Self {
        self.steps.push(Step::Trickle(bytes.as_ref().to_vec(), size));
        self
    }

    /// A tunnel to the TLS port of this host, and these bytes in it.
    pub fn tunnel(self, host: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.send(connect(host)).then(Step::Established).send(bytes)
    }

    /// One more step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// What egressd answers.
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Refused before anything is dialled.
    pub fn refused(self, status: u16, reason: &'static str) -> Self {
        self.expect(Expect::Reply(status, reason))
    }

    /// What would count as harm, if it is something else than bytes at a target.
    pub fn harm(mut self, harm: Harm) -> Self {
        self.harm = harm;
        self
    }

    /// The attack succeeds, and no proxy can prevent it.
    pub fn unstoppable(mut self) -> Self {
        self.unstoppable = true;
        self
    }

    /// Has to pass: it does no harm, and a proxy that refuses it breaks something that worked.
    pub fn passes(self, expect: Expect) -> Self {
        self.expect(expect).harm(Harm::None)
    }
}
