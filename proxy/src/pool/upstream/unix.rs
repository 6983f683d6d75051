//! A Unix socket that wakes its task for what can be read, and for room to write only while it waits for that.
//!
//! Linux tells whoever is registered for writing each time that the peer has read something (`unix_write_space`; TCP does
//! so only behind a full buffer). Registered for both, as the runtime's own streams are, a proxy is woken once more in each
//! transaction, when Postgres takes the statement.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected Unix socket, registered with the runtime that made it.
#[derive(Debug)]
pub struct UnixSocket {
    socket: AsyncFd<UnixStream>,
    /// The same socket under a second descriptor, registered for writing: from a write that found no room to the next one
    /// that leaves nothing over.
    room: Option<Box<AsyncFd<UnixStream>>>,
}

impl UnixSocket {
    /// Registers a connected socket that doesn't block.
    ///
    /// # Errors
    /// The system doesn't let it be watched.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        Ok(Self { socket: register(socket, Interest::READABLE)?, room: None })
    }

    /// Takes it off the runtime.
    pub(super) fn into_std(self) -> UnixStream {
        self.socket.into_inner()
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let written = match &self.room {
                None => write(self.socket.get_ref()),
                Some(room) => match ready!(room.poll_write_ready(cx))?.try_io(|room| write(room.get_ref())) {
                    Ok(written) => written,
                    Err(_no_room_yet) => continue,
                },
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let second = self.socket.get_ref().try_clone()?;
                    self.room = Some(Box::new(register(second, Interest::WRITABLE)?));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => {
                    if written.as_ref().is_ok_and(|written| *written == length) {
                        self.room = None;
                    }
                    return Poll::Ready(written);
                }
            }
        }
    }
}

#[allow(
    deprecated,
    reason = "its successor is unsafe, for who gives it something whose descriptor changes; a UnixStream owns one"
)]
fn register(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for UnixSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            let most = unfilled.len();
            match guard.try_io(|socket| socket.get_ref().read(unfilled)) {
                Ok(Ok(read)) => {
                    // All that was there was read. What comes now is told anew (epoll(7), edge-triggered), and until then
                    // no call is made in vain.
                    if 0 < read && read < most {
                        guard.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_nothing_there) => {}
            }
        }
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, bytes.len(), |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.poll_write_with(cx, length, |mut socket| socket.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::yield_now;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a socket that doesn't block");
        (ours, theirs)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_peer_that_reads_wakes_nobody() {
        const WRITES: usize = 200;
        let (ours, mut theirs) = pair();
        let (tell, told) = mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut socket = UnixSocket::new(ours).expect("a socket");
                for _ in 0..WRITES {
                    socket.write_all(b"statement").await.expect("room");
                }
                // What is known of the socket from its registration is taken in before the thread sleeps.
                yield_now().await;
                tell.send(std::fs::read_link("/proc/thread-self").expect("this thread")).expect("somebody who asks");
                socket.read_u8().await.expect("an answer")
            })
        });
        let thread = std::path::Path::new("/proc").join(told.recv().expect("a thread"));
        let sleeps = || {
            let status = std::fs::read_to_string(thread.join("status")).expect("a thread's status");
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).expect("a count");
            line.split_whitespace().last().and_then(|count| count.parse::<usize>().ok()).expect("a number")
        };
        let is_asleep = || {
            let stat = std::fs::read_to_string(thread.join("stat")).expect("a thread's state");
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"))
        };
        let settle = || {
            while !is_asleep() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        settle();
        let before = sleeps();
        for _ in 0..WRITES {
            // Each takes one write out of the queue, and makes room.
            theirs.read_exact(&mut [0; b"statement".len()]).expect("a statement");
            std::thread::yield_now();
            settle();
        }
        let woken = sleeps() - before;
        theirs.write_all(b"!").expect("an answer");
        assert_eq!(sleeper.join().expect("a sleeper"), b'!');
        assert!(woken < WRITES / 10, "woken {woken} times for {WRITES} statements that were read");
    }

    #[test]
    fn what_doesnt_fit_waits_for_room_and_nothing_else_waits_for_it() {
        const BYTES: usize = 3_000_000;
        let (ours, mut theirs) = pair();
        let (begin, begun) = mpsc::channel();
        let peer = std::thread::spawn(move || {
            // What it says is heard by a socket that is waiting for room.
            begun.recv().expect("a beginning");
            theirs.write_all(b"first").expect("a reader");
            let mut heard = vec![0; BYTES];
            theirs.read_exact(&mut heard).expect("all of it");
            theirs.write_all(b"then").expect("a reader");
            heard
        });
        let sent: Vec<u8> = (0..BYTES).map(|number| u8::try_from(number % 251).unwrap_or(0)).collect();
        runtime().block_on(async {
            let mut socket = UnixSocket::new(ours).expect("a socket");
            let mut left = sent.as_slice();
            // Until there is no room.
            while let Some(written) = poll_once(&mut socket, left).await {
                left = &left[written..];
            }
            assert!(socket.room.is_some());
            begin.send(()).expect("a peer");
            let (mut reader, mut writer) = tokio::io::split(socket);
            let mut first = [0; 5];
            let (read, written) = tokio::join!(reader.read_exact(&mut first), writer.write_all(left));
            assert_eq!((read.expect("an answer"), written.expect("room"), &first), (5, (), b"first"));
            let mut socket = reader.unsplit(writer);
            assert!(socket.room.is_none(), "it still waits for room when all is written");
            let mut then = [0; 4];
            socket.read_exact(&mut then).await.expect("an answer");
            assert_eq!(&then, b"then");
        });
        assert_eq!(peer.join().expect("a peer"), sent);
    }

    /// What a write takes at once.
    async fn poll_once(socket: &mut UnixSocket, bytes: &[u8]) -> Option<usize> {
        std::future::poll_fn(|cx| match Pin::new(&mut *socket).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(Some(written.expect("a peer"))),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn an_end_is_an_end() {
        let (ours, theirs) = pair();
        let mut socket = UnixSocket::new(ours).expect("a socket");
        drop(theirs);
        assert_eq!(socket.read(&mut [0; 8]).await.expect("an end"), 0);
        assert_eq!(socket.write(b"x").await.expect_err("nobody is there").kind(), io::ErrorKind::BrokenPipe);
    }
}
