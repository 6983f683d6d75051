//! Where a text speaks of channels. The parse tree says which statements and calls there are, and the tokens where their
//! names stand.

use super::super::channels::{self, Channel, Mention};
use super::super::facts::Facts;
use super::super::guard_hit::GuardHit;
use super::tree::node::Node as Inner;

/// What was found so far.
pub(super) struct Mentions<'a> {
    text: &'a str,
    found: Vec<Mention>,
    /// One of them couldn't be found.
    is_lost: bool,
}

impl<'a> Mentions<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, found: Vec::new(), is_lost: false }
    }

    /// One statement, where it begins, and where it calls `pg_notify`.
    pub(super) fn of_statement(&mut self, statement: &Inner, from: usize, calls: &[i32]) {
        let channel = match statement {
            Inner::ListenStmt(listen) => Some(Channel::Listen(listen.conditionname.as_str().into())),
            Inner::NotifyStmt(notify) => Some(Channel::Named(notify.conditionname.as_str().into())),
            // UNLISTEN * has no name.
            Inner::UnlistenStmt(unlisten) if unlisten.conditionname.is_empty() => None,
            Inner::UnlistenStmt(unlisten) => Some(Channel::Named(unlisten.conditionname.as_str().into())),
            _ => None,
        };
        if let Some(channel) = channel {
            self.found(channel, channels::name_at(self.text, from));
        }
        for call in calls {
            let place = usize::try_from(*call).ok().and_then(|from| channels::schema_at(self.text, from));
            self.found(Channel::Call, place);
        }
    }

    fn found(&mut self, channel: Channel, place: Option<(usize, usize)>) {
        match place {
            Some((start, end)) => self.found.push(Mention { start, end, channel }),
            None => self.is_lost = true,
        }
    }

    /// All of it is read. Places in a text of which something was left out are of no use.
    pub(super) fn told(mut self, is_whole: bool, facts: &mut Facts) {
        if self.found.is_empty() && !self.is_lost {
            return;
        }
        if self.is_lost || !is_whole {
            facts.guard.push(GuardHit::HidesChannel);
            return;
        }
        facts.guard.push(GuardHit::NamesChannel);
        self.found.sort_by_key(|mention| mention.start);
        self.found.dedup_by_key(|mention| mention.start);
        facts.channels = self.found;
    }
}
