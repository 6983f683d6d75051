//! Whether a key may run as a role that an operator names. Row-level security is the wall, so a workspace's key may be
//! nothing that the wall doesn't hold for; no key at all may be what reads the control data.

use tokio_postgres::Client;

use super::settings::RoleNames;
use super::store::StoreError;
use crate::domain::KeyKind;

/// What Postgres knows of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it may log in.
    pub may_log_in: bool,
    /// Whether it is a superuser, passes by row-level security, or makes roles or replicas.
    pub is_powerful: bool,
    /// Whether it owns tables, in any database: an owner may switch their walls off.
    pub owns_tables: bool,
    /// Roles it may act as that are powerful, Postgres' own, or own tables.
    pub acts_as: Vec<String>,
    /// All roles it may act as.
    pub member_of: Vec<String>,
}

/// Looks a role up; none if there is no such role.
///
/// # Errors
/// Postgres refuses.
pub async fn find(client: &Client, name: &str) -> Result<Option<Role>, StoreError> {
    // Roles belong to the whole server, and so does what they own.
    let row = client
        .query_opt(
            "WITH role AS (
                 SELECT r.oid, r.rolname::text AS name, r.rolcanlogin, r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication AS is_powerful,
                     EXISTS (SELECT FROM pg_catalog.pg_shdepend d WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = r.oid
                         AND d.deptype = 'o' AND d.classid = 'pg_catalog.pg_class'::regclass) AS owns_tables
                 FROM pg_catalog.pg_roles r),
             other AS (SELECT o.* FROM role o, role r WHERE r.name = $1 AND o.oid <> r.oid AND pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER'))
             SELECT r.rolcanlogin, r.is_powerful, r.owns_tables,
                 ARRAY(SELECT o.name FROM other o WHERE o.is_powerful OR o.owns_tables OR o.name ~ '^pg_' ORDER BY 1),
                 ARRAY(SELECT o.name FROM other o ORDER BY 1)
             FROM role r WHERE r.name = $1",
            &[&name],
        )
        .await?;
    Ok(row.map(|row| Role {
        name: name.to_owned(),
        may_log_in: row.get(0),
        is_powerful: row.get(1),
        owns_tables: row.get(2),
        acts_as: row.get(3),
        member_of: row.get(4),
    }))
}

/// Why a key of this kind mustn't run as this role; nothing if it may.
pub fn objection(role: &Role, kind: KeyKind, roles: &RoleNames) -> Option<String> {
    let name = &role.name;
    let RoleNames { owner, system, cordon, control, .. } = roles;
    if name == cordon || name == control {
        return Some(format!("the role {name} has the control data: no key may run as it"));
    }
    if !role.may_log_in {
        return Some(format!("the role {name} can't log in"));
    }
    if kind == KeyKind::System {
        return None;
    }
    if name == owner || name == system {
        return Some(format!("the role {name} is pgcordon's own, and no workspace's"));
    }
    if role.is_powerful {
        return Some(format!(
            "the role {name} is a superuser, passes by row-level security, or makes roles or replicas: it isn't held to a workspace"
        ));
    }
    if role.owns_tables {
        return Some(format!("the role {name} owns tables, and may switch their row-level security off"));
    }
    let trusted = |other: &&String| [owner, system, cordon, control].contains(other);
    role.acts_as
        .iter()
        .chain(role.member_of.iter().filter(trusted))
        .next()
        .map(|other| format!("the role {name} is a member of {other}, and may act as it: it isn't held to a workspace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str) -> Role {
        Role { name: name.to_owned(), may_log_in: true, ..Role::default() }
    }

    #[test]
    fn a_workspaces_key_runs_as_nothing_that_passes_by_the_walls() {
        let roles = RoleNames::default();
        let refused = |role: &Role| objection(role, KeyKind::Workspace, &roles).unwrap_or_default();
        assert_eq!(refused(&plain("reporting")), "");
        assert_eq!(refused(&Role { member_of: vec!["staff".to_owned()], ..plain("reporting") }), "");
        for name in ["pgcordon_owner", "pgcordon_system", "cordon", "pgcordon_control"] {
            assert!(refused(&plain(name)).contains(name), "{name}");
            assert!(refused(&Role { member_of: vec![name.to_owned()], ..plain("x") }).contains(name), "{name}");
        }
        assert!(refused(&Role { may_log_in: false, ..plain("x") }).contains("can't log in"));
        assert!(refused(&Role { is_powerful: true, ..plain("x") }).contains("superuser"));
        assert!(refused(&Role { owns_tables: true, ..plain("x") }).contains("owns tables"));
        assert!(refused(&Role { acts_as: vec!["pg_read_all_data".to_owned()], ..plain("x") }).contains("pg_read_all"));
    }

    #[test]
    fn a_system_key_runs_as_anything_but_what_has_the_control_data() {
        let roles = RoleNames::default();
        let refused = |role: &Role| objection(role, KeyKind::System, &roles);
        assert_eq!(refused(&Role { is_powerful: true, owns_tables: true, ..plain("postgres") }), None);
        assert_eq!(refused(&plain("pgcordon_owner")), None);
        for name in ["cordon", "pgcordon_control"] {
            assert!(refused(&plain(name)).is_some(), "{name}");
        }
    }
}
