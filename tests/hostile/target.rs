//! What the corpus is aimed at: pgcordon, or the usual way of keeping tenants apart, policies that read a plain setting, behind
//! PgBouncer in transaction mode.

use pgcordon_tests::bouncer::Bouncer;
use pgcordon_tests::cluster::Cluster;
use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Url, Wire};

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";
const PASSWORD: &str = "not-a-secret";

/// Where tenants connect, and what holds them apart.
pub(crate) enum Target {
    Pgcordon(Dev),
    Plain { cluster: Cluster, bouncer: Bouncer },
}

impl Target {
    pub(crate) fn pgcordon(pool_size: usize, guard: bool) -> Self {
        let pool_size = pool_size.to_string();
        // Metered, for reports can be forged only where there are any.
        let options = ["--pool-size", &pool_size, "--quota", "segments=Segment:100000", "--no-guard"];
        Self::Pgcordon(Dev::start(if guard { &options[..4] } else { &options }))
    }

    /// The demo schema with policies as they are found in most places, and one role for all.
    pub(crate) fn plain(pool_size: usize) -> Self {
        let cluster = Cluster::start();
        let mut admin = cluster.open("postgres");
        // No password is asked for where the tests come from, so PgBouncer has to.
        for (what, sql) in [
            (
                "roles",
                format!(
                    "create role owner_role; create role app_user login password '{PASSWORD}'; grant create on schema public to owner_role"
                ),
            ),
            (
                "workspaces",
                format!(
                    "create schema cordon; create table cordon.workspace (id uuid, name text); \
                     insert into cordon.workspace values ('{ACME}', 'acme'), ('{GLOBEX}', 'globex')"
                ),
            ),
            ("schema", format!("set role owner_role; {}; reset role", include_str!("../../config/dev/schema.sql"))),
            ("rows", include_str!("../../config/dev/seed.sql").to_owned()),
            ("no more of it", "drop schema cordon cascade".to_owned()),
            ("policies", POLICIES.to_owned()),
        ] {
            let answer = admin.query(&sql);
            assert!(!answer.contains("E("), "{what}: {answer}");
        }
        let bouncer = Bouncer::start(cluster.address(), "postgres", ("app_user", PASSWORD), pool_size);
        Self::Plain { cluster, bouncer }
    }

    pub(crate) fn acme(&self) -> String {
        match self {
            Self::Pgcordon(dev) => dev.acme().to_owned(),
            Self::Plain { bouncer, .. } => bouncer.url(),
        }
    }

    pub(crate) fn globex(&self) -> String {
        match self {
            Self::Pgcordon(dev) => dev.globex().to_owned(),
            Self::Plain { bouncer, .. } => bouncer.url(),
        }
    }

    pub(crate) fn admin(&self) -> Wire {
        match self {
            Self::Pgcordon(dev) => dev.admin(),
            Self::Plain { cluster, .. } => cluster.open("postgres"),
        }
    }

    /// The attacker's workspace and the victim's.
    pub(crate) fn workspaces(&self) -> [String; 2] {
        match self {
            Self::Pgcordon(dev) => [0, 1].map(|number| dev.text(&format!("/workspaces/{number}/id")).to_owned()),
            Self::Plain { .. } => [ACME, GLOBEX].map(str::to_owned),
        }
    }

    /// The role that all tenants share in Postgres.
    pub(crate) const fn role(&self) -> &'static str {
        match self {
            Self::Pgcordon(_) => "pgcordon_app",
            Self::Plain { .. } => "app_user",
        }
    }

    /// Whether it is pgcordon, which knows the workspace by itself. Elsewhere the application says it.
    pub(crate) const fn binds(&self) -> bool {
        matches!(self, Self::Pgcordon(_))
    }

    /// Starts it again if it has died of an attack, and tells whether it had. `pgcordon dev` isn't: its end fails every attack to come.
    pub(crate) fn revive(&mut self) -> bool {
        match self {
            Self::Pgcordon(_) => false,
            Self::Plain { bouncer, .. } => bouncer.revive(),
        }
    }

    /// Puts back what a tenant can do to the role.
    pub(crate) fn undo(&self) -> String {
        let role = self.role();
        let password = if self.binds() { "null".to_owned() } else { format!("'{PASSWORD}'") };
        format!(
            "alter role {role} reset all; alter role {role} password {password}; \
             alter default privileges for role {role} revoke all on tables from public; \
             drop schema if exists evil cascade"
        )
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> (String, u16) {
        let url = Url::parse(&self.acme());
        (url.host, url.port)
    }

    /// The accounts of a proxy that counts: what it says each workspace uses of what is metered.
    pub(crate) fn usage(&self, workspace: &str) -> Option<u64> {
        let Self::Pgcordon(dev) = self else { return None };
        dev.http(&format!("/api/workspaces/{workspace}/quota")).pointer("/quotas/0/currentUsage")?.as_u64()
    }
}

/// For each table what a careful team writes: enabled, forced, both ways, NULLIF, a role that owns nothing.
const POLICIES: &str = "\
do $$ declare t regclass; begin \
  for t in select attrelid::regclass from pg_attribute a join pg_class c on c.oid = attrelid where attname = 'workspaceId' and relkind = 'r' loop \
    execute format('alter table %s enable row level security', t); execute format('alter table %s force row level security', t); \
    execute format('create policy tenant on %s using (\"workspaceId\" = nullif(current_setting(''app.workspace_id'', true), '''')::uuid)', t); \
    execute format('alter table %s alter \"workspaceId\" set default nullif(current_setting(''app.workspace_id'', true), '''')::uuid', t); \
    execute format('grant select, insert, update, delete on %s to app_user', t); \
  end loop; end $$; \
alter table \"Workspace\" enable row level security; alter table \"Workspace\" force row level security; \
create policy tenant on \"Workspace\" using (id = nullif(current_setting('app.workspace_id', true), '')::uuid); \
alter table \"JourneyStep\" enable row level security; alter table \"JourneyStep\" force row level security; \
create policy tenant on \"JourneyStep\" using (exists (select from \"Journey\" j where j.id = \"journeyId\")); \
grant select, insert, update, delete on \"Workspace\", \"JourneyStep\" to app_user; grant select on \"Country\", \"JourneyOverview\" to app_user; \
grant usage on all sequences in schema public to app_user";
