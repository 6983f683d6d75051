//! The settings a client asks for in its startup packet: parameters and `options`, as Postgres reads them.

use std::sync::Arc;

use crate::backend::Settings;
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::guard_hit::is_switched_on;
use crate::sql::{GuardHit, Rules};
use crate::tenant::guard::{self, Verdict};
use crate::tenant::{Binding, ContextNames, Guard};
use crate::wire::startup::Startup;

use super::server_switches;

/// The settings that a startup packet asks for. Whether Postgres accepts them is Postgres' to say.
///
/// # Errors
/// `options` that don't read as settings, a context other than the key's own, or, from a tenant, another role.
pub(super) fn of(
    startup: &Startup,
    binding: &Binding,
    names: &ContextNames,
    guard: &Guard,
    allowed: Rules,
) -> Result<Arc<Settings>, Fault> {
    let mut wanted = Vec::new();
    for (name, value) in all(startup)? {
        if names.contains(&name) {
            if binding.workspace().is_none_or(|own| value != own.to_string()) {
                let text = format!("this key can't choose {name}: the workspace is the key's own");
                return Err(Fault::new(Origin::Client, SqlState::INSUFFICIENT_PRIVILEGE, text));
            }
        } else if let Some(hit) = attempt(&name, &value)
            && binding.workspace().is_some()
            && matches!(guard.verdict([&hit].into_iter(), allowed), Verdict::Refused(_))
        {
            return Err(guard::fault(&hit));
        } else {
            wanted.push((name, value));
        }
    }
    Ok(Settings::of(wanted))
}

/// Names and values in the order in which Postgres applies them: `options` first, in whatever order they came.
fn all(startup: &Startup) -> Result<Vec<(String, String)>, Fault> {
    let mut all = startup.parameter("options").map_or(Ok(Vec::new()), server_switches::settings)?;
    let is_no_setting =
        |name: &str| matches!(name, "user" | "database" | "replication" | "options") || name.starts_with("_pq_.");
    all.extend(startup.parameters.iter().filter(|(name, _)| !is_no_setting(name)).cloned());
    Ok(all)
}

/// What the guard has a rule about: another role of the session, as SET ROLE makes it, and row_security off.
fn attempt(name: &str, value: &str) -> Option<GuardHit> {
    if is_another_role(name, value) {
        return Some(GuardHit::ChangesRole);
    }
    (name.eq_ignore_ascii_case("row_security") && !is_switched_on(value)).then_some(GuardHit::SetsRowSecurity)
}

/// Whether a setting makes another role of the session, as SET ROLE does.
fn is_another_role(name: &str, value: &str) -> bool {
    name.eq_ignore_ascii_case("session_authorization") || (name.eq_ignore_ascii_case("role") && value != "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_first_and_the_last_ones_count() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parameters = vec![
            pair("work_mem", "1MB"),
            pair("options", "-c work_mem=7MB"),
            pair("user", "x"),
            pair("options", "-c work_mem=2MB -c geqo=off"),
            pair("_pq_.y", "1"),
            pair("TimeZone", "UTC"),
        ];
        let all = all(&Startup { minor: 0, parameters }).expect("settings");
        assert_eq!(
            all,
            [pair("work_mem", "2MB"), pair("geqo", "off"), pair("work_mem", "1MB"), pair("TimeZone", "UTC")]
        );
    }

    #[test]
    fn another_role_is_told_from_the_keys_own() {
        assert!(is_another_role("Role", "postgres") && is_another_role("session_authorization", "x"));
        assert!(!is_another_role("role", "none") && !is_another_role("row_security", "x"));
        assert_eq!(attempt("ROW_security", "off"), Some(GuardHit::SetsRowSecurity));
        assert_eq!((attempt("row_security", "On"), attempt("work_mem", "off")), (None, None));
    }
}
