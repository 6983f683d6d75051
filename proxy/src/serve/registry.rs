//! Who is connected: how a cancel request finds its session, and how a session is told from outside that it must end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use dashmap::DashMap;
use parking_lot::Mutex;
use rand::{Rng, RngCore};
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use crate::backend::SessionId;
use crate::domain::limits::{SESSION_CANCELS_MAX, WRONG_CANCELS_MAX};
use crate::domain::{KeyId, WorkspaceId};
use crate::limits::{Overstay, Tenure};

/// Why a session is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The proxy is shutting down: the session ends when no transaction is open.
    Drain,
    /// The session has passed a bound of time.
    Overstayed(Overstay),
    /// The proxy is shutting down, and the time for it is over.
    Stop,
    /// The session's key was revoked or has expired, or its workspace is suspended.
    Revoked,
}

impl Order {
    /// Its number; a stricter one has a greater one.
    const fn code(self) -> u8 {
        match self {
            Self::Drain => 1,
            Self::Overstayed(overstay) => 2 + overstay as u8,
            Self::Stop => 254,
            Self::Revoked => 255,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Drain),
            254 => Some(Self::Stop),
            255 => Some(Self::Revoked),
            code => overstay(code - 1).map(Self::Overstayed),
        }
    }
}

/// The bound with this number, counted from 1.
fn overstay(code: u8) -> Option<Overstay> {
    Overstay::ALL.get(usize::from(code.checked_sub(1)?)).copied()
}

/// The server process a cancel is for, with the secret Postgres gave for it.
#[derive(Clone)]
pub struct CancelTarget {
    /// The server process.
    pub pid: i32,
    /// Postgres' secret: 4 bytes, or 32 from protocol 3.2 on. It never leaves this process but for a CancelRequest.
    pub secret: SmallVec<[u8; 32]>,
}

/// What a cancel request for a session must know. Most have the 4 bytes of protocol 3.0, and need no memory beside the slot's.
type CancelSecret = SmallVec<[u8; 16]>;

/// One session as others see it.
pub struct Slot {
    /// The session's number.
    pub id: SessionId,
    secret: CancelSecret,
    /// The key it was opened with.
    pub key_id: KeyId,
    /// Its workspace, if it has one.
    pub workspace: Option<WorkspaceId>,
    /// Its pool, by its number.
    pub pool: u64,
    order: AtomicU8,
    queued: AtomicBool,
    cancelled: AtomicBool,
    target: Mutex<Option<CancelTarget>>,
    cancels: AtomicUsize,
    /// A cancel was lost sight of: it may still arrive.
    doubtful: AtomicBool,
    /// Its task. A task is woken by the same waker as long as it lives.
    waker: Mutex<Option<Waker>>,
    /// What it does with a server connection.
    pub tenure: Tenure,
    /// For which bound its statement was cancelled, by its number.
    stopped: AtomicU8,
    stopped_at: AtomicU64,
}

impl Slot {
    fn new(id: SessionId, secret: CancelSecret, who: Who) -> Self {
        let Who { key_id, workspace, pool } = who;
        Self {
            id,
            secret,
            key_id,
            workspace,
            pool,
            tenure: Tenure::default(),
            stopped: AtomicU8::new(0),
            stopped_at: AtomicU64::new(0),
            order: AtomicU8::new(0),
            queued: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            target: Mutex::new(None),
            cancels: AtomicUsize::new(0),
            doubtful: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Tells the session to end. An order is never taken back, only made stricter.
    pub fn order(&self, order: Order) {
        self.order.fetch_max(order.code(), Ordering::Relaxed);
        self.wake();
    }

    /// What the session was told.
    pub fn ordered(&self) -> Option<Order> {
        Order::of(self.order.load(Ordering::Relaxed))
    }

    /// The session's task is woken whenever it is told something, from now on.
    pub fn watch(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// The statement of the session is cancelled for this bound, at this time: the cancel, if there is something to cancel.
    pub fn stop(self: &Arc<Self>, overstay: Overstay, now: u64) -> Option<CancelInFlight> {
        self.stopped_at.store(now, Ordering::Relaxed);
        self.stopped.store(overstay as u8 + 1, Ordering::Relaxed);
        let cancel = self.cancel();
        if cancel.is_none() {
            self.unstop();
        }
        cancel
    }

    /// For which bound the statement of the session was cancelled, and when.
    pub fn stopped(&self) -> Option<(Overstay, u64)> {
        let stopped = overstay(self.stopped.load(Ordering::Relaxed))?;
        Some((stopped, self.stopped_at.load(Ordering::Relaxed)))
    }

    /// Another statement runs, or none.
    pub fn unstop(&self) {
        self.stopped.store(0, Ordering::Relaxed);
    }

    /// The server process that the session holds.
    pub fn holds(&self) -> Option<i32> {
        self.target.lock().as_ref().map(|target| target.pid)
    }

    /// The session waits for a server connection, or no longer does.
    pub fn set_queued(&self, queued: bool) {
        self.cancelled.store(false, Ordering::Relaxed);
        self.queued.store(queued, Ordering::Relaxed);
    }

    /// Whether the session was cancelled while it waited for a server connection.
    pub fn was_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The session holds the server connection that `target` cancels.
    pub fn hold(&self, target: CancelTarget) {
        *self.target.lock() = Some(target);
    }

    /// The session is about to give its server connection back: no cancel reaches that any more, but one may be on
    /// its way. See [`Slot::poll_quiet`].
    pub fn let_go(&self) {
        *self.target.lock() = None;
    }

    /// Whether a cancel is on its way to the server connection of this session.
    pub fn is_cancelling(&self) -> bool {
        self.cancels.load(Ordering::Acquire) > 0
    }

    /// Whether a cancel was lost sight of since this was last asked: the server connection must be closed, for the cancel
    /// may still arrive there.
    pub fn take_doubt(&self) -> bool {
        self.doubtful.swap(false, Ordering::AcqRel)
    }

    /// Ready when no cancel is on its way. For the session's own task, which is woken then.
    pub fn poll_quiet(&self) -> Poll<()> {
        if self.is_cancelling() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// A cancel request for this session: what must be sent to Postgres, if it holds a server connection. Nothing new begins
    /// there while cancels are on their way, so one more than a few would hit nothing that these don't.
    fn cancel(self: &Arc<Self>) -> Option<CancelInFlight> {
        let target = self.target.lock();
        match &*target {
            Some(_) if self.cancels.load(Ordering::Acquire) >= SESSION_CANCELS_MAX => None,
            Some(target) => {
                self.cancels.fetch_add(1, Ordering::AcqRel);
                Some(CancelInFlight { slot: self.clone(), settled: false, target: target.clone() })
            }
            None => {
                if self.queued.load(Ordering::Relaxed) {
                    self.cancelled.store(true, Ordering::Relaxed);
                    self.wake();
                }
                None
            }
        }
    }
}

/// A cancel on its way to Postgres. Until it is dropped, the server connection it is for begins nothing new.
pub struct CancelInFlight {
    slot: Arc<Slot>,
    settled: bool,
    /// Where it goes.
    pub target: CancelTarget,
}

impl CancelInFlight {
    /// The cancel was followed to the end of its connection, or was never sent.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for CancelInFlight {
    fn drop(&mut self) {
        if !self.settled {
            self.slot.doubtful.store(true, Ordering::Release);
        }
        self.slot.cancels.fetch_sub(1, Ordering::AcqRel);
        self.slot.wake();
    }
}

/// All sessions of this process, by the process id they were given in BackendKeyData. That is their home's, which several
/// share; the secret is ours and random, each session's own, and never Postgres'.
#[derive(Default)]
pub struct Registry {
    sessions: DashMap<i32, Lodgers, ahash::RandomState>,
    next_id: AtomicU64,
}

/// The sessions that were told the same process id.
#[derive(Default)]
struct Lodgers {
    sessions: SmallVec<[Arc<Slot>; 1]>,
    /// Wrong secrets that came for them in this second since the epoch.
    wrong: u32,
    second: i64,
}

impl Lodgers {
    /// The session with this secret. Each one's is compared, for a guess is to take as long as a hit; and only so many guesses
    /// are looked at in a second, for there are as many hits as sessions.
    fn find(&mut self, secret: &[u8], now: i64) -> Option<Arc<Slot>> {
        if self.second != now {
            (self.second, self.wrong) = (now, 0);
        }
        if self.wrong >= WRONG_CANCELS_MAX {
            return None;
        }
        let mut found = None;
        for session in &self.sessions {
            if bool::from(session.secret.ct_eq(secret)) {
                found = Some(session.clone());
            }
        }
        self.wrong += u32::from(found.is_none());
        found
    }
}

/// A session's entry. It leaves the registry when this is dropped.
pub struct Registered {
    registry: Arc<Registry>,
    pid: i32,
    slot: Arc<Slot>,
}

/// Whose a session is.
pub struct Who {
    /// The key it is opened with.
    pub key_id: KeyId,
    /// Its workspace, if it has one.
    pub workspace: Option<WorkspaceId>,
    /// Its pool, by its number.
    pub pool: u64,
}

impl Registry {
    /// Enters a session; `secret_bytes` is 4 for protocol 3.0 and more from 3.2 on. Without a home its process id is a number.
    pub fn enter(self: &Arc<Self>, who: Who, secret_bytes: usize, home: Option<i32>) -> Registered {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut secret = CancelSecret::from_elem(0, secret_bytes);
        rand::rng().fill_bytes(&mut secret);
        let slot = Arc::new(Slot::new(id, secret, who));
        // Postgres' process ids are positive.
        let pid = home.unwrap_or_else(|| rand::rng().random_range(1..=i32::MAX));
        self.sessions.entry(pid).or_default().sessions.push(slot.clone());
        Registered { registry: self.clone(), pid, slot }
    }

    /// The cancel that a CancelRequest asks for, at this second since the epoch. Nobody is told whether its key was right, and it
    /// takes no longer to see that a secret is nearly right than that it isn't at all.
    pub fn cancel(&self, pid: i32, secret: &[u8], now: i64) -> Option<CancelInFlight> {
        let slot = self.sessions.get_mut(&pid)?.find(secret, now)?;
        slot.cancel()
    }

    /// Tells every session for which `which` holds to end.
    pub fn order(&self, order: Order, which: impl Fn(&Slot) -> bool) {
        for entry in &self.sessions {
            entry.sessions.iter().filter(|each| which(each)).for_each(|each| each.order(order));
        }
    }

    /// Shows every session.
    pub fn each(&self, mut see: impl FnMut(&Arc<Slot>)) {
        for entry in &self.sessions {
            entry.sessions.iter().for_each(&mut see);
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.iter().map(|entry| entry.sessions.len()).sum()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl Registered {
    /// The process id of BackendKeyData.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// The secret of BackendKeyData.
    pub fn secret(&self) -> &[u8] {
        &self.slot.secret
    }

    /// The session as others see it.
    pub const fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.sessions.remove_if_mut(&self.pid, |_, lodgers| {
            lodgers.sessions.retain(|each| !Arc::ptr_eq(each, &self.slot));
            lodgers.sessions.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Who {
        Who { key_id: KeyId::new("k"), workspace: None, pool: 0 }
    }

    fn target(pid: i32) -> CancelTarget {
        CancelTarget { pid, secret: SmallVec::from_slice(&[7; 32]) }
    }

    #[test]
    fn a_cancel_needs_the_whole_key_and_a_server_connection() {
        let registry = Arc::<Registry>::default();
        let session = registry.enter(nobody(), 32, None);
        let (pid, secret) = (session.pid(), session.secret().to_vec());
        assert!(registry.cancel(pid, &secret, 0).is_none(), "there is nothing to cancel");
        session.slot().hold(target(5));
        assert_eq!(registry.cancel(pid, &secret, 0).map(|cancel| cancel.target.pid), Some(5));
        for wrong in [&secret[..31], &[&secret[..], b"x"].concat(), &[0; 32], b""] {
            assert!(registry.cancel(pid, wrong, 0).is_none());
        }
        assert!(registry.cancel(pid ^ 1, &secret, 0).is_none());
        drop(session);
        assert!(registry.cancel(pid, &secret, 0).is_none() && registry.is_empty());
    }

    #[test]
    fn a_flood_of_cancels_for_one_session_is_a_few_on_their_way() {
        let registry = Arc::<Registry>::default();
        let session = registry.enter(nobody(), 4, None);
        session.slot().hold(target(5));
        let flood: Vec<_> = (0..100).filter_map(|_| registry.cancel(session.pid(), session.secret(), 0)).collect();
        assert_eq!(flood.len(), SESSION_CANCELS_MAX);
        assert!(session.slot().is_cancelling());
        flood.into_iter().for_each(CancelInFlight::settle);
        assert!(!session.slot().is_cancelling() && !session.slot().take_doubt());
        drop(registry.cancel(session.pid(), session.secret(), 0));
        assert!(session.slot().take_doubt(), "one that was never settled may still arrive");
    }

    #[test]
    fn sessions_that_share_a_process_id_are_cancelled_each_by_its_own_secret() {
        let registry = Arc::<Registry>::default();
        let sessions: Vec<_> = (0..40).map(|_| registry.enter(nobody(), 4, Some(77))).collect();
        for (number, session) in (1..).zip(&sessions) {
            assert_eq!(session.pid(), 77);
            session.slot().hold(target(number));
        }
        for (number, session) in (1..).zip(&sessions) {
            let cancel = registry.cancel(77, session.secret(), 0);
            assert_eq!(cancel.as_ref().map(|cancel| cancel.target.pid), Some(number));
            cancel.into_iter().for_each(CancelInFlight::settle);
        }
        // One that leaves takes nobody with it, and its secret is worth nothing any more.
        let mut sessions = sessions;
        let gone = sessions.remove(3).secret().to_vec();
        assert!(registry.cancel(77, &gone, 0).is_none());
        assert_eq!((registry.len(), registry.cancel(77, sessions[3].secret(), 0).is_some()), (39, true));
        let asked = std::cell::Cell::new(0);
        registry.order(Order::Stop, |_| {
            asked.set(asked.get() + 1);
            true
        });
        assert_eq!(asked.get(), 39);
        assert!(sessions.iter().all(|session| session.slot().ordered() == Some(Order::Stop)));
        drop(sessions);
        assert!(registry.is_empty() && registry.sessions.is_empty());
    }

    #[test]
    fn orders_are_told_apart_and_only_made_stricter() {
        let registry = Arc::<Registry>::default();
        let session = registry.enter(nobody(), 4, None);
        let overstays = Overstay::ALL.map(Order::Overstayed);
        for order in [Order::Drain].into_iter().chain(overstays).chain([Order::Stop, Order::Revoked]) {
            session.slot().order(order);
            assert_eq!(session.slot().ordered(), Some(order));
        }
        session.slot().order(Order::Drain);
        assert_eq!(session.slot().ordered(), Some(Order::Revoked));
    }

    #[test]
    fn a_statement_is_stopped_for_a_bound_if_there_is_one() {
        let registry = Arc::<Registry>::default();
        let session = registry.enter(nobody(), 4, None);
        let slot = session.slot();
        assert!(slot.stop(Overstay::Lock, 7).is_none() && slot.stopped().is_none(), "nothing runs");
        slot.hold(target(5));
        slot.stop(Overstay::Lock, 7).expect("a cancel").settle();
        assert_eq!((slot.stopped(), slot.holds()), (Some((Overstay::Lock, 7)), Some(5)));
        slot.unstop();
        assert_eq!(slot.stopped(), None);
    }

    #[test]
    fn guesses_for_one_process_id_are_bounded_and_those_of_the_next_second_are_looked_at_again() {
        let registry = Arc::<Registry>::default();
        let session = registry.enter(nobody(), 4, Some(77));
        let other = registry.enter(nobody(), 4, Some(78));
        [&session, &other].into_iter().for_each(|each| each.slot().hold(target(5)));
        let wrong = [session.secret()[0] ^ 1, 0, 0, 0];
        for _ in 0..WRONG_CANCELS_MAX {
            assert!(registry.cancel(77, &wrong, 9).is_none());
        }
        assert!(registry.cancel(77, session.secret(), 9).is_none(), "the right one could be a guess as well");
        assert!(registry.cancel(78, other.secret(), 9).is_some());
        assert!(registry.cancel(77, session.secret(), 10).is_some());
    }
}
