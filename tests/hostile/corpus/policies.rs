//! Taking the policies off, or going around them with more rights.

use super::Step::{Again, Sql, Start, Victim};
use super::{Attack, Open, attack};

const LOOK: super::Step = Sql("select * from \"Secret\"");

pub(super) const ATTACKS: &[Attack] = &[
    attack("DISABLE ROW LEVEL SECURITY", &[Sql("alter table \"Secret\" disable row level security"), LOOK]),
    attack("NO FORCE", &[Sql("alter table \"Secret\" no force row level security"), LOOK]),
    attack("DROP POLICY", &[Sql("drop policy pgcordon_workspace on \"Secret\""), LOOK]),
    attack("a policy of one's own", &[Sql("create policy mine on \"Secret\" using (true) with check (true)"), LOOK]),
    attack("ALTER POLICY", &[Sql("alter policy pgcordon_workspace on \"Secret\" using (true)"), LOOK]),
    attack(
        "row_security off",
        &[Sql("set row_security = off"), LOOK, Sql("set local row_security = off; select * from \"Secret\"")],
    ),
    attack("row_security off at the start", &[Start(&[("options", "-c row_security=off")]), LOOK]),
    attack(
        "session_replication_role",
        &[Sql("set session_replication_role = replica"), LOOK, Sql("delete from \"Secret\"")],
    ),
    attack("SET ROLE of the owner", &[Sql("set role pgcordon_owner"), LOOK, Sql("set role owner_role"), LOOK]),
    attack("SET ROLE of who bypasses", &[Sql("set role pgcordon_system"), LOOK]),
    attack(
        "SET ROLE of the superuser",
        &[Sql("set role postgres"), LOOK, Sql("set local role postgres; select * from \"Secret\"")],
    ),
    attack(
        "set_config of role",
        &[
            Sql("select set_config('role', 'pgcordon_system', false)"),
            LOOK,
            Sql("select set_config('role', 'postgres', false)"),
            LOOK,
        ],
    ),
    attack(
        "SET SESSION AUTHORIZATION",
        &[
            Sql("set session authorization postgres"),
            LOOK,
            Sql("select set_config('session_authorization', 'postgres', false)"),
            LOOK,
        ],
    ),
    attack(
        "role at the start",
        &[Start(&[("options", "-c role=pgcordon_system")]), LOOK, Start(&[("options", "-c role=postgres")]), LOOK],
    ),
    attack(
        "role as a startup parameter",
        &[Start(&[("role", "pgcordon_system")]), LOOK, Start(&[("role", "postgres")]), LOOK],
    ),
    attack("session_authorization at the start", &[Start(&[("session_authorization", "postgres")]), LOOK]),
    attack("is_superuser", &[Sql("set is_superuser = on"), LOOK, Start(&[("is_superuser", "on")]), LOOK]),
    attack(
        "GRANT of another's role",
        &[
            Sql("grant pgcordon_system to current_user"),
            Sql("grant postgres to current_user"),
            Sql("set role postgres"),
            LOOK,
        ],
    ),
    attack(
        "GRANT of one's own role",
        &[
            Sql("grant {role} to pgcordon_readonly"),
            Sql("grant {role} to public"),
            Sql("grant select on \"Secret\" to public"),
        ],
    ),
    attack(
        "ALTER ROLE for more",
        &[
            Sql("alter role current_user bypassrls"),
            Sql("alter role current_user superuser"),
            Sql("alter role current_user createrole"),
            Again,
            LOOK,
        ],
    ),
    attack("CREATE ROLE", &[Sql("create role thief login bypassrls"), Sql("create user thief password 'x'")]),
    attack(
        "OWNER TO",
        &[
            Sql("alter table \"Secret\" owner to current_user"),
            Sql("reassign owned by pgcordon_owner to current_user"),
            LOOK,
        ],
    ),
    attack(
        "DROP OWNED BY oneself",
        &[
            Sql("drop owned by current_user"),
            Sql("revoke all on \"Secret\" from {role}"),
            Sql("revoke all on all tables in schema public from public"),
        ],
    ),
    attack(
        "DROP OWNED BY the owner",
        &[
            Sql("drop owned by pgcordon_owner cascade"),
            Sql("drop table \"Secret\" cascade"),
            Sql("drop schema public cascade"),
        ],
    ),
    attack("TRUNCATE", &[Sql("truncate \"Secret\" cascade"), Sql("truncate only \"WriteKey\"")]),
    attack(
        "TRUNCATE by a function",
        &[
            Sql("select query_to_xml('truncate \"Secret\" cascade', true, true, '')"),
            Sql("do $$ begin truncate \"Secret\" cascade; end $$"),
        ],
    ),
    attack(
        "a rule",
        &[
            Sql("create rule r as on select to \"Country\" do instead select * from \"Secret\""),
            Sql("create rule r as on insert to \"Segment\" do also delete from \"Secret\""),
        ],
    ),
    attack(
        "a trigger",
        &[
            Sql(
                "create trigger t before insert on \"Secret\" for each row execute function suppress_redundant_updates_trigger()",
            ),
            Sql("alter table \"Secret\" disable trigger all"),
        ],
    ),
    attack(
        "a view of one's own",
        &[
            Sql("create view public.look as select * from \"Secret\""),
            Sql("create temp view look as select * from \"Secret\""),
            Sql("select * from look"),
        ],
    ),
    attack(
        "a materialised copy",
        &[
            Sql("create materialized view public.look as select * from \"Secret\""),
            Sql("create table public.look as select * from \"Secret\""),
            Sql("select * from look"),
        ],
    ),
    attack(
        "a child of the table",
        &[
            Sql("create table public.child () inherits (\"Secret\")"),
            Sql("create temp table child () inherits (\"Secret\")"),
            Sql("alter table \"Secret\" add column x int default 1"),
        ],
    ),
    attack(
        "a partition of the table",
        &[
            Sql("create table public.part partition of \"Secret\" default"),
            Sql("alter table \"Secret\" set schema pg_temp"),
        ],
    ),
    attack(
        "a function with its creator's rights",
        &[
            Sql(
                "create function public.look() returns setof \"Secret\" language sql security definer as 'select * from \"Secret\"'",
            ),
            Sql("grant execute on function public.look() to public"),
            Sql("select * from look()"),
        ],
    ),
    attack(
        "a table of the victim's workspace changed to one's own",
        &[
            Sql("update \"Secret\" set \"workspaceId\" = '{own}' where \"workspaceId\" = '{theirs}' returning *"),
            Sql("update \"Secret\" set \"workspaceId\" = '{own}' where id = '{row}' returning *"),
        ],
    ),
    attack(
        "a row of one's own given to the victim",
        &[
            Sql("update \"Segment\" set \"workspaceId\" = '{theirs}'"),
            Sql("update \"Journey\" set \"workspaceId\" = '{theirs}' where ctid = '(0,1)'"),
        ],
    ),
    attack(
        "an index or statistics on it",
        &[
            Sql("create index on \"Secret\" ((value::int))"),
            Sql("create statistics s (mcv) on name, value from \"Secret\""),
            Sql("alter table \"Secret\" alter value set statistics 10000"),
            Sql("analyze \"Secret\""),
            Sql("vacuum full \"Secret\""),
            Sql("cluster"),
            Sql("reindex table \"Secret\""),
        ],
    ),
    attack(
        "GRANT to everybody",
        &[
            Sql("grant all on \"Secret\" to public"),
            Sql("grant all on all tables in schema public to public"),
            Sql("grant all on schema cordon to {role}"),
        ],
    ),
    attack(
        "defaults for what one will own",
        &[Sql("alter default privileges for role {role} grant all on tables to public")],
    )
    .open(Open::WithoutGuard),
    attack(
        "COMMENT and SECURITY LABEL",
        &[
            Sql("comment on table \"Secret\" is 'x'"),
            Sql("comment on role {role} is 'x'"),
            Sql("security label on table \"Secret\" is 'x'"),
        ],
    ),
    attack(
        "the transaction's own rights",
        &[
            Victim,
            Sql("begin; set local role none; reset role; select * from \"Secret\""),
            Sql("rollback"),
            Sql("reset session authorization"),
            LOOK,
        ],
    ),
];
