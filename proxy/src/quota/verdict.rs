//! What a client is told whose statement doesn't fit.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::{Fault, Origin, SqlState};

/// A quota is exceeded, and that is true: it was counted after the statement asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The resource's name.
    pub resource: Arc<str>,
    /// Rows that are there or reserved.
    pub used: u64,
    /// Of these, what transactions have reserved that haven't ended.
    pub reserved: u64,
    /// Rows at most.
    pub limit: u64,
    /// Rows that were asked for.
    pub requested: u64,
    /// When a flow's count starts anew.
    pub resets_at: Option<String>,
}

impl Exceeded {
    /// Rows that would still fit.
    pub const fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// What the client's program reads. The names are those of HTTP.
    pub fn details(&self) -> Value {
        json!({
            "kind": "quota",
            "resourceType": &*self.resource,
            "currentUsage": self.used,
            "limit": self.limit,
            "requested": self.requested,
            "remaining": self.remaining(),
            "resetsAt": self.resets_at,
        })
    }

    /// What a person reads.
    pub fn message(&self) -> String {
        let Self { resource, used, limit, requested, reserved, .. } = self;
        let held = match reserved {
            0 => String::new(),
            reserved => format!(" ({reserved} by transactions that haven't ended)"),
        };
        format!("quota exceeded: {used} of {limit} {resource} are used{held}, and this statement adds {requested}")
    }

    fn hint(&self) -> String {
        match &self.resets_at {
            Some(at) => format!("The count starts anew at {at}; until then a higher limit would help."),
            None => format!("Delete {} that aren't needed, or ask for a higher limit.", self.resource),
        }
    }
}

impl From<&Exceeded> for Fault {
    fn from(exceeded: &Exceeded) -> Self {
        Self::new(Origin::Client, SqlState::CONFIGURATION_LIMIT_EXCEEDED, exceeded.message())
            .detail(exceeded.details().to_string())
            .hint(exceeded.hint())
    }
}

/// Why rows weren't reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// They don't fit.
    Exceeded(Exceeded),
    /// Whether they fit couldn't be found out: nothing is granted, and a retry may succeed.
    Undecided {
        /// The resource's name.
        resource: Arc<str>,
        /// Why, for the log.
        why: String,
    },
}

impl From<&Refusal> for Fault {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Exceeded(exceeded) => exceeded.into(),
            Refusal::Undecided { resource, why } => Self::new(
                Origin::Upstream,
                SqlState::CANNOT_CONNECT_NOW,
                format!("the quota of {resource} can't be decided at the moment, so nothing is inserted"),
            )
            .hint("Try again.")
            .log(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceeded() -> Exceeded {
        Exceeded { resource: "segments".into(), used: 5, reserved: 0, limit: 5, requested: 1, resets_at: None }
    }

    #[test]
    fn a_person_reads_how_much_is_used_and_a_program_reads_json() {
        let fault = Fault::from(&exceeded());
        assert_eq!(fault.sqlstate, SqlState::CONFIGURATION_LIMIT_EXCEEDED);
        assert_eq!(fault.message, "quota exceeded: 5 of 5 segments are used, and this statement adds 1");
        let detail: Value = serde_json::from_str(fault.detail.as_deref().unwrap_or_default()).expect("JSON");
        assert_eq!(
            detail,
            json!({"kind": "quota", "resourceType": "segments", "currentUsage": 5, "limit": 5, "requested": 1,
                   "remaining": 0, "resetsAt": null})
        );
        assert!(fault.hint.as_ref().expect("a hint").contains("segments"));
    }

    #[test]
    fn usage_above_a_limit_that_was_lowered_leaves_nothing() {
        let over = Exceeded { used: 9, reserved: 2, resets_at: Some("2030-02-01T00:00:00Z".into()), ..exceeded() };
        assert_eq!(over.remaining(), 0);
        assert!(over.message().contains("9 of 5 segments are used (2 by transactions that haven't ended)"));
        assert!(Fault::from(&over).hint.as_ref().expect("a hint").contains("2030-02-01T00:00:00Z"));
    }

    #[test]
    fn what_cant_be_decided_is_no_exceeded_quota() {
        let fault = Fault::from(&Refusal::Undecided { resource: "segments".into(), why: "gone".into() });
        assert_eq!((fault.sqlstate, fault.log.as_deref()), (SqlState::CANNOT_CONNECT_NOW, Some("gone")));
    }
}
