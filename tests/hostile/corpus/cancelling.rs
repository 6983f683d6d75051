//! Cancel requests: for what isn't one's own, and at moments when something else is on the connection.

use pgcordon_tests::wire::{cancel, extended, query};

use super::Step::{Again, Busy, Bytes, Door, Half, Sql, Victim};
use super::{Attack, attack};
use crate::range::Known;

fn guess(known: &Known, number: u32) -> Vec<u8> {
    let pids = [known.victim_pid, known.pid, known.victim_pid.wrapping_add(1)];
    cancel(pids[number as usize % 3], &number.wrapping_mul(2_654_435_761).to_be_bytes())
}

pub(super) const ATTACKS: &[Attack] = &[
    attack(
        "secrets that are guessed",
        &[
            Busy,
            Door(|k| guess(k, 0)),
            Door(|k| guess(k, 1)),
            Door(|k| guess(k, 2)),
            Door(|k| guess(k, 3)),
            Door(|k| guess(k, 6)),
            Door(|k| guess(k, 9)),
            Victim,
        ],
    ),
    attack(
        "one's own secret for the victim's process",
        &[Busy, Door(|k| cancel(k.victim_pid, &k.cancel_secret)), Victim],
    ),
    attack(
        "no secret, a short one, a long one",
        &[
            Busy,
            Door(|k| cancel(k.victim_pid, b"")),
            Door(|k| cancel(k.victim_pid, b"\0")),
            Door(|k| cancel(k.victim_pid, &[0; 256])),
            Door(|k| cancel(k.victim_pid, &[0; 4])),
            Victim,
        ],
    ),
    attack(
        "the process id of Postgres'",
        &[Busy, Door(|k| cancel(k.server_pid, &[0; 4])), Door(|k| cancel(k.server_pid, &k.cancel_secret)), Victim],
    ),
    attack(
        "process ids that nobody has",
        &[
            Busy,
            Door(|_| cancel(0, &[0; 4])),
            Door(|_| cancel(-1, &[255; 4])),
            Door(|_| cancel(i32::MAX, &[0; 4])),
            Door(|_| cancel(i32::MIN, &[0; 4])),
            Victim,
        ],
    ),
    attack(
        "a cancel request that breaks off",
        &[
            Busy,
            Door(|k| cancel(k.victim_pid, &k.cancel_secret)[..9].to_vec()),
            Door(|_| vec![0, 0, 0, 16, 4, 210, 22, 46]),
            Door(|k| [cancel(k.victim_pid, &[0; 4]), query("select 1")].concat()),
            Victim,
        ],
    ),
    attack(
        "one's own cancel when the victim's turn comes",
        &[
            Half(|_| query("select pg_sleep(0.01)")),
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Busy,
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Victim,
        ],
    ),
    attack(
        "one's own cancel at the end of one's own statement",
        &[
            Sql("select 1"),
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Busy,
            Victim,
            Sql("select 1"),
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Victim,
        ],
    ),
    attack(
        "one's own cancel behind one's own end",
        &[
            Half(|_| extended("select pg_sleep(5)", &[])),
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Busy,
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Victim,
            Again,
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Victim,
        ],
    ),
    attack(
        "cancelling the bind of one's own",
        &[
            Victim,
            Bytes(|_| query("select * from \"Secret\"")),
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Victim,
            Sql("select * from \"Secret\""),
            Door(|k| cancel(k.pid, &k.cancel_secret)),
            Sql("select * from \"Secret\""),
            Victim,
        ],
    ),
];
