//! What a server connection still owes, in order. Postgres answers messages one by one, and after an error skips all up
//! to the next Sync; this queue says for each answer whether the client gets it, and what must be undone when it never comes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::{Moment, Name};
use crate::domain::Fault;
use crate::tenant::BindBy;
use crate::wire::{Outbound, author};

use super::statements::Statement;
use super::watched::Watched;

/// One thing that is still to come.
#[derive(Debug)]
pub(super) enum Expect {
    /// ParseComplete of the client's own Parse.
    Parse(Parsed),
    /// BindComplete.
    Bind(Bound),
    /// BindComplete of a text that was sent without a name and went out by one of ours. The client gets its ParseComplete with it.
    Repeat(Repeated),
    /// CloseComplete.
    Close,
    /// CloseComplete of a portal that is remembered.
    ClosePortal(Box<[u8]>),
    /// CloseComplete of the unnamed statement, after which there is none, under this serial number.
    CloseUnnamed(u64),
    /// RowDescription or NoData, perhaps behind a ParameterDescription.
    Describe,
    /// CommandComplete, EmptyQueryResponse or PortalSuspended, of a statement whose outcome may matter.
    Execute(Option<Box<Watched>>),
    /// ReadyForQuery of a Sync.
    Sync,
    /// Everything up to the ReadyForQuery of a Query, after which there is no unnamed statement, under this serial number.
    Query(u64, Option<Box<Watched>>),
    /// Everything up to the ReadyForQuery of a FunctionCall.
    Call,
    /// Where the client ended its copy data. Nothing comes for it.
    CopyEnd,
    /// The error that a Flush with a body brings.
    Malformed,
    /// The answer to a message of ours, which the client must not see.
    Injected(Injected),
    /// The client's ReadyForQuery, whose cycle the server has ended, due when all before it has come.
    Ready,
    /// An answer of ours to a message that was not passed on, due when all before it has come.
    Own(Own),
}

impl Expect {
    /// What is watched of it.
    pub(super) fn watched_mut(&mut self) -> Option<&mut Watched> {
        match self {
            Self::Query(_, watched) | Self::Execute(watched) => watched.as_deref_mut(),
            _ => None,
        }
    }

    /// Whether what follows begins a cycle of its own.
    const fn ends_cycle(&self) -> bool {
        is_sync(self) || matches!(self, Self::Query(..) | Self::Call)
    }

    /// Whether it stands for a message after which a name is taken or free: the client's, or one of ours.
    const fn notes_name(&self) -> bool {
        matches!(
            self,
            Self::Parse(Parsed::Named { .. })
                | Self::Injected(Injected::Parse(..) | Injected::SurfaceInCycle(_))
                | Self::Own(_)
        )
    }

    /// The serial number of the client's unnamed statement, or of there being none, from this message on.
    pub(super) const fn unnamed(&self) -> Option<u64> {
        match self {
            Self::Parse(Parsed::Unnamed(serial))
            | Self::Query(serial, _)
            | Self::CloseUnnamed(serial)
            | Self::Parse(Parsed::Repeated { serial, .. })
            | Self::Repeat(Repeated { serial, .. })
            | Self::Injected(Injected::Replacing(serial)) => Some(*serial),
            _ => None,
        }
    }
}

/// What a Bind was for.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// The portal, if it is remembered, by its serial number.
    pub(super) portal: Option<u64>,
    /// The client's name for the statement, if that is a shared one.
    pub(super) statement: Option<Arc<[u8]>>,
}

/// A text that went out by a name of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeated {
    pub(super) name: Name,
    /// The serial number of the client's unnamed statement.
    pub(super) serial: u64,
    /// The portal, if it is remembered, by its serial number.
    pub(super) portal: Option<u64>,
    /// Its portal is described.
    pub(super) is_described: bool,
}

/// What becomes untrue when a Parse fails or is skipped.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The client's statement with this name, with the number of its body, and when it was sent.
    Named { name: Arc<[u8]>, body: u64, sent: Moment },
    /// The client's unnamed statement with this serial number.
    Unnamed(u64),
    /// The client's unnamed statement with this serial number, which is prepared under a name of ours.
    Repeated { serial: u64, name: Name },
    /// Nothing of ours depends on it.
    Free,
}

/// A message of ours.
#[derive(Debug)]
pub(super) enum Injected {
    /// A FunctionCall that gives a setting: a cycle of its own.
    Setting,
    /// `DISCARD SEQUENCES`: a cycle of its own.
    Discard,
    /// A FunctionCall of the bind: a cycle of its own.
    Bind(BindStep),
    /// A FunctionCall that reads a setting back: a cycle of its own.
    ReadBack(Box<str>),
    /// A FunctionCall that shows whether the setting read back next may be given at all: a cycle of its own.
    MayGive,
    /// A Parse of the shared body with this number, and when it was sent.
    Parse(u64, Moment),
    /// A Parse of the client's unnamed statement, for it isn't on this server connection.
    Unnamed,
    /// A Parse that makes a name known, so that the client's next Parse fails on it.
    Throwaway,
    /// A Parse that makes a name known, so that the client's own SQL finds it. A Sync of ours follows.
    Surface(Box<[u8]>),
    /// The same within a cycle of the client's.
    SurfaceInCycle(Box<[u8]>),
    /// A Parse of ours in place of the client's, or of its Query: what was its unnamed statement is gone, under this serial number.
    Replacing(u64),
    /// A Bind of the unnamed portal.
    Bound,
    /// A Describe of a Query that is sent in the extended protocol: the client gets its RowDescription, and no NoData.
    Columns,
    /// An Execute that raises an error, which the client is told in our words.
    Denial(Fault),
    /// A Close of a shared statement that makes room for another one.
    Drop(Name),
    /// A Close of a name of the client's.
    CloseSurfaced,
    /// A Close of the unnamed statement.
    Close,
    /// A Sync.
    Sync,
    /// The client's Sync, behind which its cycle is sent again: what was prepared for it has aged.
    Again(Repeated),
}

/// The FunctionCalls of a bind, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindStep {
    /// The workspace's plain uuid is set.
    Workspace,
    /// The seal is set, and echoed.
    Seal,
    /// The seal is verified, and what it says marked.
    Mark,
    /// The random seed is set.
    Seed,
    /// All of it, and the seal is echoed.
    Whole,
}

impl BindStep {
    /// All of them, as the database is bound.
    pub(super) const fn all(by: BindBy) -> &'static [Self] {
        match by {
            BindBy::Settings => &[Self::Workspace, Self::Seal, Self::Seed],
            BindBy::Mark(_) => &[Self::Workspace, Self::Seal, Self::Mark, Self::Seed],
            BindBy::Call(_) => &[Self::Whole],
        }
    }

    /// Whether its answer says the seal.
    pub(super) const fn echoes(self) -> bool {
        matches!(self, Self::Seal | Self::Whole)
    }
}

/// An answer of ours, and what becomes untrue when the server skips the message it is for.
#[derive(Debug)]
pub(super) enum Own {
    /// CloseComplete: the client no longer has this statement.
    CloseComplete(Arc<[u8]>, Box<Statement>),
}

/// What of its data a client had sent when a copy began.
#[derive(Debug)]
pub(super) enum CopyInput {
    /// Its end isn't there yet.
    Awaited,
    /// All of it, or a message of another kind, behind which the server skips.
    Ended,
    /// A message of another kind, which the server doesn't get to.
    Refused(Expect),
}

/// The queue. Positions count all that was ever queued, so that what lies behind what is known without looking.
#[derive(Debug, Default)]
pub(super) struct Expects {
    queue: VecDeque<Expect>,
    /// The position of the head.
    head_at: u64,
    /// Behind the last thing that ends a cycle.
    cycle_end: u64,
    /// Behind the last thing that notes something about a statement's name.
    name_noted: u64,
    /// The same, of cycles before the one that is being sent.
    name_noted_before: u64,
    /// Behind the last thing that replaces the unnamed statement, the client's or the server connection's.
    unnamed_replaced: u64,
}

impl Expects {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether nothing is owed but answers to cycles of ours.
    pub(super) fn is_ours(&self) -> bool {
        self.queue.iter().all(|each| {
            matches!(
                each,
                Expect::Injected(
                    Injected::Setting
                        | Injected::Discard
                        | Injected::Bind(_)
                        | Injected::ReadBack(_)
                        | Injected::MayGive
                )
            )
        })
    }

    pub(super) fn head(&self) -> Option<&Expect> {
        self.queue.front()
    }

    /// The statement whose answer comes next, if it is watched.
    pub(super) fn statement(&self) -> Option<&crate::sql::Statement> {
        match self.queue.front()? {
            Expect::Query(_, watched) | Expect::Execute(watched) => watched.as_ref()?.current(),
            _ => None,
        }
    }

    /// What is watched of the message whose answer comes next. [`Self::give_watched`] puts it back.
    pub(super) fn take_watched(&mut self) -> Option<Box<Watched>> {
        match self.queue.front_mut()? {
            Expect::Query(_, watched) | Expect::Execute(watched) => watched.take(),
            _ => None,
        }
    }

    pub(super) fn give_watched(&mut self, given: Option<Box<Watched>>) {
        if let Some(Expect::Query(_, watched) | Expect::Execute(watched)) = self.queue.front_mut() {
            *watched = given;
        }
    }

    /// What is watched of that message.
    pub(super) fn watched(&self) -> Option<&Watched> {
        match self.queue.front()? {
            Expect::Query(_, watched) | Expect::Execute(watched) => watched.as_deref(),
            _ => None,
        }
    }

    /// What is watched of that message, where it stays.
    pub(super) fn watched_mut(&mut self) -> Option<&mut Watched> {
        self.queue.front_mut().and_then(Expect::watched_mut)
    }

    /// Everything that is watched.
    pub(super) fn all_watched(&mut self) -> impl Iterator<Item = &mut Watched> {
        self.queue.iter_mut().filter_map(Expect::watched_mut)
    }

    /// The place of what comes next, among all that was ever queued.
    pub(super) const fn head_at(&self) -> u64 {
        self.head_at
    }

    /// The place of what is queued next.
    pub(super) fn next_at(&self) -> u64 {
        self.head_at + self.queue.len() as u64
    }

    /// Whether the answer with this place is still to come, and is of a cycle before the one that is being sent.
    pub(super) const fn is_of_earlier_cycle(&self, at: u64) -> bool {
        at >= self.head_at && at < self.cycle_end
    }

    /// Whether anything is on its way that executes, or ends a cycle: what the transaction comes to isn't known before.
    pub(super) fn may_change_transaction(&self) -> bool {
        let changes = |each: &Expect| {
            each.ends_cycle() || matches!(each, Expect::Execute(_) | Expect::Injected(Injected::Denial(_)))
        };
        self.queue.iter().any(changes)
    }

    /// Whether anything is on its way that may commit: with it what runs in a transaction of its own, unless a block is open.
    pub(super) fn may_commit(&self, in_block: bool) -> bool {
        self.queue.iter().any(|each| match each {
            Expect::Sync | Expect::Call => !in_block,
            Expect::Query(_, watched) => !in_block || watched.as_ref().is_none_or(|watched| !watched.stays_open()),
            Expect::Execute(watched) => watched.as_ref().is_none_or(|watched| !watched.stays_open()),
            _ => false,
        })
    }

    /// Whether the message whose answer comes next is watched.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.queue.front(), Some(Expect::Query(_, Some(_)) | Expect::Execute(Some(_))))
    }

    /// Queues what a message just sent will bring. Answers of ours that are due at once are written.
    pub(super) fn push(&mut self, expect: Expect, client: &mut Outbound) {
        let behind = self.head_at + self.queue.len() as u64 + 1;
        if expect.ends_cycle() {
            self.cycle_end = behind;
            self.name_noted_before = self.name_noted;
        }
        if expect.notes_name() {
            self.name_noted = behind;
        }
        if expect.unnamed().is_some() || matches!(expect, Expect::Injected(Injected::Unnamed | Injected::Close)) {
            self.unnamed_replaced = behind;
        }
        self.queue.push_back(expect);
        if self.queue.len() == 1 {
            self.settle(client);
        }
    }

    /// The head has come, but the client isn't to know yet, nor of what follows.
    pub(super) fn stand_in(&mut self, expect: Expect) -> Option<Expect> {
        self.queue.front_mut().map(|head| std::mem::replace(head, expect))
    }

    /// The head has come. Answers of ours that follow it are due.
    pub(super) fn pop(&mut self, input: &[u8], client: &mut Outbound) -> Option<Expect> {
        let head = self.queue.pop_front();
        self.head_at += u64::from(head.is_some());
        self.settle_behind(input, client);
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        head
    }

    /// After an error in the extended protocol: hands out everything up to the next Sync, which stays, the latest first,
    /// for that is the order of undoing. Says whether there is a Sync.
    pub(super) fn skip_to_sync(&mut self) -> (impl Iterator<Item = Expect> + use<>, bool) {
        let sync = self.queue.iter().position(is_sync);
        let end = sync.unwrap_or(self.queue.len());
        self.head_at += end as u64;
        let rest = self.queue.split_off(end);
        (std::mem::replace(&mut self.queue, rest).into_iter().rev(), sync.is_some())
    }

    /// Whether an error could still undo what was noted of statements' names, without taking along what is sent now: it was
    /// noted in a cycle before this one, and isn't answered.
    pub(super) const fn may_undo_names(&self) -> bool {
        self.name_noted_before > self.head_at
    }

    /// The same for the unnamed statement. A message of this cycle that replaces it makes it sure.
    pub(super) const fn may_undo_unnamed(&self) -> bool {
        self.unnamed_replaced > self.head_at && self.unnamed_replaced < self.cycle_end
    }

    /// Copy data is to come from the client. What it sent already is read as that: Syncs in front of its end by nobody, and
    /// anything else than data fails the copy and is used up by that (Postgres docs, "COPY Operations").
    pub(super) fn copy_begins(&mut self) -> CopyInput {
        let end = (1..self.queue.len()).find(|at| !matches!(self.queue[*at], Expect::Sync)).unwrap_or(self.queue.len());
        self.drop_behind_head(end - 1);
        match self.queue.get(1) {
            None => CopyInput::Awaited,
            Some(Expect::CopyEnd) => {
                self.drop_behind_head(1);
                CopyInput::Ended
            }
            Some(_) if matches!(self.head(), Some(Expect::Execute(_))) => CopyInput::Ended,
            Some(_) => {
                self.head_at += 1;
                self.queue.remove(1).map_or(CopyInput::Ended, CopyInput::Refused)
            }
        }
    }

    /// The head stays, and so do the positions of all behind what goes.
    fn drop_behind_head(&mut self, count: usize) {
        self.head_at += count as u64;
        self.queue.drain(1..=count);
    }

    /// Hands out everything, the latest first, and says how many cycles of the client were under way.
    pub(super) fn abandon(&mut self, undone: impl FnMut(Expect)) -> usize {
        let cycles = self
            .queue
            .iter()
            .filter(|each| {
                matches!(
                    each,
                    Expect::Sync
                        | Expect::Query(..)
                        | Expect::Call
                        | Expect::Ready
                        | Expect::Injected(Injected::Again(_))
                )
            })
            .count();
        self.head_at += self.queue.len() as u64;
        self.queue.drain(..).rev().for_each(undone);
        cycles
    }

    fn settle(&mut self, client: &mut Outbound) {
        self.settle_behind(&[], client);
    }

    fn settle_behind(&mut self, input: &[u8], client: &mut Outbound) {
        loop {
            match self.queue.front() {
                Some(Expect::Own(Own::CloseComplete(..))) => author::bare(client.author(input), b'3'),
                Some(Expect::CopyEnd) => {}
                _ => return,
            }
            self.queue.pop_front();
            self.head_at += 1;
        }
    }
}

const fn is_sync(expect: &Expect) -> bool {
    matches!(expect, Expect::Sync | Expect::Injected(Injected::Sync))
}
