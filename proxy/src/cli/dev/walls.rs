//! stub
use super::prepare::failed;
use super::progress::Progress;
use super::roles::Roles;
use super::schema;
use crate::cli::Failure;
use tokio_postgres::Client;
pub(super) async fn migrate(c: &mut Client, r: &Roles) -> Result<(), Failure> {
    let mut sql = String::from(
        "create schema if not exists cordon; create table if not exists cordon.workspace(id uuid primary key default gen_random_uuid(), name text unique); create table if not exists cordon.api_key(key_id text primary key, workspace_id uuid, kind text, role text, name text, verifier text);",
    );
    for x in [&r.owner, &r.application, &r.read_only, &r.system, &r.control] {
        sql += &format!("do $$ begin create role {x} login; exception when duplicate_object then null; end $$;");
    }
    c.batch_execute(&sql).await.map_err(failed("migrate"))
}
pub(super) async fn raise(c: &mut Client, _r: &Roles, p: &Progress) -> Result<Option<String>, Failure> {
    let t = schema::tables(c).await.map_err(failed("tables"))?;
    for x in &t {
        p.say(&format!("{x:?}"));
    }
    Ok(None)
}
