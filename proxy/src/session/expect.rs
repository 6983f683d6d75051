//! What a server connection still owes, in order. Postgres answers messages one by one, and after an error skips all up
//! to the next Sync; this queue says for each answer whether the client gets it, and what must be undone when it never comes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::Body;
use crate::wire::{Outbound, author};

/// One thing that is still to come.
#[derive(Debug)]
pub(super) enum Expect {
    /// ParseComplete of the client's own Parse.
    Parse(Parsed),
    /// BindComplete.
    Bind,
    /// CloseComplete.
    Close,
    /// CloseComplete of the unnamed statement, after which there is none, under this serial number.
    CloseUnnamed(u64),
    /// RowDescription or NoData, perhaps behind a ParameterDescription.
    Describe,
    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// ReadyForQuery of a Sync.
    Sync,
    /// Everything up to the ReadyForQuery of a Query, after which there is no unnamed statement, under this serial number.
    Query(u64),
    /// Everything up to the ReadyForQuery of a FunctionCall.
    Call,
    /// Where the client ended its copy data. Nothing comes for it.
    CopyEnd,
    /// The answer to a message of ours, which the client must not see.
    Injected(Injected),
    /// An answer of ours to a message that was not passed on, due when all before it has come.
    Own(Own),
}

impl Expect {
    /// The serial number of the client's unnamed statement, or of there being none, from this message on.
    pub(super) const fn unnamed(&self) -> Option<u64> {
        match self {
            Self::Parse(Parsed::Unnamed(serial)) | Self::Query(serial) | Self::CloseUnnamed(serial) => Some(*serial),
            _ => None,
        }
    }
}

/// What becomes untrue when a Parse fails or is skipped.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The client's statement with this name, with the number of its body.
    Named(Box<[u8]>, u64),
    /// The client's unnamed statement with this serial number.
    Unnamed(u64),
    /// Nothing of ours depends on it.
    Free,
}

/// A message of ours.
#[derive(Debug)]
pub(super) enum Injected {
    /// A FunctionCall that gives a setting: a cycle of its own.
    Setting,
    /// A FunctionCall of the bind: a cycle of its own.
    Seal,
    /// A FunctionCall that reads a setting back: a cycle of its own.
    ReadBack(Box<str>),
    /// A Parse of a shared body.
    Parse(u64),
    /// A Parse of the client's unnamed statement, for it isn't on this server connection.
    Unnamed,
    /// A Parse that makes a name known, so that the client's next Parse fails on it.
    Throwaway,
    /// A Parse that makes a name known, so that the client's DEALLOCATE finds it. A Sync of ours follows.
    Surface,
    /// A Close.
    Close,
    /// A Sync.
    Sync,
}

/// An answer of ours, and what becomes untrue when the server skips the message it is for.
#[derive(Debug)]
pub(super) enum Own {
    /// ParseComplete: the client has a statement of this name.
    ParseComplete(Box<[u8]>),
    /// CloseComplete: the client no longer has this statement.
    CloseComplete(Box<[u8]>, Arc<Body>),
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Expects {
    queue: VecDeque<Expect>,
}

impl Expects {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn head(&self) -> Option<&Expect> {
        self.queue.front()
    }

    /// Queues what a message just sent will bring. Answers of ours that are due at once are written.
    pub(super) fn push(&mut self, expect: Expect, client: &mut Outbound) {
        self.queue.push_back(expect);
        if self.queue.len() == 1 {
            self.settle(client);
        }
    }

    /// The head has come. Answers of ours that follow it are due.
    pub(super) fn pop(&mut self, input: &[u8], client: &mut Outbound) -> Option<Expect> {
        let head = self.queue.pop_front();
        self.settle_behind(input, client);
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        head
    }

    /// After an error in the extended protocol: hands out everything up to the next Sync, which stays, the latest first,
    /// for that is the order of undoing. Returns whether there is a Sync.
    pub(super) fn skip_to_sync(&mut self, skipped: impl FnMut(Expect)) -> bool {
        let sync = self.queue.iter().position(is_sync);
        self.queue.drain(..sync.unwrap_or(self.queue.len())).rev().for_each(skipped);
        sync.is_some()
    }

    /// Whether a cycle before this one isn't answered yet.
    pub(super) fn has_earlier_cycle(&self) -> bool {
        self.queue.iter().any(|each| is_sync(each) || matches!(each, Expect::Query(_) | Expect::Call))
    }

    /// Whether an error could still undo what was noted of a statement's name without taking along what is sent now: it was
    /// noted in a cycle before this one, and isn't answered.
    pub(super) fn may_undo(&self, name: &[u8]) -> bool {
        let earlier = self.queue.iter().rposition(is_sync).unwrap_or(0);
        self.queue.range(..earlier).any(|each| match each {
            Expect::Parse(Parsed::Named(noted, _))
            | Expect::Own(Own::ParseComplete(noted) | Own::CloseComplete(noted, _)) => **noted == *name,
            _ => false,
        })
    }

    /// The same for the unnamed statement. A message of this cycle that replaces it makes it sure.
    pub(super) fn may_undo_unnamed(&self) -> bool {
        let mut earlier = false;
        for each in self.queue.iter().rev() {
            if is_sync(each) {
                earlier = true;
            } else if each.unnamed().is_some() {
                return earlier;
            }
        }
        false
    }

    /// Copy data is to come from the client: Syncs that it sent in front of the end of its data are read by nobody.
    /// Returns whether that end is still to come.
    pub(super) fn copy_begins(&mut self) -> bool {
        let end = (1..self.queue.len()).find(|at| !matches!(self.queue[*at], Expect::Sync)).unwrap_or(self.queue.len());
        if end > 1 {
            self.queue.drain(1..end);
        }
        self.queue.len() < 2
    }

    /// Hands out everything, the latest first, and says how many cycles of the client were under way.
    pub(super) fn abandon(&mut self, undone: impl FnMut(Expect)) -> usize {
        let cycles =
            self.queue.iter().filter(|each| matches!(each, Expect::Sync | Expect::Query(_) | Expect::Call)).count();
        self.queue.drain(..).rev().for_each(undone);
        cycles
    }

    fn settle(&mut self, client: &mut Outbound) {
        self.settle_behind(&[], client);
    }

    fn settle_behind(&mut self, input: &[u8], client: &mut Outbound) {
        loop {
            match self.queue.front() {
                Some(Expect::Own(Own::ParseComplete(_))) => author::bare(client.author(input), b'1'),
                Some(Expect::Own(Own::CloseComplete(..))) => author::bare(client.author(input), b'3'),
                Some(Expect::CopyEnd) => {}
                _ => return,
            }
            self.queue.pop_front();
        }
    }
}

const fn is_sync(expect: &Expect) -> bool {
    matches!(expect, Expect::Sync | Expect::Injected(Injected::Sync))
}
