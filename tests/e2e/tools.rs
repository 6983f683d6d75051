//! Postgres' own tools, used as people use them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::Wire;

fn psql(url: &str, script: &str) -> String {
    let mut psql = Command::new("psql")
        .args(["-XAt", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql is installed");
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
}

#[test]
fn psql_shows_the_schema_and_runs_scripts() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let tables = psql(dev.acme(), "\\dt");
    assert!(tables.contains("|Segment|table|"), "{tables}");
    let described = psql(dev.acme(), "\\d \"Segment\"");
    assert!(described.contains("workspaceId|uuid"), "{described}");
    let script = "\\set ON_ERROR_STOP on\nbegin;\ninsert into \"Segment\" (name) values ('one'), ('two');\n\
                  \\copy (select name from \"Segment\" where name in ('one', 'two') order by 1) to stdout\n\
                  select count(*) from \"Segment\" \\gset\nrollback;\nselect 'had ' || (:count > 2);\n";
    let said = psql(dev.acme(), script);
    assert_eq!(said, "BEGIN\nINSERT 0 2\none\ntwo\nROLLBACK\nhad true\n");
    let error = psql(dev.acme(), "select nothing;\n");
    assert!(
        error.contains("ERROR:  column \"nothing\" does not exist\nLINE 1: select nothing;\n               ^"),
        "{error}"
    );
}

/// What people do in psql beside plain statements. `FILE` is a file of its own, `EXTENDED` what psql 16 brought.
const SESSION: &str = r"\pset pager off
create table tool (id int primary key, word text, at date);
insert into tool values (1, 'one', '2020-01-01'), (2, 'two', '2020-01-02'), (3, 'three', '2020-01-03');
\d tool
\d+ tool
\sf cordon.workspace_id
\set ON_ERROR_ROLLBACK on
begin;
insert into tool values (4, 'four', null);
select 1/0;
insert into tool values (1, 'again', null);
insert into tool values (5, 'five', null);
commit;
table tool;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
delete from tool;
select count(*) from tool;
rollback;
\set AUTOCOMMIT on
\set FETCH_COUNT 2
select * from tool order by id;
select 1 / (3 - id) from tool order by id;
\set FETCH_COUNT 0
select id, 1.5::numeric(5, 2) as n, word from tool \gdesc
select word, id, at from tool where at is not null \crosstabview
select nothing from tool;
\errverbose
select set_config('tool.turn', (coalesce(nullif(current_setting('tool.turn', true), ''), '0')::int + 1)::text, false) as turn, 1 / (4 - current_setting('tool.turn')::int) as left \watch 0.01
select current_setting('tool.turn');
\copy tool to 'FILE' csv header
truncate tool;
\copy tool (id, word, at) from 'FILE' csv header
\copy tool from stdin
9	nine	\N
\.
\copy (select count(*) from tool) to stdout
\copy tool from stdin
9	nine	\N
\.
\copy nowhere from stdin
\.
select 1 as a \; select 2 as b \; select 1/0 \; select 3
select 'x' as word \gset got_
\echo :got_word
select format('select %s', n) from generate_series(1, 3) n \gexec
prepare p (int) as select $1 + 1;
execute p (1);
deallocate p;
\encoding LATIN1
select length(U&'\00e4');
\encoding UTF8
EXTENDED
drop table tool;
";

/// The answers of psql, with what psql itself makes of them.
fn psql_file(url: &str, script: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    let output = Command::new("psql").args(["-X", "-f"]).arg(&file).arg(url).output().expect("psql is installed");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    said.replace(&directory.path().display().to_string(), "")
}

/// The major version of an installed client program.
fn client_version(program: &str) -> u32 {
    let output = Command::new(program).arg("--version").output().expect("it is installed");
    let said = String::from_utf8(output.stdout).unwrap();
    let version = said.split_once("(PostgreSQL) ").expect("a version").1;
    version.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn server_version(dev: &Dev) -> u32 {
    dev.admin().value("select current_setting('server_version_num')::int / 10000").parse().unwrap()
}

#[test]
fn a_session_in_psql_looks_as_on_postgres_itself() {
    let dev = Dev::start(&["--pool-size", "2", "--superuser-key"]);
    let directory = tempfile::tempdir().unwrap();
    let extended = if client_version("psql") >= 16 {
        "select $1::int + $2::int \\bind 1 2 \\g\nselect $1 \\bind x \\gdesc\n\\drg"
    } else {
        ""
    };
    let file = directory.path().join("copied.csv").display().to_string();
    let script = SESSION.replace("EXTENDED", extended).replace("FILE", &file);
    let said = |url: &str| {
        let said = psql_file(url, &script);
        // The clock of \watch.
        let lines: Vec<&str> = said.lines().filter(|line| !line.contains("(every 0.01s)")).collect();
        lines.join("\n")
    };
    let direct = said(dev.text("/upstream/admin_dsn"));
    // It did what it is for: the watch went on to its error, and both sides of \copy ran.
    for word in ["turn", "division by zero", "COPY 5", "LOCATION:", "Column |"] {
        assert!(direct.contains(word), "{word}: {direct}");
    }
    assert_eq!(said(dev.text("/superuser/dsn")), direct);
}

#[test]
fn a_tenant_sees_in_psql_what_its_role_sees_directly() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let newer = server_version(&dev) > client_version("psql");
    let admin = dev.text("/upstream/admin_dsn");
    for command in [
        "\\d",
        "\\d+",
        "\\d \"Segment\"",
        "\\d+ \"Segment\"",
        "\\dt",
        "\\dt+",
        "\\df",
        "\\dn",
        "\\dn+",
        "\\du",
        "\\l",
        "\\dp",
        "\\dT+",
        "\\di",
        "\\ds",
        "\\dv",
        "\\dy",
        "\\dO",
        "\\dconfig work_mem",
        "\\sf pg_get_serial_sequence",
        "\\dd",
        "\\ddp",
        "\\dRp",
        "\\dx",
        "\\dL",
        "\\db",
        "\\encoding",
    ] {
        let direct = psql(admin, &format!("set session authorization pgcordon_app;\n{command}\n"));
        if newer && direct.contains("ERROR") {
            // This psql asks for a column that the server has no more.
            continue;
        }
        let through = psql(dev.acme(), &format!("select;\n{command}\n"));
        assert_eq!(through.trim_start_matches("\n"), direct.trim_start_matches("SET\n"), "{command}");
        assert!(!through.contains("ERROR"), "{command}: {through}");
    }
    let connection = psql(dev.acme(), "\\conninfo\n");
    assert!(connection.contains("app") && connection.contains("pk_"), "{connection}");
}

/// Runs a program of Postgres, which must succeed, and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it is installed");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
    let said = String::from_utf8(output.stdout).unwrap();
    // A word of chance that newer minor versions write into every dump.
    said.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn pg_dump_and_pg_restore_work_with_a_system_key_and_with_a_tenants() {
    let dev = Dev::start(&["--pool-size", "4"]);
    if client_version("pg_dump") < server_version(&dev) {
        // pg_dump refuses servers that are newer than itself.
        return;
    }
    let (admin, system, acme, globex) = (dev.text("/upstream/admin_dsn"), dev.system(), dev.acme(), dev.globex());
    let whole = run("pg_dump", &["-n", "public", admin]);
    assert!(whole.contains("COPY public.\"Segment\""));
    assert_eq!(run("pg_dump", &["-n", "public", system]), whole);
    // Workers see the leader's snapshot.
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("parallel").display().to_string();
    run("pg_dump", &["-Fd", "-j", "3", "-n", "public", "-f", &archive, system]);
    assert_eq!(run("pg_restore", &["-f", "-", &archive]), whole);
    let schema = run("pg_dump", &["-s", "-n", "public", admin]);
    assert_eq!(run("pg_dump", &["-s", "-n", "public", acme]), schema);
    // Without the option a tenant is refused, for it would get a part only.
    let output = Command::new("pg_dump").args(["-a", "-t", "\"Segment\"", acme]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("row-level security"), "{output:?}");
    let own = |url: &str, further: &[&str]| {
        let options = ["-a", "--enable-row-security", "--column-inserts"];
        let tables = ["-t", "\"EmailTemplate\"", "-t", "\"UserProperty\"", "-t", "\"UserPropertyAssignment\""];
        run("pg_dump", &[&options[..], &tables, further, &[url]].concat())
    };
    let (before, others) = (own(acme, &[]), own(globex, &[]));
    let workspaces = [dev.text("/workspaces/0/id"), dev.text("/workspaces/1/id")];
    assert!(before.contains(workspaces[0]) && !before.contains(workspaces[1]));
    // Emptied and restored, the tenant has what it had, and the other wasn't touched.
    let archive = directory.path().join("own").display().to_string();
    own(acme, &["-Fc", "-f", &archive]);
    let mut tenant = Wire::open(acme);
    let emptied = "delete from \"EmailTemplate\"; delete from \"UserPropertyAssignment\"; delete from \"UserProperty\"";
    assert!(!tenant.query(emptied).contains("E("));
    run("pg_restore", &["-a", "--enable-row-security", "-d", acme, &archive]);
    assert_eq!(own(acme, &[]), before);
    assert_eq!(own(globex, &[]), others);
    // A sequence tells what others have taken of it: that is for the owner to show.
    let steps = ["-a", "--enable-row-security", "--column-inserts", "-t", "\"JourneyStep\"", acme];
    let output = Command::new("pg_dump").args(steps).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("permission denied for sequence"), "{output:?}");
    dev.admin().query("grant select on sequence \"JourneyStep_id_seq\" to pgcordon_app");
    assert!(run("pg_dump", &steps).contains("INSERT INTO public.\"JourneyStep\""));
}

#[test]
fn pgbench_runs_for_two_tenants_at_once_on_one_server_connection_in_every_mode() {
    let dev = Dev::start(&["--pool-size", "1"]);
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script.sql");
    // Each transaction checks what it reads: a row of another tenant would divide by zero.
    let text = "\\set number random(1, 1000)\nbegin;\n\
                select 1 / (count(*) - (select count(*) from \"Segment\" where \"workspaceId\" = current_setting('app.workspace_id')::uuid) + 1) \
                from \"Segment\" where :number > 0;\ncommit;\n";
    std::fs::write(&script, text).unwrap();
    let pgbench = |url: &str, mode: &str| {
        Command::new("pgbench")
            // A thread for each client: pgbench waits for each statement it prepares, also for the transaction of another
            // client of the same thread.
            .args(["-n", "-c", "4", "-j", "4", "-t", "50", "-M", mode, "-f"])
            .arg(&script)
            .arg(url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pgbench is installed")
    };
    for mode in ["simple", "extended", "prepared"] {
        for running in [pgbench(dev.acme(), mode), pgbench(dev.globex(), mode)] {
            let output = running.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
            assert!(output.status.success() && said.contains("200/200"), "{mode}: {said}");
        }
    }
    assert_eq!(Wire::open(dev.globex()).value("select 1"), "1");
}

#[test]
fn pgbench_makes_its_tables_through_a_system_key_and_runs_its_own_script() {
    let dev = Dev::start(&["--pool-size", "4"]);
    let system = dev.system();
    let pgbench = |options: &[&str]| {
        let output = Command::new("pgbench").args(options).arg(system).output().expect("pgbench is installed");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{options:?}: {said}");
        said
    };
    pgbench(&["-i", "-q", "-I", "dtgvpf"]);
    for mode in ["simple", "extended", "prepared"] {
        let said = pgbench(&["-n", "-c", "4", "-j", "2", "-t", "20", "-M", mode]);
        assert!(said.contains("80/80"), "{mode}: {said}");
    }
    let said = pgbench(&["-n", "-C", "-c", "2", "-t", "10", "-S"]);
    assert!(said.contains("20/20"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("pipeline.sql").display().to_string();
    let text = "\\startpipeline\nbegin;\nupdate pgbench_accounts set abalance = abalance + 1 where aid = 1;\n\
                select abalance from pgbench_accounts where aid = 1;\ncommit;\n\\endpipeline\n";
    std::fs::write(&script, text).unwrap();
    for mode in ["extended", "prepared"] {
        let said = pgbench(&["-n", "-c", "3", "-j", "3", "-t", "20", "-M", mode, "-f", &script]);
        assert!(said.contains("60/60"), "{mode}: {said}");
    }
    let mut system = Wire::open(dev.system());
    assert_eq!(system.value("select count(*) from pgbench_history"), "240");
    let of_pipelines = "select abalance - (select coalesce(sum(delta), 0) from pgbench_history where aid = 1) from pgbench_accounts where aid = 1";
    assert_eq!(system.value(of_pipelines), "120");
}
