//! The look at a new server connection before any tenant uses it: is it who we asked for, did nobody give the role
//! settings of its own, what is the time there, and how is it bound?
//!
//! A role may always alter itself, and every new backend then starts with the attacker's values, which DISCARD ALL
//! restores. `pg_db_role_setting` tells what is stored now; `pg_settings.source` tells what this backend really started
//! with, so that setting a value and taking it back at the right moment doesn't help.

use bytes::Bytes;

use super::frames::{Frames, int32};
use super::repair::repair;
use super::{Target, garbled};
use crate::domain::{Fault, Origin, SqlState, clock};
use crate::tenant::BindBy;

/// One round trip, nothing named, nothing left behind. Every name and operator is qualified: the search path may be the
/// attacker's.
const QUESTION: &str = "\
SELECT 'clock', pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()))::pg_catalog.int8::pg_catalog.text, ''
UNION ALL SELECT p.proname::pg_catalog.text, p.oid::pg_catalog.text, ''
  FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
  WHERE n.nspname OPERATOR(pg_catalog.=) 'cordon'::pg_catalog.name
    AND (p.proname OPERATOR(pg_catalog.=) 'mark'::pg_catalog.name AND p.proargtypes OPERATOR(pg_catalog.=) ''::pg_catalog.oidvector
      OR p.proname OPERATOR(pg_catalog.=) 'bind'::pg_catalog.name AND p.proargtypes OPERATOR(pg_catalog.=) '25'::pg_catalog.oidvector)
UNION ALL SELECT 'user', current_user::pg_catalog.text, session_user::pg_catalog.text
UNION ALL SELECT 'stored', c.entry, ''
  FROM pg_catalog.pg_db_role_setting AS s
  CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c (entry)
  WHERE s.setrole OPERATOR(pg_catalog.=) pg_catalog.to_regrole(pg_catalog.quote_ident(session_user::pg_catalog.text))::pg_catalog.oid
    AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setdatabase OPERATOR(pg_catalog.=) (
      SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
UNION ALL SELECT 'effective', g.name, g.setting FROM pg_catalog.pg_settings AS g
  WHERE g.source OPERATOR(pg_catalog.=) 'user'::pg_catalog.text
    OR g.source OPERATOR(pg_catalog.=) 'database user'::pg_catalog.text";

/// What a client reads when the settings of the upstream role are not the approved ones.
const UNFIT: &str = "no safe connection to the database server can be made";

/// What was learnt of a server connection.
pub(super) struct Inspected {
    /// The database's clock minus ours, in seconds.
    pub(super) clock_offset: i64,
    /// How the database is bound.
    pub(super) bind_by: BindBy,
}

/// Asks.
pub(super) async fn inspect(
    frames: &mut Frames<'_>,
    target: &Target,
    parameters: &mut Vec<(String, String)>,
    database: &str,
    role: &str,
) -> Result<Inspected, Fault> {
    let answer = frames.ask(QUESTION, parameters).await?;
    let rows = answer.rows.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let verdict = match answer.error {
        // A role that gives itself a timeout of a millisecond ends up here.
        Some((sqlstate, message)) => Err(format!("the inspection failed: {message} ({sqlstate})")),
        None => judge(&rows, target, role),
    };
    if let Err(differences) = verdict {
        let fault = unfit(database, role, &differences);
        if target.repair_role_settings {
            repair(frames, target, database, role).await?;
        }
        return Err(fault);
    }
    let told = |kind: &str| rows.iter().find(|row| row[0] == kind).map(|row| row[1].as_str());
    let number = |function: &str| told(function).and_then(|number| number.parse().ok());
    let bind_by = match (number("bind"), number("mark")) {
        (Some(bind), _) => BindBy::Call(bind),
        (None, Some(mark)) => BindBy::Mark(mark),
        (None, None) => BindBy::Settings,
    };
    let database_now = told("clock").and_then(|seconds| seconds.parse::<i64>().ok());
    let database_now = database_now.ok_or_else(|| garbled("the inspection brought no time"))?;
    Ok(Inspected { clock_offset: database_now.saturating_sub(clock::unix_seconds()), bind_by })
}

/// What must not be so, or nothing.
fn judge(rows: &[[String; 3]], target: &Target, role: &str) -> Result<(), String> {
    let none = std::collections::BTreeMap::new();
    let approved = target.approved.get(role).unwrap_or(&none);
    let is_approved = |name: &str| approved.keys().any(|known| known.eq_ignore_ascii_case(name));
    let mut differences = Vec::new();
    let mut seen = Vec::new();
    for [kind, first, second] in rows {
        match kind.as_str() {
            "user" if first != role || second != role => {
                differences.push(format!("the session's users are {first:?} and {second:?}"));
            }
            "stored" => {
                let (name, value) = first.split_once('=').unwrap_or((first, ""));
                match approved.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                    Some((known, wanted)) if wanted == value => seen.push(known),
                    _ => differences.push(format!("{name} is set to {value:?}")),
                }
            }
            "effective" if !is_approved(first) => differences.push(format!("{first} took effect as {second:?}")),
            _ => {}
        }
    }
    differences.extend(approved.keys().filter(|name| !seen.contains(name)).map(|name| format!("{name} is not set")));
    if !rows.iter().any(|row| row[0] == "user") {
        differences.push("the server does not say who we are".to_owned());
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

fn unfit(database: &str, role: &str, what: &str) -> Fault {
    tracing::error!(
        severity = "critical",
        database,
        role,
        "the upstream role's settings are not the approved ones, the server connection is closed: {what}"
    );
    Fault::new(Origin::Upstream, SqlState::CANNOT_CONNECT_NOW, UNFIT)
        .hint("The operator finds the cause in pgcordon's log.")
        .log(format!("role {role:?} has settings that upstream.approved_role_settings does not list: {what}"))
}

/// Whether a connection was refused for the settings of its role.
pub(super) fn is_unfit(fault: &Fault) -> bool {
    fault.message == UNFIT
}

/// A DataRow of three texts.
fn row(mut body: Bytes) -> Result<[String; 3], Fault> {
    if body.len() < 2 || body.split_to(2).as_ref() != [0, 3] {
        return Err(garbled("a row hasn't three columns"));
    }
    let mut column = || {
        let length = usize::try_from(int32(&mut body)?).map_err(|_| garbled("a column is null"))?;
        if length > body.len() {
            return Err(garbled("a column is longer than its row"));
        }
        Ok(String::from_utf8_lossy(&body.split_to(length)).into_owned())
    };
    Ok([column()?, column()?, column()?])
}
