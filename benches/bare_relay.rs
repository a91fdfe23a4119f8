//! The baseline for the budgets: the smallest program that accepts, dials and relays.
//!
//! `cargo bench --bench bare_relay -- 127.0.0.1:PORT [THREADS]` serves CONNECT to literal addresses until it is killed: no
//! policy, no log, no limits, no deadlines, no DNS, no checks. Bytes go through `splice(2)` and pipes of 1 MiB, made for
//! each direction when its first full buffer arrives. What egressd costs in addition to this is the cost of its promises.

#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const BUFFER: usize = 16 * 1024;
const PIPE: usize = 1024 * 1024;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(address) = arguments.next() else {
        // `cargo bench` runs every target: nothing to do without an address.
        println!("bare_relay: give an address to listen on");
        return Ok(());
    };
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&address).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move { drop(serve(client).await) });
        }
    })
}

async fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut head = vec![0; 2048];
    let mut length = 0;
    let end = loop {
        let read = client.read(&mut head[length..]).await?;
        if read == 0 {
            return Ok(());
        }
        length += read;
        if let Some(at) = head[..length].windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let target = std::str::from_utf8(&head[..end])
        .ok()
        .and_then(|text| text.strip_prefix("CONNECT ")?.split(' ').next()?.parse::<SocketAddr>().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let mut upstream = socket.connect(target).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    upstream.write_all(&head[end..length]).await?;
    tokio::try_join!(pump(&client, &upstream), pump(&upstream, &client)).map(drop)
}

async fn pump(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut pipe: Option<(OwnedFd, OwnedFd)> = None;
    let mut buffer = vec![0; BUFFER];
    loop {
        from.readable().await?;
        if let Some((read, write)) = &pipe {
            let moved = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, write, None, PIPE, SpliceFlags::NONBLOCK)?)
            });
            let mut left = match moved {
                Ok(0) => break,
                Ok(moved) => moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            while left > 0 {
                to.writable().await?;
                let sent = to.try_io(Interest::WRITABLE, || {
                    match splice(read, None, to, None, left, SpliceFlags::NONBLOCK) {
                        Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                        sent => Ok(sent?),
                    }
                });
                match sent {
                    Ok(sent) => left -= sent,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            continue;
        }
        let read = match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut sent = 0;
        while sent < read {
            to.writable().await?;
            match to.try_write(&buffer[sent..read]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if read == BUFFER {
            let ends = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
            // Above the pipe quota of its uid it gets only the size that the kernel gives.
            let _ = fcntl_setpipe_size(&ends.1, PIPE);
            pipe = Some(ends);
        }
    }
    rustix::net::shutdown(to, rustix::net::Shutdown::Write)?;
    Ok(())
}
