//! A socket with deadlines that hold even if the other side sends a byte now and then.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The longest that one step of a visit may take.
pub const STEP: Duration = Duration::from_secs(15);

/// Each read and each write may take one step, and all of them together two steps.
pub(super) struct Timed {
    socket: TcpStream,
    step: Duration,
    until: Instant,
}

impl Timed {
    pub(super) fn new(socket: TcpStream) -> Self {
        Timed::with_step(socket, STEP)
    }

    fn with_step(socket: TcpStream, step: Duration) -> Self {
        Timed { socket, step, until: Instant::now() + 2 * step }
    }

    /// Ends our side; the other side may send until `until`.
    pub(super) fn end(&mut self, until: Instant) -> io::Result<()> {
        self.until = until;
        self.socket.shutdown(Shutdown::Write)
    }

    /// How long the next call may take.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now()).min(self.step);
        // To the system, zero means no timeout.
        if left < Duration::from_millis(1) { Err(late()) } else { Ok(left) }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no complete answer in time")
}

fn in_time<T>(done: io::Result<T>) -> io::Result<T> {
    done.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
        _ => error,
    })
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A signal interrupts a read that has a deadline, and is no answer.
        loop {
            self.socket.set_read_timeout(Some(self.left()?))?;
            match self.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return in_time(read),
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        in_time(self.socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;
    use crate::commands::doctor::reply::{Connected, Reply};

    const SHORT: Duration = Duration::from_millis(200);

    /// The result of a reply that is sent byte by byte, with a `pause` before each.
    fn ask(bytes: &'static [u8], pause: Duration) -> (io::Result<Reply>, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (done, asked) = channel::<()>();
        let address = listener.local_addr().expect("bound");
        let dripping = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            for byte in bytes {
                if asked.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                // The client may have gone.
                let _ = socket.write_all(&[*byte]);
            }
            let _ = asked.recv();
        });
        let socket = TcpStream::connect_timeout(&address, STEP).expect("it listens");
        let copy = socket.try_clone().expect("a descriptor");
        let begun = Instant::now();
        let timed = Box::new(Timed::with_step(socket, SHORT));
        let mut connected = Connected::over(timed, &copy).expect("connected");
        let reply = Reply::read(&mut connected);
        let took = begun.elapsed();
        drop(done);
        dripping.join().expect("it ends");
        (reply, took)
    }

    #[test]
    fn a_silent_proxy_is_waited_for_one_step() {
        let (reply, took) = ask(b"", SHORT);
        let error = reply.expect_err("nothing came");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::TimedOut, "no complete answer in time")
        );
        // The kernel counts time in ticks.
        assert!(took >= SHORT * 9 / 10, "{took:?}");
    }

    #[test]
    fn a_dripping_proxy_is_waited_for_two_steps_and_no_more() {
        let (reply, took) = ask(&[b'H'; 1000], SHORT / 8);
        assert_eq!(reply.expect_err("no reply").kind(), io::ErrorKind::TimedOut);
        assert!(took > SHORT && took < 20 * SHORT, "{took:?}");
    }

    #[test]
    fn a_slow_proxy_is_read() {
        let (reply, _) = ask(b"HTTP/1.1 200 OK\r\n\r\n", Duration::from_millis(1));
        assert_eq!(reply.expect("a reply").status, 200);
    }
}
