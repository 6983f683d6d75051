//! What is to be done to a table, and how each change is taken back.

use tokio_postgres::Client;

use crate::control::schema::SchemaError;

/// Statements in order, with what takes each back, and what a person should know.
#[derive(Debug, Default)]
pub(super) struct Plan {
    steps: Vec<(String, Option<String>)>,
    pub(super) notes: Vec<String>,
}

impl Plan {
    pub(super) fn step(&mut self, sql: String, undo: Option<String>) {
        self.steps.push((sql, undo));
    }

    /// Statements that may be repeated, and leave nothing to take back.
    pub(super) fn always(&mut self, statements: impl IntoIterator<Item = String>) {
        self.steps.extend(statements.into_iter().map(|sql| (sql, None)));
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(super) fn statements(&self) -> Vec<String> {
        self.steps.iter().map(|(sql, _)| sql.clone()).collect()
    }

    /// Does all of it, or nothing.
    pub(super) async fn apply(&self, client: &mut Client, table: &str) -> Result<(), SchemaError> {
        let at = || SchemaError::at(format!("table {table}"));
        let transaction = client.transaction().await.map_err(at())?;
        for (sql, undo) in &self.steps {
            transaction.batch_execute(sql).await.map_err(SchemaError::at(format!("table {table}: {sql}")))?;
            if let Some(undo) = undo {
                transaction
                    .execute("INSERT INTO cordon.protection (relation, undo) VALUES ($1, $2)", &[&table, undo])
                    .await
                    .map_err(at())?;
            }
        }
        transaction.commit().await.map_err(at())
    }
}
