//! What a client leaves in its session goes with it from one server connection to another, and nobody else has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, bind, close, describe, execute, extended, function_call, parse, query, sync};

/// Asked so, a client isn't kept where it is.
const PID: &str = "select process_id()";
const SET_CONFIG: u32 = 2078;

/// Whoever holds server connections of the shared proxy takes turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client on two server connections, and two others of its workspace, with settings of their own, that make it move.
struct Moved {
    dev: Arc<Dev>,
    wire: Wire,
    others: [Wire; 2],
    _turn: MutexGuard<'static, ()>,
}

impl Moved {
    fn new(startup: &[(&str, &str)]) -> Self {
        let (turn, dev) = (turn(), Dev::shared(2));
        dev.make_process_id();
        let other = |zone: &str| {
            Wire::open_with(
                dev.acme(),
                &[("application_name", "other"), ("TimeZone", zone), ("options", "-c my.own=no")],
            )
        };
        let others = [other("Asia/Tokyo"), other("America/Lima")];
        let wire = Wire::open_with(dev.acme(), startup);
        Self { dev, wire, others, _turn: turn }
    }

    /// From now on the client is on the other server connection.
    fn move_over(&mut self) -> &mut Wire {
        let at = self.wire.value(PID);
        let mut held = Vec::new();
        for other in &mut self.others {
            other.query("begin");
            held.push(other.value(PID));
        }
        assert_ne!(held[0], held[1]);
        let free = held.iter().position(|pid| *pid != at).unwrap();
        self.others[free].query("commit");
        assert_ne!(self.wire.value(PID), at, "it moved");
        self.others[1 - free].query("commit");
        &mut self.wire
    }

    /// A value, which is the same on both.
    fn value(&mut self, sql: &str) -> String {
        let here = self.wire.value(sql);
        assert_eq!(self.move_over().value(sql), here, "{sql}");
        here
    }
}

#[test]
fn settings_go_along_as_the_transaction_left_them() {
    let mut client = Moved::new(&[]);
    for (sql, expected) in [
        ("set work_mem = '7MB'", "7MB"),
        ("begin; set work_mem = '8MB'; rollback", "7MB"),
        ("begin; set work_mem = '8MB'; savepoint a; set work_mem = '9MB'; rollback to a; commit", "8MB"),
        ("begin; set local work_mem = '9MB'; commit", "8MB"),
        ("select set_config('work_mem', '10MB', false)", "10MB"),
        ("select set_config('work_mem', '11MB', true)", "10MB"),
        ("reset work_mem", "4MB"),
        ("set work_mem = '7MB'; set work_mem to default", "4MB"),
        ("set work_mem = '7MB'; reset all", "4MB"),
        ("set work_mem = '7MB'", "7MB"),
        ("discard all", "4MB"),
    ] {
        client.wire.query(sql);
        assert_eq!(client.value("show work_mem"), expected, "{sql}");
    }
    client.wire.send(&function_call(SET_CONFIG, &["work_mem", "12MB", "f"]));
    assert_eq!(client.wire.cycles(1), "V(12MB) Z(I)");
    assert_eq!(client.value("show work_mem"), "12MB");
    client.wire.send(&extended("set work_mem = '13MB'", &[]));
    client.wire.cycles(1);
    assert_eq!(client.value("show work_mem"), "13MB");
}

#[test]
fn a_setting_that_was_refused_troubles_neither_its_client_nor_others() {
    let mut client = Moved::new(&[]);
    for (sql, error) in [
        ("set track_functions = 'all'", "E(42501)"),
        ("set session_replication_role = replica", "E(42501)"),
        ("set max_connections = 7", "E(55P02)"),
        ("set data_directory = '/'", "E(55P02)"),
        ("set ignore_system_indexes = on", "E(55P02)"),
        ("set no_such_setting = 1", "E(42704)"),
        ("select set_config('lc_messages', 'C', false)", "E(42501)"),
        ("begin; set local log_statement = 'all'", "E(42501)"),
    ] {
        let answer = client.wire.query(sql);
        assert!(answer.contains(error), "{sql}: {answer}");
        client.wire.query("rollback");
        let mut newcomer = Wire::open(client.dev.acme());
        assert_eq!(newcomer.value("select count(*) > 0 from \"Segment\""), "t", "{sql}");
        assert_eq!(client.value("select count(*) > 0 from \"Segment\""), "t", "{sql}");
    }
    let answer = client.wire.query("set work_mem = '7MB'; commit; select 1/0");
    assert!(answer.ends_with("E(22012) Z(I)"), "{answer}");
    assert_eq!(client.value("show work_mem"), "7MB");
    client.wire.query("select set_config('seed', '0.5', false)");
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn a_reset_goes_back_to_what_the_client_connected_with() {
    let mut client = Moved::new(&[("options", "-c work_mem=5MB -c my.own=yes"), ("TimeZone", "Europe/Rome")]);
    for (sql, expected) in [
        ("select 1", "5MB"),
        ("set work_mem = '7MB'; reset work_mem", "5MB"),
        ("set work_mem = '7MB'", "7MB"),
        ("set work_mem to default", "5MB"),
        ("begin; set work_mem = '7MB'; reset work_mem; commit", "5MB"),
        ("begin; set local work_mem = '7MB'; commit", "5MB"),
        ("set work_mem = '7MB'", "7MB"),
        ("begin; reset work_mem; rollback", "7MB"),
        ("begin; reset all; rollback", "7MB"),
        ("begin; savepoint a; reset all; rollback to a; commit", "7MB"),
        ("begin; reset all; commit", "5MB"),
        ("set work_mem = '7MB'; select pg_advisory_unlock_all(); reset all", "5MB"),
        ("reset all; set work_mem = '7MB'", "7MB"),
        ("discard all", "5MB"),
    ] {
        client.wire.query(sql);
        assert_eq!(client.value("show work_mem"), expected, "{sql}");
        assert_eq!(client.value("show timezone") + &client.value("show my.own"), "Europe/Romeyes", "{sql}");
        assert_eq!(client.wire.value("select count(*) > 0 from \"Segment\""), "t", "the workspace isn't lost: {sql}");
    }
    // At once, in the same transaction.
    client.wire.query("begin; set work_mem = '7MB'");
    assert_eq!(client.wire.query("reset work_mem"), "C(RESET) Z(T)");
    assert_eq!(client.wire.value("show work_mem"), "5MB");
    assert_eq!(client.wire.query("set work_mem = '7MB'; reset all"), "C(SET) C(RESET) Z(T)");
    assert_eq!(client.wire.value("show work_mem"), "5MB");
    assert_eq!(client.wire.value("select count(*) > 0 from \"Segment\""), "t");
    client.wire.query("commit");
    let null = [&function_call(SET_CONFIG, &["work_mem"])[5..13], &[0, 3]].concat();
    let null = [&null[..], &[0, 0, 0, 8], b"work_mem", &(-1_i32).to_be_bytes(), &[0, 0, 0, 1], b"f", &[0, 0]].concat();
    client.wire.query("set work_mem = '7MB'");
    client.wire.send(&pgcordon_tests::wire::frame(b'F', &null));
    client.wire.cycles(1);
    assert_eq!(client.value("show work_mem"), "5MB");
}

#[test]
fn a_client_hears_of_its_parameters_when_they_change_and_only_then() {
    let mut client = Moved::new(&[("application_name", "mine"), ("TimeZone", "Europe/Rome")]);
    let told = |wire: &Wire, name: &str| wire.parameters.iter().find(|(each, _)| each == name).unwrap().1.clone();
    assert_eq!(
        (told(&client.wire, "application_name"), told(&client.wire, "TimeZone")),
        ("mine".into(), "Europe/Rome".into())
    );
    for _ in 0..2 {
        assert_eq!(client.move_over().query("select 1"), "T D(1) C(SELECT 1) Z(I)");
    }
    for (sql, answer) in [
        ("set timezone = 'UTC'", "C(SET) S(TimeZone=UTC) Z(I)"),
        ("set timezone = 'UTC'", "C(SET) Z(I)"),
        ("begin; set application_name = 'x'", "C(BEGIN) C(SET) S(application_name=x) Z(T)"),
        ("rollback", "C(ROLLBACK) S(application_name=mine) Z(I)"),
        ("reset timezone", "C(RESET) S(TimeZone=Europe/Rome) Z(I)"),
        ("reset timezone", "C(RESET) Z(I)"),
        ("set application_name = 'y'", "C(SET) S(application_name=y) Z(I)"),
        ("reset all", "C(RESET) S(application_name=mine) Z(I)"),
        ("discard all", "C(DISCARD ALL) Z(I)"),
    ] {
        assert_eq!(client.wire.query(sql), answer, "{sql}");
        if answer.ends_with("Z(I)") {
            assert_eq!(client.move_over().query("select 1"), "T D(1) C(SELECT 1) Z(I)", "after {sql}");
        }
    }
}

#[test]
fn prepared_statements_go_along_under_any_name_and_none() {
    let mut client = Moved::new(&[]);
    let run = |name: &str| [bind("", name, &[]), execute("", 0), sync()].concat();
    client.wire.send(&[parse("a", "select 'a'"), parse("b", "select 'b'"), sync()].concat());
    client.wire.cycles(1);
    for _ in 0..2 {
        client.wire.send(&[parse("", "select 'none'"), describe(b'S', ""), sync()].concat());
        assert_eq!(client.wire.cycles(1), "1 t T Z(I)");
        for (name, value) in [("a", "a"), ("b", "b")] {
            client.wire.send(&run(name));
            assert_eq!(client.wire.cycles(1), format!("2 D({value}) C(SELECT 1) Z(I)"));
        }
        client.move_over();
    }
    // Queries end the unnamed statement, so it tells itself where it is.
    let at = client.wire.value(PID);
    client.wire.send(&[parse("", PID), sync()].concat());
    assert_eq!(client.wire.cycles(1), "1 Z(I)");
    let held: Vec<_> = client.others.iter_mut().map(|other| (other.query("begin"), other.value(PID)).1).collect();
    let free = held.iter().position(|pid| *pid != at).unwrap();
    client.others[free].query("commit");
    for _ in 0..2 {
        client.wire.send(&run(""));
        assert_eq!(client.wire.cycles(1), format!("2 D({}) C(SELECT 1) Z(I)", held[free]));
    }
    client.others[1 - free].query("commit");
    assert_eq!(client.wire.query("deallocate a"), "C(DEALLOCATE) Z(I)");
    for _ in 0..2 {
        client.move_over().send(&[run("a"), run("b")].concat());
        assert_eq!(client.wire.cycles(2), "E(26000) Z(I) 2 D(b) C(SELECT 1) Z(I)");
    }
    client.wire.send(&[parse("a", "select 'again'"), sync(), extended("deallocate b", &[])].concat());
    assert_eq!(client.wire.cycles(2), "1 Z(I) 1 2 C(DEALLOCATE) Z(I)");
    for _ in 0..2 {
        client.move_over().send(&[run("a"), run("b")].concat());
        assert_eq!(client.wire.cycles(2), "2 D(again) C(SELECT 1) Z(I) E(26000) Z(I)");
    }
    for all in ["deallocate all", "discard all"] {
        client.wire.send(&[close(b'S', "a"), parse("a", "select 1"), sync(), query(all), run("a")].concat());
        assert!(client.wire.cycles(3).ends_with("E(26000) Z(I)"), "{all}");
        client.move_over().send(&run("a"));
        assert_eq!(client.wire.cycles(1), "E(26000) Z(I)");
    }
}

#[test]
fn sql_finds_statements_of_the_protocol_and_the_protocol_those_of_sql() {
    let mut client = Moved::new(&[]);
    client.wire.send(&[parse("a", "select 'a'"), sync()].concat());
    client.wire.cycles(1);
    client.move_over();
    assert_eq!(client.wire.query("prepare a as select 1"), "E(42P05) Z(I)");
    assert_eq!(client.wire.query("execute a"), "T D(a) C(EXECUTE) Z(I)".replace("EXECUTE", "SELECT 1"));
    assert_eq!(client.wire.query("prepare s as select 's'"), "C(PREPARE) Z(I)");
    client.wire.send(&[bind("", "s", &[]), execute("", 0), parse("s", "select 1"), sync()].concat());
    assert_eq!(client.wire.cycles(1), "2 D(s) C(SELECT 1) E(42P05) Z(I)");
    client.wire.send(&extended("execute s", &[]));
    assert_eq!(client.wire.cycles(1), "1 2 D(s) C(SELECT 1) Z(I)");
    client.wire.query("discard all");
    client.wire.send(&[bind("", "s", &[]), sync()].concat());
    assert_eq!(client.wire.cycles(1), "E(26000) Z(I)");
    client.move_over();
}

#[test]
fn whoever_prepares_after_a_table_was_altered_is_spared_on_every_server_connection() {
    let mut client = Moved::new(&[]);
    let table = "altered_beside_the_proxy";
    let mut admin = client.dev.admin();
    admin.query(&format!(
        "create table {table} (a int); insert into {table} values (1); grant select on {table} to public"
    ));
    let prepare = [close(b'S', "s"), parse("s", &format!("select * from {table}")), sync()].concat();
    let run = [bind("", "s", &[]), execute("", 0), sync()].concat();
    for (ddl, row) in [
        ("select 1".to_owned(), "1"),
        (format!("alter table {table} add column b int default 2"), "1|2"),
        (format!("alter table {table} alter column b type text using 'two'"), "1|two"),
        (
            format!(
                "drop table {table}; create table {table} (z text); insert into {table} values ('z'); grant select on {table} to public"
            ),
            "z",
        ),
    ] {
        // Somebody has it prepared on both.
        for other in &mut client.others {
            other.send(&[query("begin"), prepare.clone(), run.clone()].concat());
            other.cycles(3);
        }
        client.others.iter_mut().for_each(|other| drop(other.query("commit")));
        assert!(!admin.query(&ddl).contains("E("), "{ddl}");
        client.wire.send(&prepare);
        assert_eq!(client.wire.cycles(1), "3 1 Z(I)");
        for _ in 0..3 {
            client.wire.send(&run);
            assert_eq!(client.wire.cycles(1), format!("2 D({row}) C(SELECT 1) Z(I)"), "{ddl}");
            client.move_over();
        }
        // A driver that is told so prepares again.
        for other in &mut client.others {
            other.send(&[prepare.clone(), run.clone()].concat());
            assert_eq!(other.cycles(2), format!("3 1 Z(I) 2 D({row}) C(SELECT 1) Z(I)"), "{ddl}");
        }
    }
    admin.query(&format!("drop table {table}"));
    client.wire.send(&prepare);
    assert_eq!(client.wire.cycles(1), "3 E(42P01) Z(I)", "Postgres answers, not what somebody had");
}

#[test]
fn whoever_listens_hears_itself_under_the_process_id_it_was_told() {
    let (_turn, dev) = (turn(), Dev::shared(2));
    let mut wire = Wire::open(dev.acme());
    wire.query("listen own");
    wire.send(&query("notify own, 'x'"));
    let pid = loop {
        let message = wire.read().expect("an answer");
        if message.tag == b'A' {
            break i32::from_be_bytes(message.body[..4].try_into().unwrap());
        }
    };
    assert_eq!(pid, wire.key.0);
    let mut other = Wire::open(dev.acme());
    other.query("notify own, 'y'");
    wire.query("select 1");
}

#[test]
fn what_cant_go_along_keeps_the_client_where_it_is_until_all_is_discarded() {
    let (_turn, dev) = (turn(), Dev::shared(2));
    dev.make_process_id();
    for (keep, ask, answer) in [
        ("begin; declare c cursor with hold for select generate_series(1, 3); commit", "fetch 1 from c", "1"),
        ("select pg_advisory_lock(77)", "select count(*) from pg_locks where locktype = 'advisory'", ""),
        ("prepare p as select 5", "execute p", "5"),
        ("listen somewhere", "select count(*) from pg_listening_channels()", "1"),
    ] {
        let mut wire = Wire::open(dev.acme());
        wire.query(keep);
        let pid = wire.value(PID);
        let mut others = [Wire::open(dev.acme()), Wire::open(dev.acme())];
        for other in &mut others {
            other.query("select 1");
            assert_ne!(other.value(PID), pid, "{keep}");
        }
        assert_eq!(wire.value(PID), pid, "{keep}");
        if !answer.is_empty() {
            assert_eq!(wire.value(ask), answer);
        }
        assert!(wire.query("discard all").starts_with("C(DISCARD ALL)"));
        others[0].query("begin");
        others[1].query("begin");
        let held = [others[0].value(PID), others[1].value(PID)];
        assert!(held.contains(&pid), "{keep}: it was given back");
    }
}

#[test]
fn of_temporary_objects_an_empty_schema_stays_for_the_next_client() {
    let (_turn, dev) = (turn(), Dev::shared(1));
    dev.make_process_id();
    let mut first = Wire::open(dev.system());
    first.query("create temp table passing (a int)");
    let pid = first.value(PID);
    drop(first);
    let mut next = Wire::open(dev.system());
    assert_eq!(next.value(PID), pid);
    assert_eq!(next.value("select count(*) from pg_class where relnamespace = pg_my_temp_schema()"), "0");
    assert_eq!(next.value("select pg_my_temp_schema() <> 0"), "t");
}
