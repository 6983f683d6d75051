//! What the roster's commands come to: who does them, with which connection.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::ending::close;
use super::{Mail, Pool};
use crate::domain::Fault;
use crate::pool::lease::Backend;
use crate::pool::roster::{BackendId, Command, CoreId, WaiterId};

/// A command together with the connection it is about.
pub(super) enum Errand {
    Grant { waiter: WaiterId, core: CoreId, backend: Option<Box<Backend>>, bound: bool },
    Refuse { waiter: WaiterId, core: CoreId, fault: Fault },
    Open,
    Clear(Option<Box<Backend>>),
    Close(Option<Box<Backend>>),
    End(BackendId, Option<Box<Backend>>),
    Recall,
    Bring(BackendId, CoreId),
}

impl Errand {
    pub(super) fn of(command: Command, stock: &mut HashMap<BackendId, Box<Backend>, ahash::RandomState>) -> Self {
        match command {
            Command::Grant { waiter, core, backend, bound } => {
                Self::Grant { waiter, core, backend: stock.remove(&backend), bound }
            }
            Command::Refuse { waiter, core, fault } => Self::Refuse { waiter, core, fault },
            Command::Open => Self::Open,
            Command::Clear(id) => Self::Clear(stock.remove(&id)),
            Command::Close(id) => Self::Close(stock.remove(&id)),
            Command::End(id) => Self::End(id, stock.remove(&id)),
            Command::Recall => Self::Recall,
            Command::Bring(id, core) => Self::Bring(id, core),
        }
    }
}

impl Pool {
    /// Does what the roster said.
    pub(super) fn run(self: &Rc<Self>, errands: Vec<Errand>) {
        for errand in errands {
            match errand {
                Errand::Grant { waiter, core, backend: Some(backend), bound } if core == self.core => {
                    self.answer(waiter, Ok((backend, bound)));
                }
                Errand::Grant { waiter, core, backend: Some(backend), bound } => {
                    self.shared.post(core, Mail::Granted { waiter, backend, bound });
                }
                Errand::Refuse { waiter, core, fault } if core == self.core => self.answer(waiter, Err(fault)),
                Errand::Refuse { waiter, core, fault } => self.shared.post(core, Mail::Refused { waiter, fault }),
                Errand::Open => {
                    tokio::task::spawn_local(self.clone().open());
                }
                Errand::Clear(Some(backend)) => {
                    tokio::task::spawn_local(self.clone().clear(backend));
                }
                Errand::Close(Some(backend)) => {
                    tokio::task::spawn_local(close(backend));
                }
                Errand::End(id, backend) => self.clone().end(id, backend),
                Errand::Recall => self.recall(),
                Errand::Bring(id, core) if core == self.core => self.bring(id),
                Errand::Bring(id, core) => self.shared.post(core, Mail::Bring(id)),
                Errand::Grant { backend: None, .. } | Errand::Clear(None) | Errand::Close(None) => {}
            }
        }
    }

    /// Every core that has something parked gives it back; this one at once.
    fn recall(self: &Rc<Self>) {
        for (core, parked) in self.shared.parked.iter().enumerate() {
            if core != self.core && parked.load(Ordering::SeqCst) > 0 {
                self.shared.post(core, Mail::Recall);
            }
        }
        self.recalled();
    }

    /// What this core has parked goes back, and who makes way for others hears that somebody waits.
    pub(super) fn recalled(self: &Rc<Self>) {
        self.unpark_all(None);
        self.wake_yielding();
    }
}
