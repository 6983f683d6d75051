//! The walls around the application's tables: the `cordon` schema and the roles, policies and grants, and what `harden`
//! takes away.

use tokio_postgres::Client;

use super::prepare::failed;
use super::progress::Progress;
use super::schema::{self, Part, SURROUNDINGS, Table};
use super::shared;
use crate::cli::Failure;
use crate::control::RoleNames;

/// Protects every table of the application; returns one that a person may try.
pub(super) async fn raise(client: &mut Client, roles: &RoleNames, progress: &Progress) -> Result<Option<String>, Failure> {
    let tables = schema::tables(client).await.map_err(failed("the application's tables"))?;
    let protected: Vec<&Table> = tables.iter().filter(|table| matches!(table.part, Part::Tenants { .. })).collect();
    for table in &protected {
        protect(client, table, roles).await?;
    }
    progress.say(&format!("protected {}", count(protected.len(), "table")));
    for table in &tables {
        if let Some(statements) = shared::statements(table, roles) {
            client.batch_execute(&statements).await.map_err(failed("the grants on tables without a workspace"))?;
        }
        if let Some(line) = shared::told(table) {
            progress.say(&line);
        }
    }
    surroundings(client, roles, progress).await?;
    harden(client, roles).await?;
    let shown = protected.iter().find(|table| table.name.contains("Segment")).or_else(|| protected.first());
    Ok(shown.map(|table| table.name.strip_prefix("public.").unwrap_or(&table.name).to_owned()))
}

async fn surroundings(client: &Client, roles: &RoleNames, progress: &Progress) -> Result<(), Failure> {
    let found = client.query_one(SURROUNDINGS, &[]).await.map_err(failed("the application's views"))?;
    let (schemas, views, sequences): (Vec<String>, Vec<String>, Vec<String>) =
        (found.get(0), found.get(1), found.get(3));
    let grants = shared::general(&schemas, &views, &sequences, roles);
    client.batch_execute(&grants).await.map_err(failed("the grants on schemas and views"))?;
    for view in found.get::<_, Vec<String>>(2) {
        progress
            .say(&format!("{view} is closed to tenants: it doesn't run with the caller's rights (security_invoker)"));
    }
    Ok(())
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

// ---- stub until h-c ----
pub(super) async fn migrate(c: &mut Client, r: &RoleNames) -> Result<(), Failure> {
    let mut sql = String::from(
        "create schema if not exists cordon; create or replace function cordon.workspace_id() returns uuid stable language sql return nullif(current_setting('app.workspace_id',true),'')::uuid; create table if not exists cordon.workspace(id uuid primary key default gen_random_uuid(), name text unique); create table if not exists cordon.api_key(key_id text primary key, workspace_id uuid, kind text, role text, name text, verifier text, expires_at timestamptz, revoked_at timestamptz, created_at timestamptz default now()); alter table cordon.workspace add if not exists status text default 'active'; create table if not exists cordon.signing_key(id int generated always as identity, secret bytea, retired_at timestamptz); insert into cordon.signing_key(secret) select sha256('x') where not exists (select from cordon.signing_key); grant usage on schema cordon to public; grant select on all tables in schema cordon to public;",
    );
    for x in [&r.owner, &r.application, &r.read_only, &r.system, &r.control] {
        sql += &format!("do $$ begin create role {x} login; exception when duplicate_object then null; end $$;");
    }
    c.batch_execute(&sql).await.map_err(failed("migrate"))
}
async fn protect(c: &mut Client, t: &Table, r: &RoleNames) -> Result<(), Failure> {
    let Part::Tenants { column } = &t.part else { return Ok(()) };
    let n = &t.name;
    let a = &r.application;
    c.batch_execute(&format!("alter table {n} enable row level security; alter table {n} force row level security; drop policy if exists w on {n}; create policy w on {n} using (\"{column}\" = (select cordon.workspace_id())); grant select,insert,update,delete on {n} to {a}")).await.map_err(failed("protect"))
}
async fn harden(_c: &mut Client, _r: &RoleNames) -> Result<(), Failure> {
    Ok(())
}
