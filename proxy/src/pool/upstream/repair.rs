//! Putting a role's own settings back to the approved ones. A role may alter itself, so its own backend is enough; that
//! backend is closed all the same.

use super::Target;
use super::frames::Frames;
use crate::domain::Fault;

pub(super) async fn repair(frames: &mut Frames<'_>, target: &Target, database: &str, role: &str) -> Result<(), Fault> {
    let database = database.replace('"', "\"\"");
    let mut statements = vec![
        "SET statement_timeout = 0".to_owned(),
        "ALTER ROLE CURRENT_USER RESET ALL".to_owned(),
        format!("ALTER ROLE CURRENT_USER IN DATABASE \"{database}\" RESET ALL"),
    ];
    for (name, value) in target.approved.get(role).into_iter().flatten() {
        let (name_text, name) = (name.replace('\'', "''"), name.replace('"', "\"\""));
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        // A list can't be written as one literal in ALTER ROLE … SET; set_config takes it as it is stored.
        statements.push(format!("SELECT pg_catalog.set_config(E'{name_text}', E'{value}', false)"));
        statements.push(format!("ALTER ROLE CURRENT_USER SET \"{name}\" FROM CURRENT"));
    }
    for sql in statements {
        let answer = frames.ask(&sql, &mut Vec::new()).await?;
        if let Some((sqlstate, message)) = answer.error {
            tracing::error!(role, "the role's settings can't be put back to the approved ones: {message} ({sqlstate})");
            return Ok(());
        }
    }
    tracing::warn!(role, "the role's settings have been put back to the approved ones");
    Ok(())
}
