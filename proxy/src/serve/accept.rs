//! The door: one listener, whose connections are dealt out to the core with the fewest.
//!
//! Each core is a thread with a runtime of its own. One acceptor instead of SO_REUSEPORT, because the kernel deals by a
//! hash of the addresses: with few clients that leaves cores idle.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::metrics::DoorCounters;

use super::client;
use super::core::CoreContext;
use super::lobby::{Guest, Lobby};
use super::turn_away::TurnAway;

/// How many accepted connections a core may have waiting.
const DOOR_QUEUE: usize = 1024;
/// How long the door stays shut when the process has no file descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// The door's end of one core.
pub struct CoreDoor {
    sender: mpsc::Sender<Arrived>,
    connections: Arc<AtomicUsize>,
}

/// One connection on its way to a core.
struct Arrived {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    guest: Arc<Guest>,
}

/// The core's end.
pub struct CoreQueue {
    receiver: mpsc::Receiver<Arrived>,
    connections: Arc<AtomicUsize>,
}

/// Both ends for one core.
pub fn core_door() -> (CoreDoor, CoreQueue) {
    let (sender, receiver) = mpsc::channel(DOOR_QUEUE);
    let connections = Arc::new(AtomicUsize::new(0));
    (CoreDoor { sender, connections: connections.clone() }, CoreQueue { receiver, connections })
}

/// Accepts until the task is dropped. At most `connections_max` at a time, whether authenticated or not; but who isn't yet makes
/// room for who comes.
pub async fn accept(listener: TcpListener, doors: Vec<CoreDoor>, connections_max: usize, counters: Arc<DoorCounters>) {
    let mut turn_away = TurnAway::new(counters, connections_max);
    let lobby = Lobby::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => deal(stream, peer, (&doors, &lobby), connections_max, &mut turn_away),
            Err(error) if is_of_one_peer(&error) => {}
            Err(error) => {
                tracing::error!(%error, "accepting connections failed; trying again");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn deal(
    stream: TcpStream,
    peer: SocketAddr,
    (doors, lobby): (&[CoreDoor], &Lobby),
    connections_max: usize,
    turn_away: &mut TurnAway,
) {
    let open: usize = doors.iter().map(|door| door.connections.load(Ordering::Relaxed)).sum();
    let Some(door) = doors.iter().min_by_key(|door| door.connections.load(Ordering::Relaxed)) else { return };
    // Those who were let in keep their places.
    if open >= connections_max && !lobby.show_out() {
        turn_away.send(stream, peer);
        return;
    }
    let _ = stream.set_nodelay(true);
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let Ok(stream) = stream.into_std() else { return };
    door.connections.fetch_add(1, Ordering::Relaxed);
    let guest = lobby.enter();
    if door.sender.try_send(Arrived { stream, peer, guest: guest.clone() }).is_err() {
        guest.settle();
        door.connections.fetch_sub(1, Ordering::Relaxed);
        turn_away.counted(peer);
    }
}

/// Errors of accept(2) that are about the connection that was to be accepted.
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Serves what the door deals to this core, until the door is gone. Runs inside the core's local runtime.
pub async fn serve(core: Rc<CoreContext>, mut queue: CoreQueue) {
    while let Some(Arrived { stream, peer, guest }) = queue.receiver.recv().await {
        let counted = Counted(queue.connections.clone());
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        tokio::task::spawn_local(client::serve(core.clone(), stream, peer, (guest, counted)));
    }
}

/// A connection is counted as one of its core's until this is dropped.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
