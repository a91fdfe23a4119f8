//! Reads of more than one TLS record at a time, while bulk comes.
//!
//! A read of a TLS stream gives one record at most. What is written on for each would be one record, one system call and one
//! packet; of two it is half of each.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// From a read that gave so much on, more is likely to be there.
const MUCH: usize = 4 * 1024;

/// What one stream remembers between two reads.
#[derive(Default, Debug)]
pub struct Bulk {
    /// The buffer was full: the rest of a record waits, however little that is.
    was_full: bool,
    /// What ended a read after it had given something.
    failed: Option<io::Error>,
}

impl Bulk {
    /// Reads from `stream` until `buf` is full or nothing more is there. A read of little is the only one.
    ///
    /// # Errors
    /// Those of the stream, after everything that came before them.
    pub fn read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
        let mut given = buf.filled().len() - before;
        while buf.remaining() > 0 && (given >= MUCH || (self.was_full && given > 0)) {
            self.was_full = false;
            let before = buf.filled().len();
            match Pin::new(&mut *stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => given = buf.filled().len() - before,
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        self.was_full = buf.remaining() == 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Gives one of these at each read, as far as there is room: the number of bytes, or an error.
    struct Records(VecDeque<io::Result<usize>>);

    impl AsyncRead for Records {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                None => Poll::Pending,
                Some(Err(error)) => Poll::Ready(Err(error)),
                Some(Ok(bytes)) => {
                    let given = bytes.min(buf.remaining());
                    buf.put_slice(&vec![7; given]);
                    if given < bytes {
                        self.0.push_front(Ok(bytes - given));
                    }
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    #[test]
    fn bulk_is_gathered_and_little_is_not_waited_with() {
        const RECORD: usize = 16 * 1024;
        let broken = || Err(io::ErrorKind::ConnectionReset.into());
        /// What comes, the room of each read, and what each gives; `None`: it is pending, or failed.
        type Row = (Vec<io::Result<usize>>, usize, &'static [Option<usize>]);
        let rows: [Row; 6] = [
            (vec![Ok(100), Ok(RECORD)], 32_768, &[Some(100), Some(RECORD), None]),
            (vec![Ok(RECORD), Ok(RECORD), Ok(5)], 32_768, &[Some(32_768), Some(5), None]),
            (
                vec![Ok(RECORD), Ok(RECORD), Ok(RECORD), Ok(RECORD)],
                32_767,
                &[Some(32_767), Some(32_767), Some(2), None],
            ),
            (vec![Ok(RECORD), Ok(100), Ok(100)], 32_768, &[Some(RECORD + 100), Some(100), None]),
            (vec![Ok(RECORD), broken(), Ok(100)], 32_768, &[Some(RECORD), None, Some(100)]),
            (vec![Ok(RECORD), Ok(0)], 32_768, &[Some(RECORD), None]),
        ];
        for (coming, room, given) in rows {
            let shown = format!("{coming:?}");
            let (mut stream, mut bulk) = (Records(coming.into()), Bulk::default());
            for want in given {
                let mut bytes = vec![0; room];
                let mut buf = ReadBuf::new(&mut bytes);
                let read = bulk.read(&mut stream, &mut Context::from_waker(Waker::noop()), &mut buf);
                let got = matches!(read, Poll::Ready(Ok(()))).then(|| buf.filled().len());
                assert_eq!(got, *want, "{shown}");
            }
        }
    }
}
