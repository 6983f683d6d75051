//! A tenant's session whose messages are kept, and metered tables for it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use pgcordon::control::RoleNames;
use pgcordon::control::schema::meter::{self, Done, Options};
use pgcordon::control::schema::{SchemaError, protect};
use pgcordon::quota::meter::{SQLSTATE, read};
use pgcordon::quota::{Change, ResourceId, Unread};
use pgcordon::tenant::{MeterTag, SigningKey};
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::scratch::{APPLICATION, Database, pid, set_context};

/// Tables of every kind, protected; `seg` holds a tree of its own.
const FAMILY: &str = "\
create table seg (id int primary key, workspace_id uuid not null, name text, state text default 'on', \
    parent int references seg on delete cascade, back text default E'a\\\\\\\\b', unique (workspace_id, name));
create table child (id serial primary key, workspace_id uuid not null, seg_id int references seg on delete cascade, state text default 'on');
create table step (id serial primary key, child_id int not null references child on delete cascade);
create table parted (id int, workspace_id uuid not null, k int, primary key (id, k)) partition by list (k);
create table parted_1 partition of parted for values in (1);
create table parted_2 partition of parted for values in (2) partition by list (id);
create table parted_2_low partition of parted_2 for values in (1, 2, 3, 4, 5, 6, 7, 8, 9);
create table parted_2_rest partition of parted_2 default;
create table heir (id int, workspace_id uuid not null);
create table heir_child (extra int) inherits (heir);";

impl Database {
    /// Protects [`FAMILY`] in a database of [`Database::protected`].
    pub(crate) async fn with_family(self) -> Self {
        let admin = self.admin().await;
        admin.batch_execute(FAMILY).await.unwrap();
        for table in ["seg", "child", "parted", "parted_1", "parted_2", "parted_2_low", "heir", "heir_child"] {
            self.protect(table, &protect::Options::default()).await;
        }
        self.protect("step", &protect::Options { via: Some("child_id".to_owned()), ..protect::Options::default() })
            .await;
        self
    }

    pub(crate) async fn meter(&self, options: &Options) -> Result<Done, SchemaError> {
        meter::meter(&mut self.admin().await, &RoleNames::default(), options).await
    }

    /// Meters tables without a filter, and returns the resource's id.
    pub(crate) async fn metered(&self, resource: &str, tables: &[&str]) -> i32 {
        self.meter(&named(resource, tables)).await.unwrap().resource
    }

    /// A session of a role that keeps what it is told.
    pub(crate) async fn heard(&self, role: &str) -> Tenant {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.sockets()).user(role).dbname(self.name());
        let (client, mut connection) = config.connect(NoTls).await.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    hears.lock().unwrap().push(notice);
                }
            }
        });
        let admin = self.admin().await;
        let key = "select secret from cordon.signing_key where retired_at is null order by id desc limit 1";
        let key = SigningKey::new(1, admin.query_one(key, &[]).await.unwrap().get(0));
        let pid = pid(&client).await;
        Tenant { client, heard, tag: MeterTag::new(&key, pid), pid }
    }

    /// One of the application role, bound to a workspace.
    pub(crate) async fn tenant(&self, workspace: &str) -> Tenant {
        let tenant = self.heard(APPLICATION).await;
        set_context(&tenant.client, workspace, &self.seal(workspace, tenant.pid, 0).await).await;
        tenant
    }
}

pub(crate) fn named(resource: &str, tables: &[&str]) -> Options {
    let tables = tables.iter().map(|table| (*table).to_owned()).collect();
    Options { resource: resource.to_owned(), tables, ..Options::default() }
}

pub(crate) struct Tenant {
    pub(crate) client: Client,
    heard: Arc<Mutex<Vec<DbError>>>,
    tag: MeterTag,
    pub(crate) pid: i32,
}

impl Tenant {
    /// What was told since the last time, with the code of a report, read as the proxy does.
    pub(crate) fn take(&self) -> Vec<Result<Vec<(i32, Change)>, Unread>> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        let code = std::str::from_utf8(&SQLSTATE).unwrap();
        let reports = heard.iter().filter(|notice| notice.code().code() == code);
        let read = reports.map(|notice| read(notice.detail().unwrap_or_default().as_bytes(), &self.tag));
        read.map(|read| read.map(|changes| changes.into_iter().map(|(ResourceId(id), change)| (id, change)).collect()))
            .collect()
    }

    /// Runs a string of statements, which must succeed, and returns what was reported: `1:+3 | 1:-1 2:+1`.
    pub(crate) async fn reports(&self, sql: &str) -> String {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        self.told()
    }

    /// What was reported since the last time.
    pub(crate) fn told(&self) -> String {
        let one = |(id, change): &(i32, Change)| match change {
            Change::Added(rows) => format!("{id}:+{rows}"),
            Change::Removed(rows) => format!("{id}:-{rows}"),
            Change::Doubtful(rows) => format!("{id}:~{rows}"),
        };
        let report = |read: Result<Vec<(i32, Change)>, Unread>| match read {
            Ok(changes) => changes.iter().map(one).collect::<Vec<_>>().join(" "),
            Err(unread) => format!("{unread:?}"),
        };
        self.take().into_iter().map(report).collect::<Vec<_>>().join(" | ")
    }
}
