//! The proxy's configuration, as a file that other commands of pgcordon can use too (`--config`).

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use toml::{Table, Value};

use super::Args;
use super::args::{HTTP_PORT, PORT};
use super::memory::write_private;
use super::start::DATABASE;
use crate::cli::Failure;
use crate::config::Settings;
use crate::control::RoleNames;
use crate::tenant::ContextNames;

/// What `--config` says, or nothing.
pub(super) fn overrides(file: Option<&Path>) -> Result<Table, Failure> {
    let Some(file) = file else { return Ok(Table::new()) };
    let named = |cause: String| Failure::usage(format!("--config {}: {cause}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    // Its mistakes are told now, before Postgres is started.
    settings(file)?;
    text.parse().map_err(|error: toml::de::Error| named(error.message().to_owned()))
}

/// Reads a configuration, or tells all its mistakes.
pub(super) fn settings(file: &Path) -> Result<Settings, Failure> {
    Settings::load(Some(file), std::iter::empty()).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Failure::usage(format!("{}:\n  {}", file.display(), told.join("\n  ")))
    })
}

/// The addresses the proxy will listen on. They are held until it does, so that a port in use is told before Postgres
/// is started.
pub(super) struct Ports {
    pub(super) proxy: (String, TcpListener),
    pub(super) http: (String, TcpListener),
}

impl Ports {
    /// Takes the ports of the command line, else of the configuration, else the usual ones.
    pub(super) fn reserve(args: &Args, overrides: &Table) -> Result<Self, Failure> {
        let proxy = reserve(args.port, text(overrides, "server", "listen"), PORT, "--port")?;
        let http = reserve(args.http_port, text(overrides, "http", "listen"), HTTP_PORT, "--http-port")?;
        Ok(Self { proxy, http })
    }
}

fn reserve(
    port: Option<u16>,
    configured: Option<&str>,
    usual: u16,
    option: &str,
) -> Result<(String, TcpListener), Failure> {
    let address = match (port, configured) {
        (None, Some(configured)) => configured.to_owned(),
        (port, _) => format!("{}:{}", Ipv4Addr::LOCALHOST, port.unwrap_or(usual)),
    };
    let listener = TcpListener::bind(&address).map_err(|error| {
        Failure::outside(format!("can't listen on {address}: {error}"))
            .hint(format!("choose another with {option} N; {option} 0 takes any free one"))
    })?;
    let bound = listener.local_addr().map_err(|error| Failure::outside(error.to_string()))?;
    Ok((bound.to_string(), listener))
}

fn text<'a>(table: &'a Table, section: &str, key: &str) -> Option<&'a str> {
    table.get(section)?.get(key)?.as_str()
}

/// Whether a configuration has a key.
pub(super) fn has(table: &Table, section: &str, key: &str) -> bool {
    table.get(section).is_some_and(|section| section.get(key).is_some())
}

/// Lays one table over another: what `over` says holds, section by section.
pub(super) fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Sets one key.
pub(super) fn set(table: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Some(section) = section.as_table_mut() {
        section.insert(key.to_owned(), value.into());
    }
}

/// The names of the roles, where a configuration gives them, and the usual ones for the others.
pub(super) fn roles(configuration: &Table) -> Result<RoleNames, Failure> {
    let Some(names) = configuration.get("upstream").and_then(|upstream| upstream.get("roles")) else {
        return Ok(RoleNames::default());
    };
    names
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| Failure::usage(format!("upstream.roles: {}", error.message())))
}

/// The names of the settings that carry the workspace.
pub(super) fn context_names(configuration: &Table) -> ContextNames {
    let mut names = ContextNames::default();
    if let Some(name) = text(configuration, "context", "workspace_setting") {
        names.workspace = name.into();
    }
    if let Some(name) = text(configuration, "context", "seal_setting") {
        names.seal = name.into();
    }
    names
}

/// The size of the pools, where a configuration gives one.
pub(super) fn pool_size(configuration: &Table) -> Option<u32> {
    configuration.get("pool")?.get("size")?.as_integer()?.try_into().ok()
}

/// Where Postgres is: over its Unix socket, where our name is our password.
pub(super) fn upstream(table: &mut Table, socket: &Path, port: u16, admin_url: &str) {
    set(table, "upstream", "host", socket.display().to_string());
    set(table, "upstream", "port", i64::from(port));
    set(table, "upstream", "databases", vec![DATABASE.to_owned()]);
    set(table, "upstream", "control_database", DATABASE);
    set(table, "upstream", "admin_url", admin_url);
}

/// Writes the configuration, which holds a password and a token.
pub(super) fn write(configuration: &Table, file: &Path) -> Result<(), Failure> {
    let text = toml::to_string(configuration).map_err(|error| Failure::outside(error.to_string()))?;
    write_private(file, format!("# Written by pgcordon dev at each start.\n\n{text}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_laid_over_key_by_key() {
        let mut under: Table = "[pool]\nsize = 5\nidle = 1\n[http]\nlisten = 'a'".parse().expect("toml");
        overlay(&mut under, "[pool]\nsize = 7\n[tls]\ncertificate = 'c'".parse().expect("toml"));
        assert_eq!(
            under,
            "[pool]\nsize = 7\nidle = 1\n[http]\nlisten = 'a'\n[tls]\ncertificate = 'c'".parse().expect("toml")
        );
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_it() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let refused = reserve(Some(port), None, PORT, "--port").expect_err("it is taken");
        assert!(refused.to_string().contains(&format!("127.0.0.1:{port}")), "{refused}");
    }
}
