//! What the watch sees of a client, and what the client is told of what the watch did.

use crate::domain::Fault;
use crate::limits::tenure::Noted;
use crate::limits::{Overstay, Phase};

use super::super::registry::Order;
use super::{Driver, farewell};

/// What a client's task remembers of what it let the watch see.
#[derive(Default)]
pub(super) struct Stint {
    noted: Noted,
    /// For which bound the statement that runs was cancelled, as the session knows.
    stopped: Option<Overstay>,
}

impl Driver {
    /// Lets the watch see what the client does with its server connection. Nothing is written as long as it is the same.
    pub(super) fn note_stint(&mut self) {
        let phase = if self.lease.is_some() { self.session.phase() } else { Phase::Away };
        let slot = self.registered.slot();
        let is_another = slot.tenure.note(&mut self.stint.noted, phase, self.session.place(), &self.core.shared.beat);
        if is_another && self.stint.stopped.take().is_some() {
            slot.unstop();
            self.session.stopped_by(None);
        }
    }

    /// The watch may have cancelled what runs: then the client reads why in the error that this makes.
    pub(super) fn heed_stop(&mut self) {
        let Some((overstay, _)) = self.registered.slot().stopped() else { return };
        if self.stint.stopped.replace(overstay).is_none() {
            let fault = overstay.fault(Phase::Running);
            super::super::audit::overstayed(&self.core, &self.client, &self.binding, overstay, &fault);
            self.session.stopped_by(Some(fault));
        }
    }

    /// Why the session ends, as the client is told.
    pub(super) fn told_to_end(&self, order: Order) -> Fault {
        let Order::Overstayed(overstay) = order else { return farewell(order) };
        let fault = overstay.fault(self.session.phase());
        if self.stint.stopped.is_none() {
            super::super::audit::overstayed(&self.core, &self.client, &self.binding, overstay, &fault);
        }
        fault
    }
}
