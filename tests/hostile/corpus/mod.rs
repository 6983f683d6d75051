//! The attacks, as data: each is a little script of SQL texts and raw messages that can be aimed at any server that speaks the
//! protocol. `range.rs` fires them and judges what came of it.
//!
//! In a text, `{theirs}` and `{own}` are the workspaces of the victim and the attacker, `{row}` is the id of a row of the
//! victim's, `{journey}` of a journey, `{role}` the upstream role, `{key}` the victim's user name: all of that leaks sooner or
//! later, so the attacker knows it. What he must never see is the marker in the victim's rows and statements.

mod cancelling;
mod catalogs;
mod context;
mod control;
mod data;
mod denial;
mod door;
mod mark;
mod policies;
mod residue;
mod server;
mod talk;

use crate::range::Known;

/// What an attacker does next.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// A text: as a simple query, and in a second run in the extended protocol.
    Sql(&'static str),
    /// Messages, of which nobody knows how they are answered.
    Bytes(fn(&Known) -> Vec<u8>),
    /// Messages that break off: nothing is waited for, and the attacker hangs up.
    Half(fn(&Known) -> Vec<u8>),
    /// Hangs up without a word and comes back.
    Again,
    /// Comes back with these startup parameters, if he is let in.
    Start(&'static [(&'static str, &'static str)]),
    /// Bytes on a connection of their own on which nothing was said yet, and which must not become a session.
    Door(fn(&Known) -> Vec<u8>),
    /// The victim does its work in between.
    Victim,
    /// The victim updates a row, to what it was.
    Update,
    /// Postgres gathers its statistics anew, as it does from time to time.
    Counted,
    /// A statement of the victim's is on its way while what follows is done.
    Busy,
}

/// What shows that an attack has taught the attacker something, beside the marker in what he received.
#[derive(Clone, Copy)]
pub(crate) enum Proof {
    /// The marker alone.
    Marker,
    /// A row or notice with the word `hit`.
    Hit,
    /// A row that has this in it.
    Row(&'static str),
    /// An error with this SQLSTATE.
    Code(&'static str),
}

/// Whether an attack is known to get somewhere, although it reads, writes and impersonates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Open {
    /// It gets nowhere.
    No,
    /// The statement guard alone stops it.
    WithoutGuard,
    /// It gets somewhere with the guard as well.
    Always,
}

/// One attack.
#[derive(Clone, Copy)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step],
    pub(crate) proof: Proof,
    pub(crate) open: Open,
}

impl Attack {
    /// Whether it can be sent in two manners.
    pub(crate) fn has_texts(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Sql(_)))
    }

    const fn proof(self, proof: Proof) -> Self {
        Self { proof, ..self }
    }

    const fn open(self, open: Open) -> Self {
        Self { open, ..self }
    }
}

const fn attack(name: &'static str, steps: &'static [Step]) -> Attack {
    Attack { name, steps, proof: Proof::Marker, open: Open::No }
}

/// Attacks of one kind.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) attacks: &'static [Attack],
}

/// All of them.
pub(crate) const FAMILIES: &[Family] = &[
    Family { name: "forging the context", attacks: context::ATTACKS },
    Family { name: "the mark and the seal", attacks: mark::ATTACKS },
    Family { name: "privileges and policies", attacks: policies::ATTACKS },
    Family { name: "data paths", attacks: data::ATTACKS },
    Family { name: "residue on shared connections", attacks: residue::ATTACKS },
    Family { name: "catalogs and statistics", attacks: catalogs::ATTACKS },
    Family { name: "control data", attacks: control::ATTACKS },
    Family { name: "access to the server", attacks: server::ATTACKS },
    Family { name: "authentication", attacks: door::ATTACKS },
    Family { name: "protocol", attacks: talk::ATTACKS },
    Family { name: "abuse of cancel requests", attacks: cancelling::ATTACKS },
    Family { name: "denial of service", attacks: denial::ATTACKS },
];
