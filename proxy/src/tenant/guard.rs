//! The statement guard: what a tenant's visible attempts are answered with. It is there for good errors and for evidence;
//! the walls are in the database and hold without it.

use serde::{Deserialize, Serialize};

use crate::domain::{Fault, Origin, SqlState};
use crate::sql::guard_functions::evaluates_xpath;
use crate::sql::{GuardHit, Object, Rule, Rules};

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
    /// Switching row_security off.
    pub row_security: Mode,
    /// Altering, dropping and granting what isn't the session's own.
    pub ddl: Mode,
    /// DO.
    pub r#do: Mode,
    /// Functions that run a text.
    pub dynamic_sql: Mode,
    /// Large objects.
    pub large_objects: Mode,
    /// Files and programs of the server.
    pub server_files: Mode,
    /// Signals to other sessions and to the server.
    pub signals: Mode,
    /// LOCK TABLE.
    pub lock_table: Mode,
    /// EXPLAIN with estimates or counts.
    pub explain: Mode,
    /// LISTEN and NOTIFY: with `enforce` a workspace has channels of its own.
    pub channels: Mode,
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
            row_security: Mode::Off,
            ddl: Mode::Off,
            r#do: Mode::Off,
            dynamic_sql: Mode::Off,
            large_objects: Mode::Off,
            server_files: Mode::Off,
            signals: Mode::Off,
            lock_table: Mode::Off,
            explain: Mode::Off,
            channels: Mode::Off,
        }
    }

    /// What becomes of a text with these hits, of a key that is allowed to break these rules. The worst counts.
    pub fn verdict<'a>(&self, hits: impl Iterator<Item = &'a GuardHit> + Clone, allowed: Rules) -> Verdict<'a> {
        let with = |mode: Mode| hits.clone().find(|hit| self.of_hit(hit, allowed) == mode);
        match (with(Mode::Enforce), with(Mode::Warn)) {
            (Some(hit), _) => Verdict::Refused(hit),
            (None, Some(hit)) => Verdict::Warned(hit),
            (None, None) => Verdict::Allowed,
        }
    }

    /// Whether a key that is allowed to break these rules has channels of its workspace's own.
    pub fn has_own_channels(&self, allowed: Rules) -> bool {
        self.mode(Rule::Channels) == Mode::Enforce && !allowed.contains(Rule::Channels)
    }

    /// What becomes of a rule's breach.
    pub const fn mode(&self, rule: Rule) -> Mode {
        match rule {
            Rule::Context => self.context,
            Rule::ControlSchema => self.control_schema,
            Rule::Role => self.role,
            Rule::AlterRole => self.alter_role,
            Rule::TwoPhase => self.two_phase,
            Rule::RowSecurity => self.row_security,
            Rule::Ddl => self.ddl,
            Rule::Do => self.r#do,
            Rule::DynamicSql => self.dynamic_sql,
            Rule::LargeObjects => self.large_objects,
            Rule::ServerFiles => self.server_files,
            Rule::Signals => self.signals,
            Rule::LockTable => self.lock_table,
            Rule::Explain => self.explain,
            Rule::Channels => self.channels,
        }
    }

    fn of_hit(&self, hit: &GuardHit, allowed: Rules) -> Mode {
        let mode = if allowed.contains(hit.rule()) { Mode::Off } else { self.mode(hit.rule()) };
        // A channel that can be found is made the workspace's own, which is no breach.
        if *hit == GuardHit::NamesChannel && mode == Mode::Enforce { Mode::Off } else { mode }
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
        GuardHit::SetsRowSecurity => denied("row_security can't be switched off: it keeps workspaces apart".to_owned())
            .hint("It is on, and may be set to that: pg_dump --enable-row-security writes it so."),
        GuardHit::ChangesObject(command, object) => of_object(command, object),
        GuardHit::RunsDo => denied("DO is not allowed: what it runs can't be seen".to_owned()).hint(ALLOWED_BY_KEY),
        GuardHit::Calls(Rule::DynamicSql, name) if evaluates_xpath(name) => {
            denied(format!("{name} is not allowed: nothing can interrupt what it evaluates")).hint(ALLOWED_BY_KEY)
        }
        GuardHit::Calls(Rule::DynamicSql, name) => {
            denied(format!("{name} is not allowed: what it runs can't be seen")).hint("Run the query itself.")
        }
        GuardHit::Calls(Rule::LargeObjects, name) => {
            denied(format!("{name} is not allowed: large objects are in one name space for all workspaces"))
                .hint("Keep the bytes in a column of type bytea.")
        }
        GuardHit::Calls(Rule::ServerFiles, name) => of_server_file(name),
        GuardHit::Calls(Rule::Signals, name) => {
            denied(format!("{name} is not allowed: other sessions and the server are not a tenant's"))
                .hint("A session cancels its own statement by a cancel request, as every driver can.")
        }
        GuardHit::Calls(Rule::Channels, name) => {
            denied(format!("{name} is not allowed as a FunctionCall: it would notify the channel of all workspaces"))
                .hint("SELECT pg_notify(…) notifies the workspace's own.")
        }
        GuardHit::Calls(_, name) => denied(format!("{name} is not allowed")).hint(ALLOWED_BY_KEY),
        GuardHit::ChangesLargeObject(command) => {
            denied(format!("{command} is not allowed: large objects are in one name space for all workspaces"))
                .hint("Keep the bytes in a column of type bytea.")
        }
        GuardHit::UsesServerFile(command) => of_server_file(command),
        GuardHit::Locks(relation) => {
            denied(format!("LOCK TABLE {relation} is not allowed in this mode: all workspaces would wait"))
                .hint("ROW EXCLUSIVE and weaker modes are allowed, and so are advisory locks and SELECT … FOR UPDATE.")
        }
        GuardHit::Explains => denied(
            "EXPLAIN is not allowed with estimates or counts: they come from the rows of all workspaces".to_owned(),
        )
        .hint("EXPLAIN (COSTS OFF), without ANALYZE, shows the plan."),
        GuardHit::NamesChannel | GuardHit::HidesChannel => {
            denied("LISTEN and NOTIFY are not allowed in a text that can't be read".to_owned())
                .hint("Send them as statements of their own, in UTF-8 or ASCII.")
        }
    }
}

const ALLOWED_BY_KEY: &str = "An operator may allow it for a key: pgcordon key allow.";

fn of_object(command: &str, object: &Object) -> Fault {
    let what = match object {
        Object::Relation(relation) => format!(" on {relation}"),
        Object::Function(name) => format!(" on {name}"),
        Object::Other => String::new(),
    };
    let text = format!("{command} is not allowed{what}: what all workspaces use is not a tenant's to change");
    Fault::new(Origin::Client, SqlState::INSUFFICIENT_PRIVILEGE, text)
        .hint("Migrations run with a system key. What is temporary is the session's own.")
}

fn of_server_file(what: &str) -> Fault {
    let text = format!("{what} is not allowed: the server's files and programs are not a tenant's");
    Fault::new(Origin::Client, SqlState::INSUFFICIENT_PRIVILEGE, text)
        .hint("COPY … FROM STDIN and TO STDOUT use the client's own; psql has \\copy for it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_hit_counts_and_a_rule_that_is_off_hits_nothing() {
        let hits = [GuardHit::ChangesRole, GuardHit::TouchesContext("app.workspace_id".into())];
        let none = Rules::default();
        let mut guard = Guard { role: Mode::Warn, ..Guard::default() };
        assert_eq!(guard.verdict(hits.iter(), none), Verdict::Refused(&hits[1]));
        guard.context = Mode::Off;
        assert_eq!(guard.verdict(hits.iter(), none), Verdict::Warned(&hits[0]));
        assert_eq!(Guard::off().verdict(hits.iter(), none), Verdict::Allowed);
        assert_eq!(Guard::default().verdict([].iter(), none), Verdict::Allowed);
    }

    #[test]
    fn what_a_key_is_allowed_is_no_hit_for_it() {
        let hits = [GuardHit::RunsDo, GuardHit::Explains];
        let guard = Guard { explain: Mode::Warn, ..Guard::default() };
        assert_eq!(guard.verdict(hits.iter(), Rules::from_iter([Rule::Explain])), Verdict::Refused(&hits[0]));
        assert_eq!(guard.verdict(hits.iter(), Rules::from_iter([Rule::Do])), Verdict::Warned(&hits[1]));
        assert_eq!(guard.verdict(hits.iter(), Rules::from_iter([Rule::Do, Rule::Explain])), Verdict::Allowed);
    }

    #[test]
    fn a_channel_that_is_found_is_the_workspaces_own_and_one_that_hides_is_refused() {
        let (found, hidden) = ([GuardHit::NamesChannel], [GuardHit::HidesChannel]);
        let (guard, allowed) = (Guard::default(), Rules::from_iter([Rule::Channels]));
        assert_eq!(guard.verdict(found.iter(), Rules::default()), Verdict::Allowed);
        assert_eq!(guard.verdict(hidden.iter(), Rules::default()), Verdict::Refused(&hidden[0]));
        assert_eq!(guard.verdict(hidden.iter(), allowed), Verdict::Allowed);
        assert!(guard.has_own_channels(Rules::default()) && !guard.has_own_channels(allowed));
        let warned = Guard { channels: Mode::Warn, ..Guard::default() };
        assert_eq!(warned.verdict(found.iter(), Rules::default()), Verdict::Warned(&found[0]));
        assert!(!warned.has_own_channels(Rules::default()));
    }

    #[test]
    fn every_rule_has_a_mode_of_its_own_in_the_configuration() {
        let written = serde_json::to_value(Guard::default()).expect("written");
        let keys: Vec<&String> = written.as_object().expect("a table").keys().collect();
        assert_eq!(keys.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            let guard: Guard = serde_json::from_value(serde_json::json!({ rule.as_str(): "warn" })).expect("read");
            let warned = Rule::ALL.into_iter().filter(|each| guard.mode(*each) == Mode::Warn);
            assert_eq!(warned.collect::<Vec<_>>(), [rule]);
            assert_eq!(Guard::off().mode(rule), Mode::Off);
        }
    }

    #[test]
    fn two_phase_commit_is_not_offered_and_all_else_is_not_permitted() {
        assert_eq!(fault(&GuardHit::PreparesTransaction).sqlstate, SqlState::FEATURE_NOT_SUPPORTED);
        assert_eq!(fault(&GuardHit::AltersRole("ALTER ROLE")).sqlstate, SqlState::INSUFFICIENT_PRIVILEGE);
    }
}
