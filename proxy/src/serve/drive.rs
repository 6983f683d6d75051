//! One authenticated client: its session between its socket and a server connection. This file waits and the session
//! decides; there is one place where a task waits for everything at once.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::audit::Client;
use crate::domain::{Fault, Origin, SqlState};
use crate::limits::{Entered, Phase};
use crate::metrics::{OpenClient, PinnedClient};
use crate::pool::{Home, Lease, Outcome, Pool};
use crate::session::{Idle, Lanes, Progress, Request, Session, Taken};
use crate::sql::PinReason;
use crate::tenant::Binding;

use super::accept::Counted;
use super::core::CoreContext;
use super::homing::Homing;
use super::inlet::Inlet;
use super::outlet::Outlet;
use super::registry::{CancelTarget, Order, Registered};
use super::socket::ClientSocket;

mod asking;
mod leasing;
mod see_out;
mod stint;
#[cfg(test)]
mod tests;

use stint::Stint;

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client said goodbye or is gone.
    ClientGone,
    /// The client must be told why, if Postgres hasn't done it.
    Fault(Fault),
}

/// What a task was woken for.
enum Event {
    Client(usize),
    Server(usize),
    ClientGone,
    ServerGone,
    Ordered(Order),
    /// Others wait for a server connection, and the client keeps one without need.
    MakesWay,
}

/// A client that has been let in.
pub(super) struct Driver {
    core: Rc<CoreContext>,
    socket: ClientSocket,
    session: Session,
    registered: Registered,
    binding: Binding,
    client: Arc<Client>,
    database: Rc<str>,
    pool: Rc<Pool>,
    lease: Option<Lease>,
    /// The lease is new: the session hasn't taken it into use.
    unopened: bool,
    from_client: Inlet,
    from_server: Inlet,
    to_client: Outlet,
    to_server: Outlet,
    /// The client's next message waits for the server's answer.
    held: bool,
    /// The client is counted as one that keeps its server connection.
    pinned: Option<PinnedClient>,
    homing: Homing,
    stint: Stint,
    _places: Places,
}

/// The places that a client takes as long as it is there.
pub(super) struct Places {
    pub(super) _core: Counted,
    pub(super) _workspace: Option<Entered>,
    pub(super) _counters: OpenClient,
}

impl Driver {
    pub(super) fn new(
        core: Rc<CoreContext>,
        socket: ClientSocket,
        session: Session,
        registered: Registered,
        binding: Binding,
        client: Arc<Client>,
        (database, pool, home, places): (Rc<str>, Rc<Pool>, Option<Home>, Places),
    ) -> Self {
        Self {
            core,
            socket,
            session,
            registered,
            binding,
            client,
            database,
            pool,
            lease: None,
            unopened: false,
            from_client: Inlet::default(),
            from_server: Inlet::default(),
            to_client: Outlet::default(),
            to_server: Outlet::default(),
            held: false,
            pinned: None,
            homing: Homing::new(home),
            stint: Stint::default(),
            _places: places,
        }
    }

    /// Serves the client to its end. Runs as a task of its own, which has the driver: were it handed in by value, the future
    /// would have room for it once more for each call that takes it.
    pub(super) async fn run(&mut self) {
        poll_fn(|context| {
            self.registered.slot().watch(context.waker());
            Poll::Ready(())
        })
        .await;
        let end = loop {
            let step = match self.next().await {
                Event::Client(read) => self.on_client(read).await,
                Event::Server(read) => match self.on_server(read).await {
                    Ok(Heard::Again) => self.on_client(0).await,
                    Ok(Heard::Later) => Ok(()),
                    Err(end) => Err(end),
                },
                Event::ClientGone => Err(End::ClientGone),
                Event::ServerGone => Err(self.server_lost()),
                Event::Ordered(order) => Err(End::Fault(self.told_to_end(order))),
                Event::MakesWay => {
                    self.make_way().await;
                    Ok(())
                }
            };
            if let Err(end) = step {
                break end;
            }
        };
        // What happens once is on the heap for that time, and no part of what an idle client takes.
        Box::pin(self.finish(end)).await;
    }

    /// The one place where a client's task waits for everything at once.
    async fn next(&mut self) -> Event {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let slot = self.registered.slot();
        match slot.ordered() {
            Some(Order::Drain) if self.session.in_transaction() || self.session.is_waiting() => {}
            Some(order) => return Poll::Ready(Event::Ordered(order)),
            None => {}
        }
        let mut scratch = self.core.scratch.borrow_mut();
        if !self.to_client.is_clear()
            && let Poll::Ready(Err(_)) = self.to_client.poll_clear(&mut self.socket, context)
        {
            return Poll::Ready(Event::ClientGone);
        }
        if let Some(lease) = &mut self.lease {
            let server = &mut lease.connection.socket;
            if !self.to_server.is_clear()
                && let Poll::Ready(Err(_)) = self.to_server.poll_clear(server, context)
            {
                return Poll::Ready(Event::ServerGone);
            }
            if self.to_client.is_clear()
                && let Poll::Ready(read) = scratch.poll_read(server, context)
            {
                return Poll::Ready(match read {
                    Ok(0) | Err(_) => Event::ServerGone,
                    Ok(read) => Event::Server(read),
                });
            }
        }
        if self.homing.is_turn_over(&self.session, &self.pool) {
            return Poll::Ready(Event::MakesWay);
        }
        // A client that doesn't read isn't read: what is answered here would pile up.
        if self.to_server.is_clear()
            && self.to_client.is_clear()
            && !self.held
            && let Poll::Ready(read) = scratch.poll_read(&mut self.socket, context)
        {
            return Poll::Ready(match read {
                Ok(0) | Err(_) => Event::ClientGone,
                Ok(read) => Event::Client(read),
            });
        }
        self.homing.poll_way(&self.session, &self.pool, self.lease.as_ref(), context).map(|()| Event::MakesWay)
    }

    /// The client sent something, of which the last `fresh` bytes are still in the core's buffer.
    async fn on_client(&mut self, mut fresh: usize) -> Result<(), End> {
        self.homing.heard();
        loop {
            if self.lease.is_some() && self.session.is_at_boundary() && self.registered.slot().is_cancelling() {
                self.keep(fresh);
                fresh = 0;
                self.quiet().await;
            }
            let passed = self.pass_on(fresh);
            self.note_stint();
            self.record();
            for database in self.session.take_emptied() {
                self.core.pools.vacate(&database);
            }
            // A name of its own: a temporary would be kept by the future while it waits.
            let passed = passed?;
            match passed {
                Passed::All => return Ok(()),
                Passed::NeedsServer => self.wait_for_lease().await?,
                Passed::Asks(request) => self.ask(request).await?,
                Passed::Moves if self.session.may_leave() => self.leave().await,
                // What was sent for its settings is answered first.
                Passed::Moves => return Ok(()),
            }
            fresh = 0;
        }
    }

    /// Hands the client's bytes to the session, with a server connection if it has one, needs none, or gets one at once.
    fn pass_on(&mut self, fresh: usize) -> Result<Passed, End> {
        let (scratch, mut lanes) = (self.core.scratch.borrow(), self.core.lanes());
        let lanes = &mut *lanes;
        let fresh = &scratch[..fresh];
        let input = self.from_client.input(fresh);
        let mut at = 0;
        if self.lease.is_none() {
            let (taken, idle) = self.session.on_idle_client(input, lanes).map_err(End::Fault)?;
            at = taken;
            flush_client(&mut self.to_client, &mut self.socket, lanes, input)?;
            match idle {
                Idle::Ended => return Err(End::ClientGone),
                Idle::More => {
                    self.from_client.taken(at, fresh);
                    return Ok(Passed::All);
                }
                Idle::NeedsServer if self.homing.wish.is_some() => {}
                Idle::NeedsServer => {
                    self.lease = self.pool.try_lease(&self.binding, self.homing.home.as_ref());
                    self.unopened = true;
                }
            }
        }
        let Some(lease) = &mut self.lease else {
            self.from_client.taken(at, fresh);
            return Ok(Passed::NeedsServer);
        };
        if std::mem::take(&mut self.unopened) {
            attach(lease, &mut self.session, &self.registered, (&self.core, &self.database), lanes);
        }
        let rest = &input[at..];
        let (taken, state) = self
            .core
            .with(&self.database, |core| self.session.on_client(rest, &mut lease.state, core, lanes))
            .map_err(End::Fault)?;
        let sent = self.to_server.send(&mut lease.connection.socket, lanes.server.bytes(rest), &mut idle_context());
        lanes.server.clear();
        flush_client(&mut self.to_client, &mut self.socket, lanes, rest)?;
        self.from_client.taken(at + taken, fresh);
        self.held = matches!(state, Taken::Held | Taken::Move(_));
        match (state, sent) {
            (_, Err(_)) => Err(self.server_lost()),
            (Taken::Ended, Ok(())) => Err(End::ClientGone),
            (Taken::Ask(request), Ok(())) => Ok(Passed::Asks(request)),
            (Taken::Move(wish), Ok(())) => {
                self.homing.wish = Some(wish);
                Ok(Passed::Moves)
            }
            (Taken::All | Taken::Held, Ok(())) => Ok(Passed::All),
        }
    }

    /// The server connection sent something, all of it in the core's buffer.
    async fn on_server(&mut self, mut fresh: usize) -> Result<Heard, End> {
        loop {
            let progress = self.relay(std::mem::take(&mut fresh))?;
            if progress != Progress::Withheld {
                self.record();
            }
            match progress {
                Progress::Going => break,
                Progress::Unbound(fault) => {
                    self.unbound(&fault).await?;
                    break;
                }
                Progress::Ask(request) => self.reserve(request).await?,
                Progress::Withheld => self.record_and_tell().await?,
            }
        }
        if self.lease.is_some() && self.session.may_leave() {
            self.core.counters.transaction();
            self.leave().await;
        }
        if self.session.is_waiting() && !(self.held && self.session.may_be_heard()) {
            return Ok(Heard::Later);
        }
        // A client that keeps its server connection must be heard again, though it has sent nothing more so far.
        self.held = false;
        Ok(if self.from_client.is_empty() { Heard::Later } else { Heard::Again })
    }

    /// The context couldn't be established: the client's cycles are answered with the fault, and the connection is closed.
    async fn unbound(&mut self, fault: &Fault) -> Result<(), End> {
        if fault.sqlstate != SqlState::QUERY_CANCELED {
            tracing::warn!(session = self.registered.slot().id, %fault, "a bind failed; its server connection is closed");
        }
        super::audit::bind_failed(&self.core, &self.client, &self.binding, fault);
        self.core.with(&self.database, |core| self.session.annul(core));
        self.release(Outcome::Broken).await;
        let core = self.core.clone();
        let lanes = &mut *core.lanes();
        self.session.detach_failed(fault, lanes);
        flush_client(&mut self.to_client, &mut self.socket, lanes, &[])
    }

    /// Tells operators which clients keep their server connections, and why.
    fn note_pin(&mut self) {
        self.homing.follow(&self.session, &self.pool, self.lease.as_ref());
        let reason = self.session.pinned();
        if self.pinned.as_ref().map(|pinned| pinned.reason) == reason {
            return;
        }
        let (session, why) = (self.registered.slot().id, reason.map_or("none", PinReason::as_str));
        tracing::debug!(session, reason = why, "a client keeps its server connection, or no longer does");
        self.pinned = reason.map(|reason| self.core.counters.pinned(reason));
    }

    /// Hands what happened to the audit trail.
    fn record(&mut self) {
        self.note_pin();
        if self.session.has_happened() {
            super::audit::happened(&self.core, &self.client, &self.binding, self.session.take_happened());
        }
    }

    fn relay(&mut self, fresh: usize) -> Result<Progress, End> {
        let Some(TakenIn { progress, told, sent }) = self.take_in(fresh, true) else { return Ok(Progress::Going) };
        self.note_stint();
        let progress = progress.map_err(End::Fault)?;
        told?;
        match sent {
            Ok(()) => Ok(progress),
            Err(_) => Err(self.server_lost()),
        }
    }

    /// Hands to the session what the server sent, and what that brings to the server, and to the client if it listens.
    fn take_in(&mut self, fresh: usize, listens: bool) -> Option<TakenIn> {
        self.heed_stop();
        let (scratch, mut lanes) = (self.core.scratch.borrow(), self.core.lanes());
        let lanes = &mut *lanes;
        let lease = self.lease.as_mut()?;
        let fresh = &scratch[..fresh];
        let input = self.from_server.input(fresh);
        let handled =
            self.core.with(&self.database, |core| self.session.on_server(input, &mut lease.state, core, lanes));
        let sent = self.to_server.send(&mut lease.connection.socket, lanes.server.bytes(&[]), &mut idle_context());
        lanes.server.clear();
        let is_withheld = matches!(handled, Ok((_, Progress::Withheld)));
        let told = match listens {
            // It goes out with what is withheld, in one send, and says nothing of the end before that is on disk.
            true if is_withheld => {
                self.to_client.keep(lanes.client.bytes(input));
                Ok(())
            }
            true => flush_client(&mut self.to_client, &mut self.socket, lanes, input),
            false => Ok(()),
        };
        lanes.client.clear();
        // Also when the client is gone: what else the server says may still be read.
        let progress = handled.map(|(taken, progress)| {
            self.from_server.taken(taken, fresh);
            progress
        });
        Some(TakenIn { progress, told, sent })
    }

    /// Keeps what is in the core's buffer: the task is about to wait, and others will read.
    fn keep(&mut self, fresh: usize) {
        let scratch = self.core.scratch.borrow();
        self.from_client.input(&scratch[..fresh]);
        self.from_client.taken(0, &scratch[..fresh]);
    }

    /// Waits until no cancel is on its way to the server connection.
    async fn quiet(&self) {
        poll_fn(|_| self.registered.slot().poll_quiet()).await;
    }

    fn server_lost(&self) -> End {
        if self.session.was_told_the_end() {
            return End::ClientGone;
        }
        let text = if self.session.in_transaction() || self.session.is_waiting() {
            "the server connection was lost; whether the running statement or transaction took effect is unknown"
        } else {
            "the server connection was lost, and with it the state that the session kept on it"
        };
        End::Fault(Fault::new(Origin::Upstream, SqlState::CONNECTION_FAILURE, text))
    }
}

/// What became of the server's bytes: what the session makes of them, and whether each side took what was written for it.
struct TakenIn {
    progress: Result<Progress, Fault>,
    told: Result<(), End>,
    sent: std::io::Result<()>,
}

/// When the client is heard, whose server connection has said something.
enum Heard {
    /// Now: what it sent before and couldn't be dealt with then may be dealt with.
    Again,
    /// When it sends something, or the server does.
    Later,
}

/// What became of the client's bytes.
enum Passed {
    All,
    NeedsServer,
    /// Rows must be reserved first.
    Asks(Request),
    /// The client is brought home first.
    Moves,
}

/// The session takes a server connection into use. What that writes goes out with the client's first message.
fn attach(
    lease: &mut Lease,
    session: &mut Session,
    registered: &Registered,
    (core, database): (&CoreContext, &str),
    lanes: &mut Lanes,
) {
    let target = CancelTarget { pid: lease.connection.pid, secret: lease.connection.secret.as_slice().into() };
    registered.slot().hold(target);
    let must_bind = lease.needs_bind();
    core.with(database, |core| session.attach(&mut lease.state, must_bind, core, lanes));
}

fn flush_client(outlet: &mut Outlet, socket: &mut ClientSocket, lanes: &mut Lanes, input: &[u8]) -> Result<(), End> {
    if lanes.client.is_empty() && outlet.is_clear() {
        return Ok(());
    }
    let sent = outlet.send(socket, lanes.client.bytes(input), &mut idle_context());
    lanes.client.clear();
    sent.map_err(|_| End::ClientGone)
}

/// For a write that isn't waited for: what the socket doesn't take is sent by `poll_next`, which waits.
fn idle_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn farewell(order: Order) -> Fault {
    match order {
        Order::Drain | Order::Stop => Fault::new(Origin::Proxy, SqlState::ADMIN_SHUTDOWN, "the proxy is shutting down"),
        Order::Overstayed(overstay) => overstay.fault(Phase::InTransaction),
        Order::Revoked => Fault::new(
            Origin::Proxy,
            SqlState::ADMIN_SHUTDOWN,
            "the API key was revoked or has expired, or its workspace is suspended",
        ),
    }
}
