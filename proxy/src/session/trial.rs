//! Whether clients of a workspace ask for the numbers of sequences is tried out, so that the first question too finds the
//! client's own. What is looked at decides only over comfort: where it is wrong, the question is answered as ever, with what is
//! provably the client's own or not at all. Nothing is looked at any more when the trial is over.

use crate::backend::BackendState;
use crate::sql::{Facts, Statement};

use super::client::{Message, Next};
use super::{Core, Lanes, Session};

/// What a text does, as far as numbers of sequences are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It takes none, for sure.
    Nothing,
    /// It begins a transaction in the extended protocol: what comes next in its cycle is too late.
    Begins,
    /// It seems to take some of which its client is told nothing.
    Takes,
    /// It may do anything.
    Anything,
}

impl Session {
    /// A message that asks nothing is about to go out. In front of what takes numbers those of others are discarded, as long
    /// as none of the client's own can be among them, and behind it the client stays for a moment. The message may have to come
    /// again when all before it is answered.
    pub(super) fn try_out(
        &mut self,
        facts: Option<&Facts>,
        text: Option<&[u8]>,
        message: Message<'_>,
        backend: &BackendState,
        core: &mut Core<'_>,
        lanes: &mut Lanes,
    ) -> Option<Next> {
        let is_own = self.lodging.is_own(backend);
        if facts.is_some_and(|facts| facts.asks.sequences) || !(is_own || self.lodging.is_blank) || !self.may_look(core)
        {
            return None;
        }
        let look = self.look(facts, text, message, core);
        let is_free = !self.in_cycle && !self.lodging.discarding && self.status != b'E';
        if matches!(look, Look::Takes | Look::Begins) && !is_own && is_free {
            if !self.expects.is_ours() {
                return Some(Next::Wait);
            }
            self.discard_sequences(message.input, lanes);
        }
        self.lodging.is_blank &= matches!(look, Look::Nothing | Look::Begins);
        if look == Look::Takes && (is_own || self.lodging.discarding) && core.habits.may_stay(self.workspace) {
            self.stay_to_ask();
        }
        None
    }

    /// Whether one more text may be looked at.
    fn may_look(&mut self, core: &Core<'_>) -> bool {
        if self.lodging.looks == 0 && !self.lodging.is_tried {
            self.lodging.looks = core.habits.looks(self.workspace);
            self.lodging.is_tried = self.lodging.looks == 0;
        }
        self.lodging.is_blank &= !self.lodging.is_tried;
        self.lodging.looks = self.lodging.looks.saturating_sub(1);
        !self.lodging.is_tried
    }

    fn look(&self, facts: Option<&Facts>, text: Option<&[u8]>, message: Message<'_>, core: &mut Core<'_>) -> Look {
        let (Some(text), false) = (text, message.frame.tag == b'F') else { return Look::Anything };
        if facts.is_none() && message.frame.tag != b'Q' && begins(text) {
            return Look::Begins;
        }
        // A quiet text in which nothing is called takes nothing, but for a view that does: nothing here depends on it.
        if facts.is_none() && !text.contains(&b'(') {
            return Look::Nothing;
        }
        if core.analysis.all_facts(text).statements.iter().all(Statement::is_of_session) {
            return Look::Nothing;
        }
        let Some(catalog) = (core.catalog)() else { return Look::Anything };
        let effects = core.analysis.effects(text, &catalog, self.reader());
        if effects.takes_numbers {
            Look::Takes
        } else if effects.changes {
            Look::Anything
        } else {
            Look::Nothing
        }
    }
}

/// Whether a text that leaves nothing behind begins a transaction.
fn begins(text: &[u8]) -> bool {
    let first = text.trim_ascii_start().split(|byte| !byte.is_ascii_alphabetic()).next().unwrap_or_default();
    first.eq_ignore_ascii_case(b"begin") || first.eq_ignore_ascii_case(b"start")
}
