//! The socket of a server connection: TCP, Unix or TLS over TCP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::unix::UnixSocket;
use super::{Address, garbled, unreachable, write};
use crate::domain::Fault;
use crate::tls::{self, Connector};

/// How long a server connection may be silent before the kernel asks whether its peer lives.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// How long between two such questions, of which the kernel asks nine.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// SSLRequest: a length and a code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A connected socket, registered with the runtime that made or attached it.
#[derive(Debug)]
pub enum ServerSocket {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixSocket),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A socket on its way to another thread's runtime.
#[derive(Debug)]
pub enum Detached {
    /// Plain TCP, registered nowhere.
    Tcp(std::net::TcpStream),
    /// A Unix socket, registered nowhere.
    Unix(std::os::unix::net::UnixStream),
    /// TLS keeps its state, and with it the registration: it works on any thread as long as its first runtime runs.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ServerSocket {
    /// Whether an idle connection has anything to read, an end included, and must be closed. It costs no system call
    /// unless the reactor has reported something. What an idle server says on its own (a restart, a reloaded
    /// configuration) is reason enough for a new connection.
    pub fn poll_stale(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0_u8; 1];
        Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready()
    }

    /// Takes a plain socket off this thread's runtime, to be attached to another's.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(socket) => Detached::Tcp(socket.into_std()?),
            Self::Unix(socket) => Detached::Unix(socket.into_std()),
            Self::Tls(socket) => Detached::Tls(socket),
        })
    }

    /// Registers a detached socket with this thread's runtime.
    pub fn attach(detached: Detached) -> io::Result<Self> {
        Ok(match detached {
            Detached::Tcp(socket) => Self::Tcp(TcpStream::from_std(socket)?),
            Detached::Unix(socket) => Self::Unix(UnixSocket::new(socket)?),
            Detached::Tls(socket) => Self::Tls(socket),
        })
    }

    /// Whether nobody between us and the server can read what is sent.
    pub(super) fn is_private(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()),
            Self::Unix(_) | Self::Tls(_) => true,
        }
    }

    /// The `tls-server-end-point` data of the server's certificate, where there is one that has such data.
    pub(super) fn channel_binding(&self) -> Option<Arc<[u8]>> {
        match self {
            Self::Tls(socket) => tls::connector::channel_binding(socket),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

/// Connects, and encrypts where that is asked for. The caller bounds the time.
pub(super) async fn open(address: &Address, tls: Option<&Connector>) -> Result<ServerSocket, Fault> {
    let failed = |error: io::Error| unreachable(format!("{address}: {error}"));
    match address {
        Address::Unix { directory, port } => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let socket = UnixStream::connect(path).await.and_then(UnixStream::into_std).map_err(failed)?;
            UnixSocket::new(socket).map(ServerSocket::Unix).map_err(failed)
        }
        Address::Tcp { host, port } => {
            let socket = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            socket.set_nodelay(true).map_err(failed)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
            SockRef::from(&socket).set_tcp_keepalive(&keepalive).map_err(failed)?;
            match tls {
                None => Ok(ServerSocket::Tcp(socket)),
                Some(connector) => encrypt(socket, host, connector).await,
            }
        }
    }
}

async fn encrypt(socket: TcpStream, host: &str, connector: &Connector) -> Result<ServerSocket, Fault> {
    let mut plain = ServerSocket::Tcp(socket);
    write(&mut plain, &SSL_REQUEST).await?;
    let mut answer = [0_u8; 2];
    let read = plain.read(&mut answer).await.map_err(|error| unreachable(format!("SSLRequest: {error}")))?;
    match answer.get(..read) {
        Some([b'S', early @ ..]) => tls::refuse_early_bytes(early).map_err(|fault| garbled(fault.message.clone()))?,
        Some(b"N") if connector.may_be_refused() => return Ok(plain),
        Some([b'N', ..]) => return Err(unreachable("the server does not offer TLS, which upstream.tls asks for")),
        Some([]) | None => return Err(unreachable("the server closed the connection at SSLRequest")),
        Some(_) => return Err(garbled("the answer to SSLRequest is neither S nor N")),
    }
    match plain {
        ServerSocket::Tcp(socket) => connector
            .connect(host, socket)
            .await
            .map(|stream| ServerSocket::Tls(Box::new(stream)))
            .map_err(|error| unreachable(format!("TLS handshake with {host}: {error}"))),
        other => Ok(other),
    }
}

macro_rules! each {
    ($self:expr, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            ServerSocket::Tcp($socket) => $call,
            ServerSocket::Unix($socket) => $call,
            ServerSocket::Tls($socket) => $call,
        }
    };
}

impl AsyncRead for ServerSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_read(cx, buffer))
    }
}

impl AsyncWrite for ServerSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Unix(socket) => socket.is_write_vectored(),
            Self::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}
