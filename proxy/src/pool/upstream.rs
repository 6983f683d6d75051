//! The upstream server: how a server connection is made and proven fit to serve tenants, and how a cancel request
//! reaches it. It knows no pool and no tenant. What the server sends is input like any other: every length is checked.

mod frames;
mod inspect;
mod login;
mod repair;
pub mod socket;
mod startup;
pub mod target;
mod unix;

pub use socket::{Detached, ServerSocket};
pub use target::{Address, Approved, Passwords, Protocol, StartupSettings, Target};

use std::fmt;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::domain::limits::{CANCEL_TIMEOUT, CANCELS_MAX};
use crate::domain::{Fault, Origin, SqlState, clock};
use crate::tenant::BindBy;

/// A server connection, idle: its ReadyForQuery has been seen, nothing is in flight and no tenant has used it.
pub struct ServerConnection {
    /// The socket; nothing is buffered outside it.
    pub socket: ServerSocket,
    /// The backend's process id (BackendKeyData).
    pub pid: i32,
    /// The secret of a cancel request (BackendKeyData): four bytes in protocol 3.0, up to 256 from 3.2 on.
    pub secret: Vec<u8>,
    /// ParameterStatus, in the order in which the server reported them.
    pub parameters: Vec<(String, String)>,
    /// The database's clock minus ours, in seconds.
    pub clock_offset: i64,
    /// How the database is bound.
    pub bind_by: BindBy,
}

impl fmt::Debug for ServerConnection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ServerConnection").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// The upstream server. One for all cores.
#[derive(Debug)]
pub struct Upstream {
    target: Target,
    /// Cancel requests need no permission of Postgres': their number is bounded here.
    cancels: Semaphore,
}

/// Why a cancel request may not have run its course.
#[derive(Debug)]
pub enum CancelFailure {
    /// Nothing was sent, so nothing can arrive late.
    Unsent(Fault),
    /// It was sent, and what became of it isn't known.
    Unknown(Fault),
}

impl CancelFailure {
    /// What went wrong.
    pub const fn fault(&self) -> &Fault {
        match self {
            Self::Unsent(fault) | Self::Unknown(fault) => fault,
        }
    }
}

impl Upstream {
    /// An upstream server; nothing is connected yet.
    pub const fn new(target: Target) -> Self {
        Self { target, cancels: Semaphore::const_new(CANCELS_MAX) }
    }

    /// What it was made from.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Makes a server connection for `role` in `database` within the connect timeout, on the runtime of the caller. A
    /// connection whose role was given settings that nobody approved is closed, with a critical log entry.
    pub async fn connect(&self, database: &str, role: &str) -> Result<ServerConnection, Fault> {
        match timeout(self.target.connect_timeout, self.connect_repairing(database, role)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable(format!(
                "{} did not answer within {} ms",
                self.target.address,
                self.target.connect_timeout.as_millis()
            ))),
        }
    }

    /// Settings that a role gave itself are taken back when they are found, and the next connection starts without them;
    /// so nobody is refused for what one tenant did, unless it does it again and again.
    async fn connect_repairing(&self, database: &str, role: &str) -> Result<ServerConnection, Fault> {
        let first = self.connect_in_time(database, role).await;
        match &first {
            Err(fault) if self.target.repair_role_settings && inspect::is_unfit(fault) => {
                self.connect_in_time(database, role).await
            }
            _ => first,
        }
    }

    async fn connect_in_time(&self, database: &str, role: &str) -> Result<ServerConnection, Fault> {
        let mut socket = self.open().await?;
        let packet = startup::packet(database, role, self.target.protocol, &self.target.startup);
        write(&mut socket, &packet).await?;
        let mut frames = frames::Frames::new(&mut socket);
        let mut session = login::log_in(&mut frames, &self.target, role).await?;
        let inspected = inspect::inspect(&mut frames, &self.target, &mut session.parameters, database, role).await?;
        frames.finish()?;
        let login::Session { pid, secret, parameters } = session;
        let inspect::Inspected { clock_offset, bind_by } = inspected;
        Ok(ServerConnection { socket, pid, secret, parameters, clock_offset, bind_by })
    }

    async fn open(&self) -> Result<ServerSocket, Fault> {
        socket::open(&self.target.address, self.target.tls.as_ref()).await
    }

    /// Cancels what the backend with this pid is doing, and returns when the server has closed the cancel request's own
    /// connection: from then on it can't hit a later statement.
    ///
    /// # Errors
    /// The server can't be reached, or isn't done in time.
    pub async fn cancel(&self, pid: i32, secret: &[u8]) -> Result<(), CancelFailure> {
        let late = || unreachable(format!("{}: cancel request timed out", self.target.address));
        let deadline = Instant::from_std(clock::now() + CANCEL_TIMEOUT);
        let connecting = async {
            let turn = self.cancels.acquire().await;
            self.open().await.map(|socket| (socket, turn))
        };
        let (mut socket, _turn) = timeout_at(deadline, connecting)
            .await
            .map_err(|_| CancelFailure::Unsent(late()))?
            .map_err(CancelFailure::Unsent)?;
        match timeout_at(deadline, follow_cancel(&mut socket, pid, secret)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(CancelFailure::Unknown(fault)),
            Err(_) => Err(CancelFailure::Unknown(late())),
        }
    }
}

async fn follow_cancel(socket: &mut ServerSocket, pid: i32, secret: &[u8]) -> Result<(), Fault> {
    const CANCEL_REQUEST: u32 = 80_877_102;
    let mut packet = BytesMut::with_capacity(12 + secret.len());
    packet.put_u32(u32::try_from(12 + secret.len()).unwrap_or(u32::MAX));
    packet.put_u32(CANCEL_REQUEST);
    packet.put_i32(pid);
    packet.put_slice(secret);
    write(socket, &packet).await?;
    let mut sink = [0_u8; 64];
    loop {
        match socket.read(&mut sink).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // The server closes without a TLS close_notify, and may reset what it hasn't read.
            Err(error) if ended(&error) => return Ok(()),
            Err(error) => return Err(unreachable(format!("cancel request: {error}"))),
        }
    }
}

fn ended(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset)
}

async fn write(socket: &mut ServerSocket, bytes: &[u8]) -> Result<(), Fault> {
    let written = async {
        socket.write_all(bytes).await?;
        socket.flush().await
    };
    written.await.map_err(|error| unreachable(format!("the server broke off: {error}")))
}

/// The server can't be reached, or not as it should be: the client learns that, the log learns why.
fn unreachable(cause: impl Into<String>) -> Fault {
    Fault::new(Origin::Upstream, SqlState::CANNOT_CONNECT_NOW, "the database server cannot be reached")
        .hint("Try again in a moment.")
        .log(cause)
}

/// The server is there, and doesn't let the role of a key in: waiting won't help.
fn not_let_in(cause: impl Into<String>) -> Fault {
    let message = "the database server does not let this key's role log in";
    Fault::new(Origin::Upstream, SqlState::CANNOT_CONNECT_NOW, message).hint("The proxy's log says why.").log(cause)
}

/// The server doesn't speak the protocol.
fn garbled(cause: impl Into<String>) -> Fault {
    unreachable(format!("the server broke the protocol: {}", cause.into()))
}
