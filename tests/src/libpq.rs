//! libpq's clients: psql, and psycopg with a libpq that is newer than the system's.

use std::path::Path;
use std::process::Command;

use crate::dev::Dev;
use crate::wire::Url;

/// The connection parameters of a URL, by the name `localhost`, with further ones.
pub fn target(url: &str, parameters: &str) -> String {
    let url = Url::parse(url);
    format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname={} user={} password={} {parameters}",
        url.port, url.database, url.user, url.password
    )
}

/// What psql prints, or its error.
///
/// # Errors
/// psql fails.
pub fn psql(dev: &Dev, parameters: &str, command: &str) -> Result<String, String> {
    psql_at(dev.acme(), parameters, command)
}

/// The same for a connection URL.
///
/// # Errors
/// psql fails.
pub fn psql_at(url: &str, parameters: &str, command: &str) -> Result<String, String> {
    said(Command::new("psql").args(["-XAtc", command, &target(url, parameters)]))
}

/// What tests/drivers/libpq.py prints for an action on the connection with these parameters, or its error.
///
/// # Errors
/// It fails.
pub fn psycopg(url: &str, parameters: &str, action: &str) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/libpq.py");
    said(Command::new(python()).arg(script).args([&target(url, parameters), action]))
}

/// The interpreter with the drivers that tests/run.sh installs.
pub fn python() -> String {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools/venv/bin/python");
    std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| installed.display().to_string())
}

fn said(command: &mut Command) -> Result<String, String> {
    // Nothing of the user's own is to be used.
    let output = command.env("PGSSLCERT", "/nonexistent/cert").env("PGSSLKEY", "/nonexistent/key").output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [said, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if output.status.success() { Ok(said.trim().to_owned()) } else { Err(error) }
}
