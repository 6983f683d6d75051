//! What a tenant can do to others by way of homes: server connections that it keeps, and process ids that it shares.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use pgcordon_tests::wire::{Wire, cancel, query};

use crate::stage::on_one_and_on_many;

/// Tells a crowd to end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_crowd_that_keeps_server_connections_for_its_numbers_keeps_nobody_from_working() {
    on_one_and_on_many(|stage| {
        let url = stage.dev.acme().to_owned();
        let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..12 {
                let (url, stop, asked) = (&url, &stop, &asked);
                scope.spawn(move || {
                    let mut wire = Wire::open(url);
                    while !stop.load(Ordering::Relaxed) {
                        // Some ask, some only write, some do nothing with what they keep.
                        let sql =
                            ["select lastval()", "select pg_backend_pid()", "delete from \"Segment\" where false"];
                        wire.query(sql[number % 3]);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // Also when an assertion fails: the crowd is waited for.
            let _end = Ends(&stop);
            for served in 0..100_000 {
                if served >= 15 && asked.load(Ordering::Relaxed) >= 15 {
                    break;
                }
                assert_eq!(stage.victim().query("select 1"), "T D(1) C(SELECT 1) Z(I)");
            }
        });
        assert!(asked.into_inner() >= 15, "the crowd had its turns");
    });
}

#[test]
fn a_process_id_that_is_shared_lets_nobody_stop_anothers_statement() {
    on_one_and_on_many(|stage| {
        let pid = stage.victim().key.0;
        stage.victim().send(&query("select pg_sleep(0.5)"));
        let (host, port) = stage.dev.address();
        // With every secret that the attacker was ever given for this process, and with guesses.
        let own: Vec<Wire> = (0..10).map(|_| Wire::open(stage.dev.acme())).collect();
        let secrets =
            own.iter().map(|each| each.key.1.clone()).chain((0..200_u32).map(|each| each.to_be_bytes().to_vec()));
        for secret in secrets {
            let mut other = Wire::raw((&host, port));
            other.send(&cancel(pid, &secret));
        }
        assert_eq!(stage.victim().cycles(1), "T D() C(SELECT 1) Z(I)");
    });
}
