//! The kinds of what is held.

/// What is held; the label of the metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Connections and tunnels themselves: tasks, sockets, what the kernel keeps for each.
    Connection,
    /// Request heads, and what was sent after them before it is wanted.
    Head,
    /// TLS between client and proxy: its state, and records that are not whole.
    Tls,
    /// ClientHellos inside tunnels, and what is held until the target has answered.
    Hello,
    /// Plain HTTP: bodies, and the buffers of both sides.
    Body,
    /// What a tunnel has read and not yet delivered.
    Relay,
    /// Pipes that bulk goes through.
    Pipe,
    /// The kernel's buffers of sockets that are not read.
    Socket,
    /// The access log's queue.
    Log,
    /// Answers of DNS.
    Dns,
    /// Accounts of upload budgets.
    Budget,
    /// Records that wait for the OTLP receiver.
    Otlp,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] = &[
        Kind::Connection,
        Kind::Head,
        Kind::Tls,
        Kind::Hello,
        Kind::Body,
        Kind::Relay,
        Kind::Pipe,
        Kind::Socket,
        Kind::Log,
        Kind::Dns,
        Kind::Budget,
        Kind::Otlp,
    ];

    /// Those that no connection holds, and that do not come back when one ends.
    pub(super) const APART: [Kind; 4] = [Kind::Log, Kind::Dns, Kind::Budget, Kind::Otlp];

    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Connection => "connection",
            Kind::Head => "head",
            Kind::Tls => "tls",
            Kind::Hello => "hello",
            Kind::Body => "body",
            Kind::Relay => "relay",
            Kind::Pipe => "pipe",
            Kind::Socket => "socket",
            Kind::Log => "log",
            Kind::Dns => "dns",
            Kind::Budget => "budget",
            Kind::Otlp => "otlp",
        }
    }

    pub(super) fn place(self) -> usize {
        self as usize
    }
}
