//! Those for whom there is no room. They are told why in a form that drivers understand: one that asks for encryption first
//! hears `N`, and reads errors only after its startup packet. Time, memory and number of those who are talked to are bounded, and
//! the door never waits for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::domain::clock::{self, Instant};
use crate::domain::{Fault, Origin, SqlState};
use crate::metrics::DoorCounters;
use crate::wire::author;
use crate::wire::startup::FirstPacket;

use super::farewell;
use super::login::{begins_with_tls, first_packet};
use super::outlet::Outlet;
use super::socket::ClientSocket;

/// How many are talked to at once. One more gets its error without being listened to.
const AT_ONCE: usize = 256;
/// How long one may take to ask.
const PATIENCE: Duration = Duration::from_secs(2);
/// Packets of one, at most: both kinds of encryption, and the startup.
const PACKETS_MAX: usize = 3;
/// How often the log says that there is no room.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Sends connections away.
pub(super) struct TurnAway {
    counters: Arc<DoorCounters>,
    connections_max: usize,
    /// They end with the door.
    talks: JoinSet<()>,
    said: Said,
}

impl TurnAway {
    pub(super) fn new(counters: Arc<DoorCounters>, connections_max: usize) -> Self {
        Self { counters, connections_max, talks: JoinSet::new(), said: Said::default() }
    }

    /// Sends one away. It returns at once.
    pub(super) fn send(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.counted(peer);
        while self.talks.try_join_next().is_some() {}
        if self.talks.len() < AT_ONCE {
            self.talks.spawn(talk(stream));
            return;
        }
        let mut message = BytesMut::new();
        author::error(&mut message, author::Severity::Fatal, &no_room());
        // A new socket has room for it.
        let _ = stream.try_write(&message);
    }

    /// Counts one that nothing can be said to.
    pub(super) fn counted(&mut self, peer: SocketAddr) {
        self.counters.refused();
        if let Some(refused) = self.said.one_more(clock::now()) {
            tracing::warn!(%peer, refused, "server.connections_max ({}) is reached: connections are refused", self.connections_max);
        }
    }
}

fn no_room() -> Fault {
    Fault::new(Origin::Proxy, SqlState::TOO_MANY_CONNECTIONS, "too many client connections")
}

async fn talk(stream: TcpStream) {
    let mut socket = ClientSocket::Plain(stream);
    // Who asked for nothing in time is told unasked.
    if timeout(PATIENCE, wants_a_session(&mut socket)).await.unwrap_or(true) {
        farewell::send(&mut socket, &mut Outlet::default(), &no_room()).await;
    }
}

/// Whether the peer has come so far that it reads an error. Who asks to cancel something reads nothing.
async fn wants_a_session(socket: &mut ClientSocket) -> bool {
    // Nor does who begins with a handshake, for which there is no time here.
    if matches!(socket, ClientSocket::Plain(stream) if begins_with_tls(stream).await) {
        return false;
    }
    for _ in 0..PACKETS_MAX {
        match first_packet(socket).await {
            Ok(FirstPacket::Ssl | FirstPacket::GssEncryption) => {
                if socket.write_all(b"N").await.is_err() {
                    return false;
                }
            }
            Ok(FirstPacket::Startup(_)) | Err(Some(_)) => return true,
            Ok(FirstPacket::Cancel { .. } | FirstPacket::Ancient(_)) | Err(None) => return false,
        }
    }
    false
}

/// When the log was told last, and how many there were since.
#[derive(Default)]
struct Said {
    last: Option<Instant>,
    refused: u64,
}

impl Said {
    /// How many are to be told of now, if it is time.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.refused += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < SAID_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_at_once_and_then_with_a_number_every_while() {
        let (mut said, begin) = (Said::default(), clock::now());
        assert_eq!(said.one_more(begin), Some(1));
        for second in 1..10 {
            assert_eq!(said.one_more(begin + Duration::from_secs(second)), None);
        }
        assert_eq!(said.one_more(begin + SAID_EVERY), Some(10));
    }
}
