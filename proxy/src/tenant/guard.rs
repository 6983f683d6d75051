//! The statement guard: what a tenant's visible attempts are answered with. It is there for good errors and for evidence;
//! the walls are in the database and hold without it.

use serde::{Deserialize, Serialize};

use crate::domain::{Fault, Origin, SqlState};
use crate::sql::GuardHit;

/// What becomes of a statement that breaks a rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is denied and recorded.
    #[default]
    Enforce,
    /// It is recorded, and goes to Postgres.
    Warn,
    /// It goes to Postgres.
    Off,
}

/// `[guard]` of the configuration: a mode for each rule.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Guard {
    /// Setting or resetting the settings that carry the context.
    pub context: Mode,
    /// Naming anything in the schema `cordon`.
    pub control_schema: Mode,
    /// SET ROLE and SET SESSION AUTHORIZATION.
    pub role: Mode,
    /// CREATE, ALTER and DROP of roles and databases.
    pub alter_role: Mode,
    /// PREPARE TRANSACTION.
    pub two_phase: Mode,
}

/// What the guard says of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Nothing.
    Allowed,
    /// It goes on, and is recorded.
    Warned(&'a GuardHit),
    /// It is denied.
    Refused(&'a GuardHit),
}

impl Guard {
    /// A guard that looks at nothing.
    pub const fn off() -> Self {
        Self {
            context: Mode::Off,
            control_schema: Mode::Off,
            role: Mode::Off,
            alter_role: Mode::Off,
            two_phase: Mode::Off,
        }
    }

    /// What becomes of a text with these hits. The worst counts.
    pub fn verdict<'a>(&self, hits: &'a [GuardHit]) -> Verdict<'a> {
        let with = |mode: Mode| hits.iter().find(|hit| self.mode(hit) == mode);
        match (with(Mode::Enforce), with(Mode::Warn)) {
            (Some(hit), _) => Verdict::Refused(hit),
            (None, Some(hit)) => Verdict::Warned(hit),
            (None, None) => Verdict::Allowed,
        }
    }

    const fn mode(&self, hit: &GuardHit) -> Mode {
        match hit {
            GuardHit::TouchesContext(_) => self.context,
            GuardHit::NamesSchema(_) => self.control_schema,
            GuardHit::ChangesRole => self.role,
            GuardHit::AltersRole(_) => self.alter_role,
            GuardHit::PreparesTransaction => self.two_phase,
        }
    }
}

/// What a client is told.
pub fn fault(hit: &GuardHit) -> Fault {
    let denied = |text: String| Fault::new(Origin::Client, SqlState::INSUFFICIENT_PRIVILEGE, text);
    match hit {
        GuardHit::TouchesContext(name) => {
            denied(format!("the setting {name} can't be changed: it carries the workspace"))
                .hint("The workspace is the API key's own. Connect with the key of another workspace to work there.")
        }
        GuardHit::NamesSchema(what) => {
            denied(format!("permission denied for {what}: the schema cordon is pgcordon's own"))
        }
        GuardHit::ChangesRole => denied("another role can't be taken on".to_owned())
            .hint("The role is the API key's own. RESET ROLE and SET SESSION AUTHORIZATION DEFAULT are allowed."),
        GuardHit::AltersRole(command) => {
            denied(format!("{command} is not allowed: roles and databases are not a tenant's"))
        }
        GuardHit::PreparesTransaction => {
            Fault::new(Origin::Client, SqlState::FEATURE_NOT_SUPPORTED, "PREPARE TRANSACTION is not offered")
                .hint("A prepared transaction would outlive its server connection and hold its locks unseen.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_hit_counts_and_a_rule_that_is_off_hits_nothing() {
        let hits = [GuardHit::ChangesRole, GuardHit::TouchesContext("app.workspace_id".into())];
        let mut guard = Guard { role: Mode::Warn, ..Guard::default() };
        assert_eq!(guard.verdict(&hits), Verdict::Refused(&hits[1]));
        guard.context = Mode::Off;
        assert_eq!(guard.verdict(&hits), Verdict::Warned(&hits[0]));
        assert_eq!(Guard::off().verdict(&hits), Verdict::Allowed);
        assert_eq!(Guard::default().verdict(&[]), Verdict::Allowed);
    }

    #[test]
    fn two_phase_commit_is_not_offered_and_all_else_is_not_permitted() {
        assert_eq!(fault(&GuardHit::PreparesTransaction).sqlstate, SqlState::FEATURE_NOT_SUPPORTED);
        assert_eq!(fault(&GuardHit::AltersRole("ALTER ROLE")).sqlstate, SqlState::INSUFFICIENT_PRIVILEGE);
    }
}
