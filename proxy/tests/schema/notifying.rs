//! Channels of a workspace's own, on the database's side: `cordon.pg_notify()`, and what `harden` makes of functions that
//! notify.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::check;
use pgcordon::control::schema::harden::{self, Allow};
use pgcordon::tenant::{ChannelKey, ContextNames};
use tokio_postgres::Client;

use crate::scratch::{A, APPLICATION, B, Database, every_setting, let_bind, refusal, set_context, text};
use crate::sealed::as_in_a_plan;

/// The workspaces are known, with secrets that a test knows.
async fn with_workspaces(database: &Database) -> Client {
    let admin = database.admin().await;
    let sql = format!(
        "insert into cordon.workspace (id, name, channel_key) values ('{A}', 'a', decode(repeat('01', 32), 'hex')), ('{B}', 'b', decode(repeat('02', 32), 'hex'))"
    );
    admin.batch_execute(&sql).await.unwrap();
    admin
}

#[tokio::test]
async fn postgres_and_the_proxy_call_a_channel_the_same() {
    let database = Database::hardened().await;
    let admin = with_workspaces(&database).await;
    for (byte, workspace) in [(1_u8, A), (2, B)] {
        let key = ChannelKey::new(vec![byte; 32]);
        for channel in ["news", "News", "é\"'", &"x".repeat(63)] {
            let quoted = channel.replace('\'', "''");
            let sql = format!(
                "select cordon.channel(channel_key, '{quoted}') from cordon.workspace where id = '{workspace}'"
            );
            assert_eq!(text(&admin, &sql).await, key.name(channel), "{channel}");
        }
    }
    let sql = "select count(distinct channel_key) || ' ' || min(length(channel_key)) from cordon.workspace";
    admin.batch_execute("insert into cordon.workspace (name) values ('c'), ('d')").await.unwrap();
    assert_eq!(text(&admin, sql).await, "4 32");
}

#[tokio::test]
async fn a_tenant_notifies_the_channels_of_its_workspace_and_no_other() {
    let database = Database::hardened().await;
    with_workspaces(&database).await;
    let client = database.bound(A).await;
    assert_eq!(refusal(&client, "select cordon.pg_notify('news', 'x')").await, "");
    for sql in [
        "select pg_notify('news', 'x')",
        "select query_to_xml('select pg_notify(''news'', '''')', true, true, '')",
        "select channel_key from cordon.workspace",
        "select cordon.channel('x', 'news')",
        &format!("select cordon.notify_workspace('{B}', 'news', 'x')"),
    ] {
        assert_eq!(refusal(&client, sql).await, "42501", "{sql}");
    }
    for (sql, message) in [
        ("select cordon.pg_notify('', 'x')", "channel name cannot be empty"),
        ("select cordon.pg_notify(null, 'x')", "channel name cannot be empty"),
        ("select cordon.pg_notify(repeat('x', 64), 'x')", "channel name too long"),
        ("select cordon.pg_notify('a', repeat('x', 8000))", "payload string too long"),
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.as_db_error().unwrap().message(), message, "{sql}");
    }
    // What it notifies is what the proxy listens to; without a workspace, or with a forged one, it is nothing.
    let stranger = database.connect(APPLICATION).await;
    assert_eq!(refusal(&stranger, "select cordon.pg_notify('news', 'x')").await, "42501");
    set_context(&stranger, "", "").await;
    assert_eq!(refusal(&stranger, "select cordon.pg_notify('news', 'x')").await, "42501");
    set_context(&stranger, B, "99999999999.00").await;
    assert_eq!(refusal(&stranger, "select cordon.pg_notify('news', 'x')").await, "42501");
    let own = ChannelKey::new(vec![1; 32]).name("news");
    let script = format!(
        "listen {own}; listen news; set role pgcordon_system; select cordon.notify_workspace('{A}', 'news', 'hello');"
    );
    let said = database.psql("postgres", &script);
    assert!(said.contains(&own) && said.contains("hello"), "{said}");
}

#[tokio::test]
async fn nothing_that_a_user_may_shadow_or_set_prints_a_channels_secret() {
    let database = Database::protected().await;
    let admin = with_workspaces(&database).await;
    let secret = "e3".repeat(32);
    admin.batch_execute(&format!("update cordon.workspace set channel_key = decode('{secret}', 'hex')")).await.unwrap();
    let every_setting = every_setting(&admin).await;
    let script = format!(
        "create function pg_temp.tell(bytea) returns bool language plpgsql as $$ begin raise warning 'told %', encode($1, 'hex'); return true; end $$;
         create function pg_temp.sha256(bytea) returns bytea language plpgsql as $$ begin raise warning 'told %', encode($1, 'hex'); return pg_catalog.sha256($1); end $$;
         create function pg_temp.join_bytes(bytea, bytea) returns bytea language plpgsql as $$ begin raise warning 'told % %', $1, $2; return $1; end $$;
         create operator pg_temp.|| (leftarg = bytea, rightarg = bytea, function = pg_temp.join_bytes);
         create domain pg_temp.bytea as pg_catalog.bytea check (pg_temp.tell(value));
         create temp table workspace (id pg_catalog.uuid, channel_key pg_catalog.bytea);
         set search_path = pg_temp, pg_catalog, cordon;
         set plpgsql.print_strict_params = on; set plpgsql.extra_errors = 'all'; set plpgsql.extra_warnings = 'all';
         {every_setting};
         select cordon.pg_notify('news', 'x');"
    );
    let_bind(&admin).await;
    let said = database.psql(APPLICATION, &format!("select public.bind_to('{A}');\n{script}"));
    assert!(!said.contains("told ") && !said.contains(&secret) && !said.contains(&as_in_a_plan(&secret)), "{said}");
    assert!(said.contains("channel_key") && said.contains("PLANNEDSTMT"), "the server isn't talkative: {said}");
}

const FUNCTIONS: &str = r#"
create function in_plpgsql() returns trigger language plpgsql as $$ begin
    PERFORM Pg_Catalog . pg_notify ('news', new.body); -- pg_notify(
    return new;
end $$;
create function in_sql(text) returns void language sql as 'select "pg_notify"($1, ''sql'')';
create function nested() returns void language plpgsql as $$ begin execute 'select pg_notify(''news'', ''nested'')'; end $$;
create function atomic() returns void begin atomic select pg_notify('news', 'atomic'); end;
create schema own; create function own.pg_notify(text, text) returns void language sql as 'select';
create function by_own() returns void language sql as $$ select own.pg_notify('a', 'b') $$;
create function by_owner() returns void language sql security definer as $$ select pg_notify('news', 'plain') $$;
create function says() returns void language plpgsql as $$ begin notify news, 'plain'; end $$;
grant usage on schema own to public;
create trigger tell after insert on note for each row execute function in_plpgsql();
"#;

#[tokio::test]
async fn functions_of_the_application_notify_their_callers_workspace_once_hardened() {
    let database = Database::protected().await;
    let admin = with_workspaces(&database).await;
    admin.batch_execute(FUNCTIONS).await.unwrap();
    let roles = RoleNames::default();
    let dry = harden::harden(&admin, &roles, &[], true).await.unwrap();
    let rewritten: Vec<&String> = dry.done.iter().filter(|statement| statement.contains("cordon.pg_notify(")).collect();
    assert_eq!(rewritten.len(), 4, "{rewritten:#?}");
    let kept = harden::harden(&admin, &roles, &[Allow::Notify], true).await.unwrap();
    assert!(!kept.done.iter().any(|statement| statement.contains("pg_notify")));
    assert_eq!(harden::harden(&admin, &roles, &[], false).await.unwrap().refused, []);
    let client = database.bound(A).await;
    for sql in [
        "insert into note (body) values ('x')",
        "select in_sql('news')",
        "select nested()",
        "select atomic()",
        "select by_own()",
    ] {
        assert_eq!(refusal(&client, sql).await, "", "{sql}");
    }
    // By the owner's leave, or where Postgres asks for none, it is the plain channel.
    assert_eq!(refusal(&client, "select by_owner(), says()").await, "");
    let again = harden::harden(&admin, &roles, &[], true).await.unwrap();
    assert!(!again.done.iter().any(|statement| statement.contains("pg_notify")), "{:#?}", again.done);
    let found = check::check(&admin, &roles, &ContextNames::default()).await.unwrap();
    let told: Vec<_> =
        found.iter().filter(|one| one.id.starts_with("notify")).map(|one| (one.id, one.object.as_str())).collect();
    assert_eq!(told, [("notify-plain", "public.by_owner()"), ("notify-plain", "public.says()")]);
    // One that comes later meets the refusal, and is found.
    admin
        .batch_execute("create function later() returns void language sql as $$ select pg_notify('news', 'x') $$")
        .await
        .unwrap();
    assert_eq!(refusal(&client, "select later()").await, "42501");
    let found = check::check(&admin, &roles, &ContextNames::default()).await.unwrap();
    let later = found.iter().find(|one| one.id == "notify-refused").expect("found");
    assert_eq!((later.object.as_str(), later.severity), ("public.later()", check::Severity::Low));
    assert!(later.fix.starts_with("pgcordon harden"), "{}", later.fix);
}
