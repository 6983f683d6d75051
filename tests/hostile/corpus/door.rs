//! The door: coming in with what one doesn't have.

use pgcordon_tests::wire::{frame, parse, query, startup, sync};

use super::Step::{Door, Sql, Start};
use super::{Attack, attack};

/// The version that everybody speaks.
const V3: i32 = 3 << 16;

fn hello(user: &str, database: &str) -> Vec<u8> {
    startup(V3, &[("user", user), ("database", database)])
}

fn first(mechanism: &str, text: &str) -> Vec<u8> {
    let length = i32::try_from(text.len()).unwrap().to_be_bytes();
    frame(b'p', &[mechanism.as_bytes(), b"\0", &length, text.as_bytes()].concat())
}

/// A login of one go, as somebody who doesn't wait for what the server says, with a statement behind it.
fn blind(user: &str, database: &str, messages: &[Vec<u8>]) -> Vec<u8> {
    [hello(user, database), messages.concat(), query("select * from \"Secret\"")].concat()
}

const PROOF: &str = "c=biws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

pub(super) const ATTACKS: &[Attack] = &[
    attack("the victim's key without a secret", &[Door(|k| blind(&k.key, &k.database, &[frame(b'p', b"\0")]))]),
    attack(
        "the victim's key with the attacker's secret",
        &[Door(|k| blind(&k.key, &k.database, &[frame(b'p', format!("{}\0", k.secret).as_bytes())]))],
    ),
    attack("no authentication at all", &[Door(|k| blind(&k.key, &k.database, &[]))]),
    attack(
        "a statement in place of the proof",
        &[Door(|k| {
            blind(&k.key, &k.database, &[first("SCRAM-SHA-256", "n,,n=,r=abc"), parse("", "select 1"), sync()])
        })],
    ),
    attack(
        "a proof of nothing",
        &[Door(|k| {
            blind(&k.key, &k.database, &[first("SCRAM-SHA-256", "n,,n=,r=abc"), frame(b'p', PROOF.as_bytes())])
        })],
    ),
    attack(
        "a proof without a nonce",
        &[Door(|k| blind(&k.key, &k.database, &[first("SCRAM-SHA-256", "n,,n=,r="), frame(b'p', b"c=biws,r=,p=")]))],
    ),
    attack(
        "another user inside SCRAM",
        &[Door(|k| {
            blind(
                "nobody",
                &k.database,
                &[first("SCRAM-SHA-256", &format!("n,,n={},r=abc", k.key)), frame(b'p', PROOF.as_bytes())],
            )
        })],
    ),
    attack(
        "somebody else's identity inside SCRAM",
        &[Door(|k| {
            blind(
                &k.key,
                &k.database,
                &[first("SCRAM-SHA-256", &format!("n,a={},n=,r=abc", k.key)), frame(b'p', PROOF.as_bytes())],
            )
        })],
    ),
    attack(
        "channel binding where there is no channel",
        &[Door(|k| {
            blind(
                &k.key,
                &k.database,
                &[first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc"), frame(b'p', PROOF.as_bytes())],
            )
        })],
    ),
    attack(
        "the claim that the server has no channel binding",
        &[Door(|k| {
            blind(&k.key, &k.database, &[first("SCRAM-SHA-256", "y,,n=,r=abc"), frame(b'p', b"c=eSws,r=abc,p=AAAA")])
        })],
    ),
    attack(
        "mechanisms that nobody has",
        &[
            Door(|k| blind(&k.key, &k.database, &[first("PLAIN", "\0x\0y")])),
            Door(|k| blind(&k.key, &k.database, &[first("", "")])),
            Door(|k| blind(&k.key, &k.database, &[first("SCRAM-SHA-1", "n,,n=,r=abc")])),
        ],
    ),
    attack(
        "lengths that lie inside SASL",
        &[
            Door(|k| {
                [hello(&k.key, &k.database), frame(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"), query("select 1")]
                    .concat()
            }),
            Door(|k| [hello(&k.key, &k.database), frame(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,")].concat()),
            Door(|k| [hello(&k.key, &k.database), frame(b'p', b"SCRAM-SHA-256")].concat()),
        ],
    ),
    attack(
        "GSS and SSPI",
        &[Door(|k| {
            [hello(&k.key, &k.database), frame(b'p', b"NTLMSSP\0\x01\0\0\0"), frame(b'p', b"\x60\x82")].concat()
        })],
    ),
    attack(
        "the user named twice",
        &[
            Door(|k| {
                [
                    startup(V3, &[("user", &k.user), ("user", &k.key), ("database", &k.database)]),
                    frame(b'p', format!("{}\0", k.secret).as_bytes()),
                ]
                .concat()
            }),
            Start(&[("user", "{key}")]),
            Sql("select * from \"Secret\""),
        ],
    ),
    attack(
        "the database named twice",
        &[
            Start(&[("database", "postgres")]),
            Sql("select current_database(), * from pg_stat_activity"),
            Start(&[("database", "template1")]),
            Sql("select current_database()"),
        ],
    ),
    attack(
        "upstream roles as users",
        &[
            Door(|k| blind("postgres", &k.database, &[frame(b'p', b"\0")])),
            Door(|k| blind("pgcordon_system", &k.database, &[frame(b'p', b"\0")])),
            Door(|k| blind("pgcordon_control", &k.database, &[frame(b'p', b"\0")])),
            Door(|k| blind("pgcordon_app", &k.database, &[frame(b'p', b"\0")])),
            Door(|k| blind("cordon", &k.database, &[frame(b'p', b"\0")])),
            Door(|k| blind("pgcordon_owner", &k.database, &[frame(b'p', b"\0")])),
        ],
    ),
    attack(
        "names with traps",
        &[
            Door(|k| blind("", &k.database, &[])),
            Door(|k| blind("' or 1=1 --", &k.database, &[first("SCRAM-SHA-256", "n,,n=,r=abc")])),
            Door(|k| blind(&"x".repeat(9_000), &k.database, &[])),
            Door(|k| blind(&format!("{} ", k.key), &k.database, &[frame(b'p', b"\0")])),
            Door(|k| blind(&k.key.to_uppercase(), &k.database, &[frame(b'p', b"\0")])),
            Door(|k| blind(&format!("{}@{}", k.key, k.database), "postgres", &[])),
        ],
    ),
    attack(
        "databases with traps",
        &[
            Door(|k| blind(&k.key, "", &[frame(b'p', b"\0")])),
            Door(|k| blind(&k.key, "template0", &[frame(b'p', b"\0")])),
            Door(|k| blind(&k.key, "pgbouncer", &[frame(b'p', b"\0")])),
            Door(|k| blind(&k.key, "pgcordon", &[frame(b'p', b"\0")])),
            Door(|k| blind(&k.key, "host=/tmp dbname=app", &[])),
        ],
    ),
    attack(
        "replication",
        &[
            Start(&[("replication", "database")]),
            Sql("IDENTIFY_SYSTEM"),
            Sql("select * from \"Secret\""),
            Start(&[("replication", "true")]),
            Sql("IDENTIFY_SYSTEM"),
            Sql("BASE_BACKUP"),
        ],
    ),
    attack(
        "the administrator's console",
        &[
            Start(&[("database", "pgbouncer")]),
            Sql("show clients"),
            Sql("show servers"),
            Start(&[("database", "pgcordon")]),
            Sql("show clients"),
        ],
    ),
    attack(
        "bytes before the handshake",
        &[
            Door(|k| [&[0, 0, 0, 8, 4, 210, 22, 47][..], &hello(&k.key, &k.database), &query("select 1")].concat()),
            Door(|k| [&[0, 0, 0, 8, 4, 210, 22, 48][..], &hello(&k.key, &k.database)].concat()),
        ],
    ),
    attack(
        "asking for TLS twice",
        &[
            Door(|_| [0, 0, 0, 8, 4, 210, 22, 47].repeat(2)),
            Door(|_| [[0, 0, 0, 8, 4, 210, 22, 48], [0, 0, 0, 8, 4, 210, 22, 47]].concat()),
            Door(|_| [0, 0, 0, 8, 4, 210, 22, 47].repeat(200)),
        ],
    ),
    attack(
        "versions of long ago and of the future",
        &[
            Door(|k| startup(2 << 16, &[("user", &k.key)])),
            Door(|k| startup((3 << 16) + 9_999, &[("user", &k.key), ("_pq_.workspace", &k.theirs)])),
            Door(|k| startup(4 << 16, &[("user", &k.key)])),
            Door(|_| vec![0, 0, 0, 4]),
            Door(|_| vec![0, 0, 0, 0]),
            Door(|_| b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ],
    ),
    attack(
        "a startup packet of any length",
        &[
            Door(|_| vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
            Door(|_| vec![0, 0, 39, 17, 0, 3, 0, 0]),
            Door(|_| [&[0, 0, 0, 20, 0, 3, 0, 0][..], b"user\0nobody"].concat()),
            Door(|k| startup(V3, &[("user", &k.key), ("x", &"y".repeat(9_000))])),
        ],
    ),
];
