//! The seal, and the note of what it said: `cordon.bind()` and `cordon.mark()` keep the verified workspace in a setting that is a superuser's.

use pgcordon_tests::wire::{bind, execute, function_call, parse, query, sync};

use super::Step::{Again, Bytes, Sql, Start, Victim};
use super::{Attack, attack};
use crate::range::Known;

const LOOK: super::Step = Sql("select * from \"Secret\"");
const BECOME: super::Step = Sql("select set_config('app.workspace_id', '{theirs}', false)");

/// The note by FunctionCall, under both spellings, then a look.
fn call(known: &Known) -> Vec<u8> {
    let theirs = known.theirs.replace('-', "");
    [
        function_call(2078, &["backtrace_functions", &theirs, "f"]),
        function_call(2078, &["BACKTRACE_functions", &theirs, "t"]),
        function_call(2078, &["app.workspace_id", &known.theirs, "f"]),
        query("select * from \"Secret\""),
    ]
    .concat()
}

/// A statement that was planned for one's own workspace, executed after the plain setting has changed, in one pipeline.
fn plans_that_outlive_the_setting(known: &Known) -> Vec<u8> {
    let set = format!("select set_config('app.workspace_id', '{}', true)", known.theirs);
    let mut bytes = [parse("rows", "select * from \"Secret\""), parse("set", &set), sync()].concat();
    for _ in 0..7 {
        bytes.extend([bind("", "rows", &[]), execute("", 0), sync()].concat());
    }
    bytes.extend([query("begin"), bind("p", "rows", &[]), execute("p", 1)].concat());
    bytes.extend([bind("", "set", &[]), execute("", 0), execute("p", 0)].concat());
    bytes.extend([bind("", "rows", &[]), execute("", 0), sync(), query("rollback")].concat());
    bytes
}

pub(super) const ATTACKS: &[Attack] = &[
    attack("the note by SET", &[Sql("set backtrace_functions = '{theirs32}'"), BECOME, LOOK]),
    attack(
        "the note by SET LOCAL",
        &[Sql("begin"), Sql("set local backtrace_functions = '{theirs32}'"), BECOME, LOOK, Sql("rollback")],
    ),
    attack(
        "the note by set_config",
        &[Sql("select set_config('backtrace_functions', '{theirs32}', false)"), BECOME, LOOK],
    ),
    attack(
        "the note by pg_settings",
        &[Sql("update pg_settings set setting = '{theirs32}' where name = 'backtrace_functions'"), BECOME, LOOK],
    ),
    attack("the note by FunctionCall", &[Bytes(call), LOOK]),
    attack(
        "the note by startup options",
        &[Start(&[("options", "-c backtrace_functions={theirs32} -c app.workspace_id={theirs}")]), LOOK],
    ),
    attack("the note by startup parameter", &[Start(&[("backtrace_functions", "{theirs32}")]), BECOME, LOOK]),
    attack(
        "the note by ALTER ROLE",
        &[Sql("alter role current_user set backtrace_functions = '{theirs32}'"), Again, BECOME, LOOK],
    ),
    attack(
        "the note by a SET clause",
        &[
            Sql(
                "create function pg_temp.f() returns setof \"Secret\" language sql set backtrace_functions = '{theirs32}' set app.workspace_id = '{theirs}' as 'select * from \"Secret\"'",
            ),
            Sql("select * from pg_temp.f()"),
        ],
    ),
    attack(
        "the right to the note",
        &[Sql("grant set on parameter backtrace_functions to current_user"), BECOME, Sql("select cordon.mark()"), LOOK],
    ),
    attack("marking another workspace with one's own seal", &[BECOME, Sql("select cordon.mark()"), LOOK]),
    attack(
        "marking another in the same statement",
        &[Sql("select set_config('app.workspace_id', '{theirs}', false), cordon.mark(); select * from \"Secret\"")],
    ),
    attack(
        "a mark within a savepoint that is rolled back",
        &[
            Sql("begin"),
            Sql("savepoint a"),
            BECOME,
            Sql("rollback to a"),
            Sql("select cordon.mark()"),
            BECOME,
            LOOK,
            Sql("rollback"),
            LOOK,
        ],
    ),
    attack(
        "a mark of nothing, and the setting behind it",
        &[
            Sql("select set_config('app.workspace_id', '', false)"),
            Sql("select cordon.mark()"),
            BECOME,
            LOOK,
            Sql("select set_config('app.workspace_seal', '', false)"),
            LOOK,
        ],
    ),
    attack(
        "a mark that is empty and a workspace of dashes",
        &[
            Sql("select set_config('app.workspace_id', '', false), cordon.mark()"),
            Sql("select set_config('app.workspace_id', '----', false)"),
            LOOK,
        ],
    ),
    attack(
        "a mark that is taken back by RESET",
        &[Victim, Sql("reset backtrace_functions"), BECOME, LOOK, Sql("set backtrace_functions to default"), LOOK],
    ),
    attack(
        "SET LOCAL over the mark, committed",
        &[Sql("begin; set local app.workspace_id = '{theirs}'; commit; select * from \"Secret\""), LOOK],
    ),
    attack(
        "SET over the mark, rolled back",
        &[Sql("begin; set app.workspace_id = '{theirs}'; rollback; select * from \"Secret\""), LOOK],
    ),
    attack("plans that outlive the setting", &[Bytes(plans_that_outlive_the_setting)]),
    attack(
        "a generic plan of one's own, run under another setting",
        &[
            Sql("set plan_cache_mode = force_generic_plan"),
            Sql("prepare look as select * from \"Secret\" where \"workspaceId\" = cordon.workspace_id() or true"),
            Sql("execute look"),
            BECOME,
            Sql("execute look"),
            Sql(
                "begin; savepoint a; select set_config('app.workspace_id', '{theirs}', true); rollback to a; execute look",
            ),
            Sql("rollback"),
        ],
    ),
    attack(
        "a cursor with hold over another setting",
        &[
            Sql("begin"),
            Sql("declare c cursor with hold for select * from \"Secret\""),
            Sql("select set_config('app.workspace_id', '{theirs}', false)"),
            Sql("commit"),
            Sql("fetch all from c"),
        ],
    ),
    attack(
        "parallel workers under another setting",
        &[
            Sql(
                "set max_parallel_workers_per_gather = 4; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0",
            ),
            Sql("begin; select set_config('app.workspace_id', '{theirs}', true); select * from \"Secret\""),
            Sql("rollback"),
        ],
    ),
    attack(
        "the seal of one session in another's hands",
        &[
            Sql("select current_setting('app.workspace_seal')"),
            Again,
            Sql(
                "select set_config('app.workspace_id', '{theirs}', false), set_config('app.workspace_seal', current_setting('app.workspace_seal'), false)",
            ),
            LOOK,
        ],
    ),
    attack(
        "made-up seals",
        &[
            BECOME,
            Sql("select set_config('app.workspace_seal', '9999999999.' || repeat('0', 64), false)"),
            LOOK,
            Sql("select set_config('app.workspace_seal', '.', false)"),
            LOOK,
            Sql("select set_config('app.workspace_seal', 'Infinity.' || encode(sha256(''), 'hex'), false)"),
            LOOK,
            Sql("select set_config('app.workspace_seal', repeat('9.', 100000), false)"),
            LOOK,
            Sql("select cordon.mark()"),
        ],
    ),
    attack(
        "a seal that has expired",
        &[
            Sql(
                "select set_config('app.workspace_seal', '1.' || split_part(current_setting('app.workspace_seal'), '.', 2), false)",
            ),
            BECOME,
            LOOK,
        ],
    ),
    attack(
        "the sealed function by name",
        &[
            BECOME,
            Sql("select cordon.sealed_workspace_id()"),
            Sql("select cordon.workspace_id()"),
            Sql("select cordon.workspace_at_end()"),
            LOOK,
        ],
    ),
    attack(
        "what the functions say when they are made to talk",
        &[
            Sql(
                "set client_min_messages = debug5; set log_statement_stats = on; set debug_print_plan = on; set debug_print_parse = on",
            ),
            Sql(
                "set plpgsql.print_strict_params = on; set plpgsql.extra_errors = 'all'; set plpgsql.extra_warnings = 'all'",
            ),
            BECOME,
            Sql("select cordon.mark()"),
            Sql("select cordon.sealed_workspace_id()"),
            LOOK,
        ],
    ),
    attack(
        "a search path of one's own around the functions",
        &[
            Sql(
                "create function pg_temp.current_setting(text, bool) returns text language sql as $$ select '{theirs}' $$",
            ),
            Sql("create function pg_temp.replace(text, text, text) returns text language sql as $$ select '' $$"),
            Sql("set search_path = pg_temp, pg_catalog, public, cordon"),
            BECOME,
            Sql("select cordon.mark()"),
            LOOK,
        ],
    ),
    attack(
        "the domain that verifies, with a key of one's own",
        &[
            Sql(
                "select set_config('app.workspace_id', '{theirs}', false), set_config('app.workspace_seal', '99999999999.' || encode(sha256(substring(pads, 65) || sha256(substring(pads, 1, 64) || convert_to('{theirs}|' || pg_backend_pid() || '|99999999999', 'UTF8'))), 'hex'), false) from (select decode(repeat(to_hex(120 # 54), 64) || repeat(to_hex(120 # 92), 64), 'hex')) as own (pads)",
            ),
            Sql(
                "select decode(repeat(to_hex(120 # 54), 64) || repeat(to_hex(120 # 92), 64), 'hex')::cordon.attestation",
            ),
            LOOK,
            Sql("select cordon.mark()"),
            LOOK,
            Sql(
                "create type pg_temp.span as range (subtype = cordon.attestation); create temp table held (a pg_temp.span)",
            ),
            Sql(
                "create domain pg_temp.attestation as bytea check (false); set search_path = pg_temp, cordon, pg_catalog, public",
            ),
            Sql("select cordon.mark()"),
            LOOK,
        ],
    ),
    attack(
        "binding another workspace with one's own seal",
        &[
            Sql("select cordon.bind('{theirs}|' || current_setting('app.workspace_seal') || '|0')"),
            LOOK,
            Sql(
                "select cordon.bind('{theirs}|' || current_setting('app.workspace_seal') || '|0'); select * from \"Secret\"",
            ),
        ],
    ),
    attack(
        "binding with made-up seals, and with separators in the wrong places",
        &[
            Sql("select cordon.bind('{theirs}|99999999999.' || repeat('0', 64) || '|0')"),
            LOOK,
            Sql("select cordon.bind('{theirs}||0')"),
            LOOK,
            Sql("select cordon.bind('{own}|{theirs}|' || current_setting('app.workspace_seal') || '|0')"),
            LOOK,
            Sql("select cordon.bind('||0'), set_config('app.workspace_id', '{theirs}', false)"),
            LOOK,
            Sql("select cordon.bind(repeat('{theirs}|', 100000))"),
            LOOK,
        ],
    ),
    attack(
        "a bind that fails where its error is caught",
        &[
            Sql(
                "do $$ begin perform cordon.bind('{theirs}|x|0'); exception when others then perform set_config('app.workspace_id', '{theirs}', false); end $$",
            ),
            LOOK,
            Sql(
                "begin; savepoint a; select cordon.bind('{theirs}|x|0'); rollback to a; select * from \"Secret\"; commit",
            ),
            LOOK,
        ],
    ),
    attack(
        "the domains of the bind, with a key and an epoch of one's own",
        &[
            BECOME,
            Sql("select '{theirs}|x|0'::cordon.binding"),
            Sql("select decode(repeat('36', 136), 'hex')::cordon.keeping"),
            LOOK,
            Sql("select cordon.kept_key()"),
            Sql("select setval('cordon.epoch_in_force', 1), nextval('cordon.epoch_in_force')"),
            Sql(
                "create temp table held (a cordon.binding, b cordon.keeping); insert into held values ('{theirs}|x|0', '\\x00')",
            ),
            Sql("create temp sequence epoch_in_force; set search_path = pg_temp, cordon, pg_catalog, public"),
            Sql("select cordon.bind('{theirs}|x|0')"),
            LOOK,
        ],
    ),
    attack(
        "a bind in an old snapshot, over another setting",
        &[
            Sql("begin isolation level repeatable read; select 1"),
            Sql("select cordon.bind('{own}|' || current_setting('app.workspace_seal') || '|0')"),
            BECOME,
            LOOK,
            Sql("select cordon.bind('{theirs}|' || current_setting('app.workspace_seal') || '|0')"),
            Sql("rollback"),
            LOOK,
        ],
    ),
];
