//! A database with two metered resources, and how the proxy reaches it. The meters' triggers aren't part of this.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pgcordon::config::Settings;
use pgcordon::control::quota_truth::PostgresTruth;
use pgcordon::control::{self, ControlTarget, RoleNames, Snapshot, store};
use pgcordon::domain::WorkspaceId;
use pgcordon::quota::{Accounts, Definitions, Resource, ResourceId};
use tokio_postgres::Client;

use crate::scratch::{A, B, Database};

const RESOURCES: &str = "\
insert into cordon.workspace (id, name) values
    ('00000000-0000-0000-0000-00000000000a', 'acme'), ('00000000-0000-0000-0000-00000000000b', 'globex');
create table memo (id serial primary key, workspace_id uuid not null, body text);
grant select on note, memo to pgcordon_system;
insert into cordon.resource (name, default_limit) values ('segments', 5);
insert into cordon.resource (name, per, default_limit) values ('messages', 'month', 10);
insert into cordon.meter (resource_id, relation, count_sql)
    select r.id, 'public.' || t, format('SELECT count(*) FROM public.%s WHERE workspace_id = $1', t)
    from cordon.resource r, unnest(array['note', 'memo']) t where r.name = 'segments';
insert into cordon.meter (resource_id, relation, count_sql)
    select id, 'public.comment', 'SELECT 0' from cordon.resource where name = 'messages';";

pub(crate) fn acme() -> WorkspaceId {
    A.parse().unwrap()
}

pub(crate) fn globex() -> WorkspaceId {
    B.parse().unwrap()
}

/// A database with resources.
pub(crate) struct Stage {
    pub(crate) database: Database,
    pub(crate) admin: Client,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let database = Database::protected().await;
        let admin = database.admin().await;
        admin.batch_execute(RESOURCES).await.unwrap();
        let snapshot = Arc::new(ArcSwap::from_pointee(load(&database).await));
        Self { database, admin, snapshot }
    }

    pub(crate) fn settings(&self) -> Settings {
        settings(&self.database)
    }

    pub(crate) fn control_target(&self) -> ControlTarget {
        self.settings().control_target().unwrap()
    }

    pub(crate) fn truth(&self) -> PostgresTruth {
        let settings = self.settings();
        PostgresTruth::new(self.snapshot.clone(), settings.count_target().unwrap(), settings.control_target().unwrap())
    }

    pub(crate) fn definitions(&self) -> Arc<Definitions> {
        self.snapshot.load().quotas().clone()
    }

    pub(crate) fn resource(&self, name: &str) -> Resource {
        self.definitions().named(name).unwrap().clone()
    }

    pub(crate) fn id(&self, name: &str) -> ResourceId {
        self.resource(name).id
    }

    /// Loads the snapshot anew.
    pub(crate) async fn reload(&self) {
        self.snapshot.store(Arc::new(load(&self.database).await));
    }

    pub(crate) async fn insert(&self, table: &str, workspace: WorkspaceId, rows: i32) {
        let sql = format!(
            "insert into {table} (workspace_id, body) select '{workspace}', 'x' from generate_series(1, {rows})"
        );
        self.admin.batch_execute(&sql).await.unwrap();
    }
}

pub(crate) fn settings(database: &Database) -> Settings {
    let mut settings = Settings::default();
    settings.upstream.host = database.sockets().display().to_string();
    settings.upstream.databases = vec![database.name().to_owned()];
    settings
}

async fn load(database: &Database) -> Snapshot {
    let mut client = control::connect(&settings(database).control_target().unwrap()).await.unwrap();
    store::load(&mut client, &RoleNames::default()).await.unwrap().0
}

/// Books over this database, kept on the runtime of the test until it ends.
pub(crate) fn books(stage: &Stage, wait_timeout_ms: u64) -> Arc<Accounts> {
    let settings = pgcordon::quota::Settings { wait_timeout_ms, ..pgcordon::quota::Settings::default() };
    let accounts = Arc::new(Accounts::new(settings, stage.definitions()));
    let never = tokio::sync::watch::channel(false);
    let (kept, truth) = (accounts.clone(), Arc::new(stage.truth()));
    tokio::spawn(async move {
        let (_stopping, stopped) = never;
        pgcordon::quota::bookkeeper::keep(kept, truth, Box::new(|_, _| ()), stopped).await;
    });
    accounts
}
