//! What a tenant's role is told.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::control::schema::{SchemaError, ident};
use crate::tenant::ContextNames;

/// What came of a try.
pub(super) enum Tried {
    /// So many rows.
    Rows(u64),
    /// Row-level security, or a missing privilege, kept it off.
    Refused,
    /// A constraint kept it off, which Postgres looks at behind the policies.
    LetThrough,
    /// Something else: nothing is known.
    Unknown,
}

/// A role that tenants' statements run as.
pub(super) struct Tenant<'a> {
    pub(super) client: &'a Client,
    pub(super) role: &'a str,
    pub(super) names: &'a ContextNames,
}

impl Tenant<'_> {
    /// Runs a statement as this role in a context of a workspace and a seal, and takes it back.
    pub(super) async fn ask(&self, (workspace, seal): (&str, &str), sql: &str) -> Result<Tried, SchemaError> {
        let at = || SchemaError::at(format!("a try as {}", self.role));
        let prepare = format!("SAVEPOINT probe; SET LOCAL ROLE {}", ident(self.role));
        self.client.batch_execute(&prepare).await.map_err(at())?;
        for (setting, value) in [(&self.names.workspace, workspace), (&self.names.seal, seal)] {
            let values: [&(dyn ToSql + Sync); 2] = [setting, &value];
            self.client.query("SELECT set_config($1, $2, true)", &values).await.map_err(at())?;
        }
        let marked = match seal {
            "" => Ok(()),
            _ => self.client.query("SELECT cordon.mark()", &[]).await.map(drop),
        };
        let done = match marked {
            Ok(()) => self.client.execute(sql, &[]).await.map_or_else(|error| of(&error), Tried::Rows),
            // It isn't what it should be, which another rule tells.
            Err(_) => Tried::Unknown,
        };
        self.client.batch_execute("ROLLBACK TO probe; RELEASE probe").await.map_err(at())?;
        Ok(done)
    }
}

fn of(error: &tokio_postgres::Error) -> Tried {
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Tried::Refused,
        // A row for which there is no partition is told with this one, in front of the policies.
        Some(&SqlState::CHECK_VIOLATION) => Tried::Unknown,
        Some(code) if code.code().starts_with("23") => Tried::LetThrough,
        _ => Tried::Unknown,
    }
}
