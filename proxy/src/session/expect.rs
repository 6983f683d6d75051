//! What a server connection still owes, in order. Postgres answers messages one by one, and after an error skips all up
//! to the next Sync; this queue says for each answer whether the client gets it, and what must be undone when it never comes.

use std::collections::VecDeque;

use crate::wire::{Outbound, author};

/// One thing that is still to come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// ParseComplete of the client's own Parse.
    Parse(Parsed),
    /// BindComplete.
    Bind,
    /// CloseComplete.
    Close,
    /// RowDescription or NoData, perhaps behind a ParameterDescription.
    Describe,
    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// ReadyForQuery of a Sync.
    Sync,
    /// Everything up to the ReadyForQuery of a Query.
    Query,
    /// Everything up to the ReadyForQuery of a FunctionCall.
    Call,
    /// Where the client ended its copy data. Nothing comes for it.
    CopyEnd,
    /// The answer to a message of ours, which the client must not see.
    Injected(Injected),
    /// An answer of ours to a message that was not passed on, due when all before it has come.
    Own(Own),
}

/// What becomes untrue when a Parse fails or is skipped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The client's statement with this name, with the number of its body.
    Named(Box<[u8]>, u64),
    /// The client's unnamed statement.
    Unnamed,
    /// Nothing of ours depends on it.
    Free,
}

/// A message of ours.
#[derive(Debug, PartialEq, Eq)]
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

/// An answer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    ParseComplete,
    CloseComplete,
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

    /// After an error in the extended protocol: hands out everything up to the next Sync, which stays. Returns whether
    /// there is a Sync.
    pub(super) fn skip_to_sync(&mut self, mut skipped: impl FnMut(Expect)) -> bool {
        while let Some(head) = self.queue.front() {
            if matches!(head, Expect::Sync | Expect::Injected(Injected::Sync)) {
                return true;
            }
            if let Some(expect) = self.queue.pop_front() {
                skipped(expect);
            }
        }
        false
    }

    /// Copy data is to come from the client: Syncs that it sent in front of the end of its data are read by nobody.
    /// Returns whether that end is still to come.
    pub(super) fn copy_begins(&mut self) -> bool {
        let end = (1..self.queue.len()).find(|at| self.queue[*at] != Expect::Sync).unwrap_or(self.queue.len());
        if end > 1 {
            self.queue.drain(1..end);
        }
        self.queue.len() < 2
    }

    /// Forgets all and says how many cycles of the client were under way.
    pub(super) fn abandon(&mut self) -> usize {
        let cycles =
            self.queue.iter().filter(|each| matches!(each, Expect::Sync | Expect::Query | Expect::Call)).count();
        self.queue.clear();
        cycles
    }

    fn settle(&mut self, client: &mut Outbound) {
        self.settle_behind(&[], client);
    }

    fn settle_behind(&mut self, input: &[u8], client: &mut Outbound) {
        loop {
            match self.queue.front() {
                Some(Expect::Own(Own::ParseComplete)) => author::bare(client.author(input), b'1'),
                Some(Expect::Own(Own::CloseComplete)) => author::bare(client.author(input), b'3'),
                Some(Expect::CopyEnd) => {}
                _ => return,
            }
            self.queue.pop_front();
        }
    }
}
