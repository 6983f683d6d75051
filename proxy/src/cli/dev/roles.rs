//! The upstream roles, under the names that the configuration gives them.

use toml::Table;

use super::cluster::SUPERUSER;

/// The names of the roles.
pub(super) struct Roles {
    pub(super) owner: String,
    pub(super) application: String,
    pub(super) read_only: String,
    pub(super) system: String,
    pub(super) control: String,
}

impl Roles {
    /// The names of `[upstream.roles]`, and the usual ones for the others.
    pub(super) fn of(configuration: &Table) -> Self {
        let named = configuration.get("upstream").and_then(|upstream| upstream.get("roles"));
        let name =
            |key: &str, usual: &str| named.and_then(|roles| roles.get(key)?.as_str()).unwrap_or(usual).to_owned();
        Self {
            owner: name("owner", "pgcordon_owner"),
            application: name("application", "pgcordon_app"),
            read_only: name("read_only", "pgcordon_readonly"),
            system: name("system", "pgcordon_system"),
            control: name("control", "pgcordon_control"),
        }
    }

    /// Those that pgcordon logs in as.
    pub(super) fn logins(&self) -> Vec<String> {
        let logins = [&self.application, &self.read_only, &self.system, &self.control];
        logins.into_iter().cloned().chain([SUPERUSER.to_owned()]).collect()
    }
}
