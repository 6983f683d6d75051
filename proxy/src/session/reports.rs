//! What Postgres' meters report, taken out of the stream. A report is a notice, and the client never sees one.

use super::happened::Happened;
use super::{Core, Session};
use crate::audit::{EventType, Outcome, Severity};
use crate::backend::BackendState;
use crate::quota::meter::{self, Change, Unread};
use crate::quota::{Doubt, ResourceId};
use crate::tenant::MeterTag;
use crate::wire::open;

/// Whether a notice of which this is there may turn out to be a report, and can't be read as one yet. Postgres sends the
/// fields in one order, and behind those that matter comes a CONTEXT that may be long.
pub(super) fn may_be_report(seen: &[u8]) -> bool {
    let is_other = |code: u8, wanted: &[u8]| open::error_field(seen, code).is_some_and(|range| seen[range] != *wanted);
    !is_other(b'V', b"INFO") && !is_other(b'C', &meter::SQLSTATE) && open::error_field(seen, b'D').is_none()
}

impl Session {
    /// Whether a notice is a meter's report, and if so takes note of it.
    pub(super) fn is_report(&mut self, seen: &[u8], backend: &mut BackendState, core: &Core<'_>) -> bool {
        let field = |code: u8| open::error_field(seen, code).map(|range| &seen[range]);
        if field(b'C') != Some(&meter::SQLSTATE) || field(b'V') != Some(b"INFO") {
            return false;
        }
        let Some(workspace) = self.workspace else { return true };
        let detail = field(b'D').unwrap_or_default();
        let mut read = backend.meter_tag().map_or(Err(Unread::Forged), |tag| meter::read(detail, tag));
        if read == Err(Unread::Forged) {
            // A key was replaced since the seal was made.
            let tags = core.signing_keys.iter().map(|key| MeterTag::new(key, backend.pid()));
            read = tags.map(|tag| meter::read(detail, &tag)).find(Result::is_ok).unwrap_or(read);
        }
        match read {
            Ok(changes) => changes.into_iter().for_each(|(resource, change)| self.meter(resource, change)),
            Err(unread) => {
                // Either somebody forges reports, or we haven't heard of a new key yet: nothing known of the counts holds.
                backend.unsealed();
                for resource in core.accounts.definitions().resources() {
                    core.accounts.doubt(workspace, resource.id, Doubt::More);
                }
                let detail = serde_json::json!({ "reason": unread.to_string() });
                self.happened.push(Happened {
                    detail: Some(detail),
                    ..Happened::new(EventType::SuspiciousActivity, Severity::High, Outcome::Ok)
                });
            }
        }
        true
    }

    /// Adds a change to what was reported: a function may report without end.
    fn meter(&mut self, resource: ResourceId, change: Change) {
        let same = self
            .metered
            .iter_mut()
            .find(|(of, known)| *of == resource && std::mem::discriminant(known) == std::mem::discriminant(&change));
        match (same, change) {
            (
                Some((_, Change::Added(sum) | Change::Removed(sum) | Change::Doubtful(sum))),
                Change::Added(rows) | Change::Removed(rows) | Change::Doubtful(rows),
            ) => *sum = sum.saturating_add(rows),
            (None, change) => self.metered.push((resource, change)),
        }
    }
}
