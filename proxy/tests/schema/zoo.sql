-- Everything by which a statement does more than it says. Loaded as an administrator, owned by the owner role.
create table plain (id int primary key, a int, b text);
create table metered (id serial primary key, workspace_id uuid, a int, b text, state text default 'open');
create table log (id serial primary key, what text);
create table parent (id int primary key, a int);
create table child (id int primary key, parent_id int references parent on delete cascade on update cascade, a int);
create table parted (id int, a int) partition by range (id);
create table parted_low partition of parted for values from (0) to (100);
create table parted_high partition of parted for values from (100) to (1000);
create table base (id int);
create table derived (extra int) inherits (base);
create table triggered (id int, a int);
create table ruled (id int);
create table defaulted (id int, a int);
create table policed (id int);
create table indexed (id int);
create table domained (id int);
create table unlisted (id int);
create sequence counter;
create type pair as (x int, y int);

insert into plain select n, n, 'b' || n from generate_series(1, 20) n;
insert into metered (workspace_id, a, b) select '00000000-0000-0000-0000-00000000000a', n, 'b' from generate_series(1, 5) n;
insert into parent select n, n from generate_series(1, 9) n;
insert into child select n, n, n from generate_series(1, 9) n;
insert into parted select n, n from generate_series(1, 200, 20) n;
insert into base values (1);
insert into derived values (2, 2);
insert into triggered values (1, 1);
insert into ruled values (1);
insert into policed values (1);
insert into indexed values (1);

-- Functions that add to a metered table: by a call, as an attribute, behind an operator, a cast, a default, a policy.
create function adds() returns int language plpgsql as $$ begin insert into metered (a) values (-1); return 1; end $$;
create function adds_one(n int) returns int language plpgsql as $$ begin insert into metered (a) values (n); return n; end $$;
create function of_row(p plain) returns int language plpgsql as $$ begin insert into metered (a) values (-2); return p.a; end $$;
create function pretends() returns int language sql stable as 'select adds()';
create function harmless_sql(n int) returns int language sql immutable as 'select n + 1';
create function lower(p pair) returns text language plpgsql as $$ begin insert into metered (a) values (-3); return 'x'; end $$;
create function op(a pair, b pair) returns int language plpgsql as $$ begin insert into metered (a) values (-4); return 1; end $$;
create operator @@@ (leftarg = pair, rightarg = pair, function = op);
create procedure ends() language plpgsql as $$ begin insert into metered (a) values (-5); commit; end $$;
create procedure calls() language plpgsql as $$ begin insert into metered (a) values (-6); end $$;
create function trigger_adds() returns trigger language plpgsql as $$ begin insert into metered (a) values (-7); return null; end $$;
create trigger t after insert or update or delete on triggered for each row execute function trigger_adds();
create trigger t after delete on child for each row execute function trigger_adds();
create rule r as on insert to ruled do also insert into metered (a) values (-8);
alter table defaulted alter a set default adds();
create function index_adds(n int) returns int language plpgsql immutable as $$ begin return n; end $$;
create index on indexed (index_adds(id));

create view plain_view as select id, a, b from plain where a > 0;
create view stacked_view as select p.id, upper(p.b) as b from plain_view p join parent on parent.id = p.id;
create view calling_view as select id, adds() as added from plain where id = 1;
create view metered_view as select * from metered;
create materialized view made as select id from plain;
