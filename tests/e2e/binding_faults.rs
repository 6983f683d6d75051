//! Binds that fail. A tenant's statement runs in its own workspace or not at all, whatever hits the bind: cancels that arrive when
//! they may, server processes that are terminated, and an error within the bind itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{self, Wire};

/// Rounds of each client.
const ROUNDS: usize = 120;

/// Every tenth time a bind ends as Postgres ends a statement for which there is no memory.
const OUT_OF_MEMORY: &str = "\
    alter function cordon.bind(text) rename to true_bind; \
    create function cordon.bind(bound text) returns text language plpgsql as $$ begin \
        if random() < 0.1 then raise 'out of memory' using errcode = '53200'; end if; return cordon.true_bind(bound); end $$; \
    grant execute on function cordon.bind(text) to public; \
    select pg_terminate_backend(pid) from pg_stat_activity where usename = 'pgcordon_app'";

/// The same in a database that was made by a version that knew no other way to bind than four calls.
const OUT_OF_MEMORY_BEFORE: &str = "\
    drop function cordon.bind(text); \
    alter function cordon.mark() rename to true_mark; \
    create function cordon.mark() returns bool language plpgsql as $$ begin \
        if random() < 0.1 then raise 'out of memory' using errcode = '53200'; end if; return cordon.true_mark(); end $$; \
    grant execute on function cordon.mark() to public; \
    select pg_terminate_backend(pid) from pg_stat_activity where usename = 'pgcordon_app'";

/// What a client has seen.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    errors: AtomicUsize,
}

#[test]
fn a_bind_that_fails_lets_no_statement_run_in_another_workspace() {
    no_statement_goes_astray(OUT_OF_MEMORY);
}

#[test]
fn a_bind_of_an_older_schema_that_fails_lets_none_either() {
    no_statement_goes_astray(OUT_OF_MEMORY_BEFORE);
}

fn no_statement_goes_astray(out_of_memory: &str) {
    let dev = &Dev::start(&["--pool-size", "2"]);
    let mut admin = dev.admin();
    admin.query(out_of_memory);
    let (stop, seen) = (AtomicBool::new(false), Seen::default());
    thread::scope(|scope| {
        let fault = scope.spawn(|| hit(dev, &stop));
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let (seen, place) = (&seen, number % 2);
                scope.spawn(move || work(dev, place, number, seen))
            })
            .collect();
        let ended: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        fault.join().unwrap();
        ended.into_iter().for_each(|each| each.unwrap());
    });
    let astray = "select count(*) from \"Segment\" s join \"Workspace\" w on w.id = s.\"workspaceId\" \
        where s.name like '%-bound-%' and split_part(s.name, '-', 1) <> lower(w.name)";
    assert_eq!(admin.value(astray), "0");
    let (answers, errors) = (seen.answers.into_inner(), seen.errors.into_inner());
    assert!(answers > ROUNDS && errors > ROUNDS / 10, "{answers} answers and {errors} errors say little");
    let failed = "select count(*) from cordon.audit_event where event_type = 'CONTEXT_FAILED'";
    let told = (0..1000).any(|_| {
        thread::sleep(std::time::Duration::from_millis(10));
        admin.value(failed) != "0"
    });
    assert!(told, "no bind has failed");
}

/// Cancels what runs for tenants, and ends some of it, as it comes.
fn hit(dev: &Dev, stop: &AtomicBool) {
    let mut admin = dev.admin();
    // A login to Postgres that is hit is tried again by itself, and says nothing of binds.
    let any = "from pg_stat_activity where usename = 'pgcordon_app' and clock_timestamp() - backend_start > '50 ms' order by random() limit 1";
    for number in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let what = if number % 40 == 39 { "pg_terminate_backend" } else { "pg_cancel_backend" };
        admin.query(&format!("select {what}(pid) {any}"));
        // Else none would come to anything.
        thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A tenant that reads and writes, and begins again when it was ended.
fn work(dev: &Dev, place: usize, number: usize, seen: &Seen) {
    let name = ["acme", "globex"][place];
    let url = [dev.acme(), dev.globex()][place];
    let own = dev.text(&format!("/workspaces/{place}/id"));
    let mut wire = None;
    for round in 0..ROUNDS {
        let Some(client) = wire.as_mut() else {
            wire = Wire::try_open(url, &[]).ok();
            continue;
        };
        let read = "select string_agg(distinct \"workspaceId\"::text, ',') from \"Segment\"";
        let insert = format!(
            "insert into \"Segment\" (name) values ('{name}-bound-{number}-{round}') returning \"workspaceId\""
        );
        let sent = match round % 3 {
            0 => wire::query(read),
            1 => wire::query(&format!("begin; {insert}; commit")),
            _ => [wire::extended(read, &[]), wire::extended(&insert, &[])].concat(),
        };
        client.send(&sent);
        let mut cycles = if round % 3 == 2 { 2 } else { 1 };
        while cycles > 0 {
            let Some(message) = client.read() else {
                wire = None;
                break;
            };
            match message.tag {
                b'D' => {
                    assert_eq!(message.word(), format!("D({own})"), "{name} sees another workspace");
                    seen.answers.fetch_add(1, Ordering::Relaxed);
                }
                b'E' => {
                    seen.errors.fetch_add(1, Ordering::Relaxed);
                }
                b'Z' => cycles -= 1,
                _ => {}
            }
        }
    }
}

/// A `cordon.mark()` that no bind survives.
const NO_MARK: &str = "create or replace function cordon.mark() returns bool language plpgsql security definer \
    set search_path = pg_catalog, pg_temp as $$ begin raise 'asked to mark'; end $$";
const AGAIN: &str = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'pgcordon_app'";
const WHOSE: &str = "select string_agg(distinct \"workspaceId\"::text, ',') from \"Segment\"";

#[test]
fn a_bind_is_one_call_and_goes_by_mark_where_the_schema_is_older() {
    let dev = &Dev::start(&["--pool-size", "1"]);
    let mut admin = dev.admin();
    admin.query(NO_MARK);
    let ids = [0, 1].map(|place| dev.text(&format!("/workspaces/{place}/id")).to_owned());
    let mut clients = [dev.acme(), dev.globex()].map(Wire::open);
    for _ in 0..5 {
        for (client, own) in clients.iter_mut().zip(&ids) {
            assert_eq!(client.value(WHOSE), *own);
        }
    }
    // A tenant that calls it itself, by its number: nothing is gained.
    let number = admin.value("select 'cordon.bind(text)'::regprocedure::oid").parse().unwrap();
    let forged = format!("{}|99999999999.{}|0", ids[1], "0".repeat(64));
    clients[0].send(&[wire::function_call(number, &[&forged]), wire::query(WHOSE)].concat());
    let told = clients[0].cycles(2);
    assert!(!told.contains(&ids[1]) && told.contains("E("), "{told}");
    assert_eq!(clients[0].value(WHOSE), ids[0]);
    admin.query("drop function cordon.bind(text)");
    admin.query(AGAIN);
    let mut client = Wire::open(dev.acme());
    let told = client.query(WHOSE);
    assert!(told.starts_with("E("), "it was bound by something else than mark(): {told}");
    admin.query("create or replace function cordon.mark() returns bool language sql return false");
    assert_eq!(Wire::open(dev.acme()).value(WHOSE), ids[0]);
}
