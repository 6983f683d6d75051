//! Being in another workspace by saying so.

use pgcordon_tests::wire::{bind, execute, extended, function_call, parse, query, sync};

use super::Step::{Again, Bytes, Sql, Start, Victim};
use super::{Attack, attack};
use crate::range::Known;

const LOOK: super::Step = Sql("select * from \"Secret\"");
const WRITE: super::Step =
    Sql("insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'planted', 'x')");

/// Calls of both functions that set a setting by name, `set_config` and the one that no SQL name leads to.
fn call(known: &Known) -> Vec<u8> {
    let calls = ["t", "f"].map(|local| function_call(2078, &["app.workspace_id", &known.theirs, local]));
    [calls.concat(), query("select * from \"Secret\"")].concat()
}

/// A setting, a failure that skips to the Sync, and whatever is left of it behind that.
fn call_in_a_failed_pipeline(known: &Known) -> Vec<u8> {
    let set = format!("select set_config('app.workspace_id', '{}', false)", known.theirs);
    [
        [parse("s", &set), bind("", "s", &[]), execute("", 0)].concat(),
        [parse("", "select * from \"Secret\""), bind("", "", &[]), execute("", 0), sync()].concat(),
        extended("select * from \"Secret\"", &[]),
        [parse("", "select 1/0"), bind("", "", &[]), execute("", 0), sync()].concat(),
        extended("select * from \"Secret\"", &[]),
    ]
    .concat()
}

fn parameters(known: &Known) -> Vec<u8> {
    [
        extended("select set_config($1, $2, false)", &["app.workspace_id", &known.theirs]),
        extended("select set_config($1, $2, false)", &["APP.WORKSPACE_ID", &known.theirs]),
        query("select * from \"Secret\""),
    ]
    .concat()
}

/// Portals of one's own that look at rows after the setting has been changed between their Bind and their Execute.
fn between_bind_and_execute(known: &Known) -> Vec<u8> {
    let set = format!("select set_config('app.workspace_id', '{}', false)", known.theirs);
    [
        [parse("rows", "select * from \"Secret\""), parse("set", &set), sync()].concat(),
        [bind("p", "rows", &[]), bind("q", "set", &[]), execute("q", 0), execute("p", 0), sync()].concat(),
        [bind("p", "rows", &[]), execute("p", 1), bind("q", "set", &[]), execute("q", 0), execute("p", 0), sync()]
            .concat(),
    ]
    .concat()
}

pub(super) const ATTACKS: &[Attack] = &[
    attack("SET", &[Sql("set app.workspace_id = '{theirs}'"), LOOK, WRITE]),
    attack("SET in the same string", &[Sql("set app.workspace_id = '{theirs}'; select * from \"Secret\"")]),
    attack("SET SESSION", &[Sql("set session app.workspace_id to '{theirs}'"), LOOK, WRITE]),
    attack("SET LOCAL", &[Sql("begin"), Sql("set local app.workspace_id = '{theirs}'"), LOOK, WRITE, Sql("commit")]),
    attack("SET with quotes and capitals", &[Sql("set \"app\".\"WORKSPACE_ID\" = '{theirs}'"), LOOK, WRITE]),
    attack("set_config", &[Sql("select set_config('app.workspace_id', '{theirs}', false)"), LOOK, WRITE]),
    attack(
        "set_config for the transaction",
        &[Sql("begin"), Sql("select set_config('app.workspace_id', '{theirs}', true)"), LOOK, WRITE, Sql("commit")],
    ),
    attack(
        "set_config under another spelling",
        &[Sql("select pg_catalog.\"set_config\"('App.' || 'Workspace_ID', '{theirs}', false)"), LOOK, WRITE],
    ),
    attack(
        "set_config in the statement that reads",
        &[Sql(
            "with s as materialized (select set_config('app.workspace_id', '{theirs}', false)) select x.* from s, \"Secret\" x",
        )],
    ),
    attack(
        "set_config behind the planner's back",
        &[Sql(
            "select x.* from \"Secret\" x where set_config('app.workspace_id', '{theirs}', false) is not null union all select * from \"Secret\"",
        )],
    ),
    attack(
        "set_config for each row, in a lateral join",
        &[Sql(
            "select x.* from generate_series(1, 3) g, lateral (select set_config('app.workspace_id', '{theirs}', g > 5)) s (v), lateral (select * from \"Secret\" where s.v is not null) x",
        )],
    ),
    attack(
        "set_config while a row is written",
        &[Sql(
            "insert into \"Secret\" (name, value) select 'planted', set_config('app.workspace_id', '{theirs}', false)",
        )],
    ),
    attack(
        "set_config in RETURNING and then again",
        &[Sql(
            "with i as (insert into \"Secret\" (name, value) values ('own', set_config('app.workspace_id', '{theirs}', true)) returning 1) select * from i, \"Secret\"",
        )],
    ),
    attack(
        "a cursor opened before and read after",
        &[
            Sql("begin"),
            Sql("declare c cursor for select * from \"Secret\""),
            Sql("select set_config('app.workspace_id', '{theirs}', true)"),
            Sql("fetch all from c"),
            Sql("rollback"),
        ],
    ),
    attack(
        "SQL PREPARE before and EXECUTE after",
        &[
            Sql("prepare look as select * from \"Secret\""),
            Sql("execute look"),
            Sql("set app.workspace_id = '{theirs}'"),
            Sql("execute look"),
            Sql("set plan_cache_mode = force_generic_plan"),
            Sql("execute look"),
        ],
    ),
    attack("pg_settings", &[Sql("update pg_settings set setting = '{theirs}' where name = 'app.workspace_id'"), LOOK]),
    attack(
        "a query inside a function",
        &[
            Sql("select query_to_xml('select set_config(''app.workspace_id'', ''{theirs}'', false)', true, true, '')"),
            LOOK,
        ],
    ),
    attack("DO", &[Sql("do $$ begin perform set_config('app.workspace_id', '{theirs}', false); end $$"), LOOK, WRITE]),
    attack(
        "DO with dynamic SQL",
        &[Sql("do $$ begin execute format('set %s = %L', 'app.workspace_' || 'id', '{theirs}'); end $$"), LOOK, WRITE],
    ),
    attack(
        "a function with a SET clause",
        &[
            Sql(
                "create function pg_temp.look() returns setof \"Secret\" language sql set app.workspace_id = '{theirs}' as 'select * from \"Secret\"'",
            ),
            Sql("select * from pg_temp.look()"),
        ],
    ),
    attack("startup parameter", &[Start(&[("app.workspace_id", "{theirs}")]), LOOK, WRITE]),
    attack("startup options", &[Start(&[("options", "-c app.workspace_id={theirs}")]), LOOK, WRITE]),
    attack("startup options, the long way", &[Start(&[("options", "--app.workspace_id={theirs}")]), LOOK, WRITE]),
    attack(
        "startup options in pieces",
        &[Start(&[("options", "-c\\ x.y=1 -capp.workspace_id={theirs} -c App.Workspace_Id={theirs}")]), LOOK, WRITE],
    ),
    attack(
        "the startup value brought back by RESET",
        &[
            Start(&[("options", "-c app.workspace_id={theirs}")]),
            Sql("reset app.workspace_id"),
            LOOK,
            Sql("reset all"),
            LOOK,
        ],
    ),
    attack("FunctionCall", &[Bytes(call), LOOK, WRITE]),
    attack("parameters of a statement", &[Bytes(parameters), WRITE]),
    attack("a failed pipeline", &[Bytes(call_in_a_failed_pipeline), LOOK]),
    attack("between Bind and Execute", &[Bytes(between_bind_and_execute), LOOK]),
    attack("RESET", &[Victim, Sql("reset app.workspace_id"), LOOK, WRITE]),
    attack("RESET ALL", &[Victim, Sql("reset all"), LOOK, WRITE]),
    attack("DISCARD ALL", &[Victim, Sql("discard all"), LOOK, WRITE]),
    attack("an empty workspace", &[Sql("set app.workspace_id = ''"), LOOK, WRITE]),
    attack(
        "SET of nothing like a workspace",
        &[Sql("set app.workspace_id = '%'"), LOOK, Sql("set app.workspace_id = '*'"), LOOK],
    ),
    attack(
        "another spelling of the victim's workspace",
        &[
            Sql("select set_config('app.workspace_id', upper('{theirs}'), false)"),
            LOOK,
            Sql("select set_config('app.workspace_id', '{' || '{theirs}' || '}', false)"),
            LOOK,
            Sql("select set_config('app.workspace_id', replace('{theirs}', '-', ''), false)"),
            LOOK,
        ],
    ),
    attack(
        "ALTER ROLE SET and a new session",
        &[Sql("alter role current_user set app.workspace_id = '{theirs}'"), Again, LOOK, WRITE],
    ),
    attack("ALTER DATABASE SET", &[Sql("alter database app set app.workspace_id = '{theirs}'"), Again, LOOK, WRITE]),
    attack(
        "rolling back what was set behind it",
        &[
            Victim,
            Sql("begin; set local app.workspace_id = '{theirs}'; savepoint a; rollback to a; select * from \"Secret\""),
            Sql("rollback"),
            Sql("select 1; rollback; select * from \"Secret\""),
            Sql("commit; select * from \"Secret\""),
            Sql("begin; commit and chain; rollback; select * from \"Secret\""),
        ],
    ),
];
