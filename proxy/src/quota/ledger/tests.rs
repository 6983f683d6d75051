//! A transaction's scripts, and a ledger against one that replays everything from the start.

use proptest::prelude::*;

use super::*;

const SEGMENTS: ResourceId = ResourceId(1);
const SEATS: ResourceId = ResourceId(2);

fn ledger() -> Ledger {
    Ledger::new(Moment::default())
}

fn settlement(reserved: u64, credited: u64) -> Settlement {
    Settlement { reserved, credited, since: Moment::default() }
}

/// Inserts as a session does that is granted everything.
fn insert(ledger: &mut Ledger, resource: ResourceId, rows: u64) -> u64 {
    let needed = ledger.needed(resource, rows);
    ledger.inserts(resource, rows, needed);
    needed
}

#[test]
fn what_was_reserved_is_settled_or_released_as_a_whole() {
    let mut done = ledger();
    assert!(done.is_empty());
    insert(&mut done, SEGMENTS, 2);
    insert(&mut done, SEATS, 1);
    insert(&mut done, SEGMENTS, 1);
    assert_eq!((done.own(SEGMENTS), done.own(SEATS)), (3, 1));
    assert_eq!(done.clone().rollback(), [(SEGMENTS, 3), (SEATS, 1)]);
    assert_eq!(done.commit(), [(SEGMENTS, settlement(3, 0)), (SEATS, settlement(1, 0))]);
}

#[test]
fn what_is_deleted_makes_room_for_the_same_transaction() {
    let mut done = ledger();
    done.deletes(SEGMENTS, 2);
    assert_eq!((insert(&mut done, SEGMENTS, 3), done.needed(SEGMENTS, 1)), (1, 1));
    assert_eq!(done.needed(SEATS, 1), 1);
    assert_eq!(done.clone().rollback(), [(SEGMENTS, 1)]);
    assert_eq!(done.commit(), [(SEGMENTS, settlement(1, 0))]);
}

#[test]
fn what_is_left_of_the_deleted_is_credited_at_the_commit_and_lost_in_a_rollback() {
    let mut done = ledger();
    done.deletes(SEGMENTS, 5);
    insert(&mut done, SEGMENTS, 2);
    assert_eq!(done.clone().rollback(), []);
    assert_eq!(done.commit(), [(SEGMENTS, settlement(0, 3))]);
}

#[test]
fn rolling_back_to_a_savepoint_releases_what_came_after_and_keeps_the_savepoint() {
    let mut done = ledger();
    insert(&mut done, SEGMENTS, 1);
    done.savepoint("a");
    insert(&mut done, SEGMENTS, 2);
    done.savepoint("b");
    insert(&mut done, SEATS, 4);
    assert_eq!(done.rollback_to("a"), [(SEGMENTS, 2), (SEATS, 4)]);
    assert_eq!(done.rollback_to("b"), [], "it is gone");
    insert(&mut done, SEGMENTS, 8);
    assert_eq!(done.rollback_to("a"), [(SEGMENTS, 8)]);
    assert_eq!(done.commit(), [(SEGMENTS, settlement(1, 0))]);
}

#[test]
fn of_two_savepoints_of_one_name_the_last_is_meant() {
    let mut done = ledger();
    done.savepoint("a");
    insert(&mut done, SEGMENTS, 1);
    done.savepoint("a");
    insert(&mut done, SEGMENTS, 2);
    assert_eq!(done.rollback_to("a"), [(SEGMENTS, 2)]);
    done.release_savepoint("a");
    assert_eq!(done.rollback_to("a"), [(SEGMENTS, 1)]);
}

#[test]
fn room_that_an_undone_insert_had_used_is_there_again() {
    let mut done = ledger();
    done.deletes(SEGMENTS, 1);
    done.savepoint("a");
    assert_eq!(insert(&mut done, SEGMENTS, 1), 0);
    assert_eq!(done.rollback_to("a"), []);
    assert_eq!(insert(&mut done, SEGMENTS, 1), 0);
    assert_eq!(done.commit(), []);
}

#[test]
fn a_released_savepoint_leaves_what_was_done_to_the_one_before() {
    let mut done = ledger();
    done.savepoint("a");
    insert(&mut done, SEGMENTS, 1);
    done.savepoint("b");
    insert(&mut done, SEGMENTS, 2);
    insert(&mut done, SEATS, 1);
    done.release_savepoint("b");
    assert_eq!(done.rollback_to("a"), [(SEGMENTS, 3), (SEATS, 1)]);
    assert!(done.is_empty());
}

/// What a client may do.
#[derive(Clone, Debug)]
enum Act {
    Insert(ResourceId, u64),
    Delete(ResourceId, u64),
    Savepoint(char),
    Release(char),
    RollBackTo(char),
}

fn act() -> impl Strategy<Value = Act> {
    let resource = || prop_oneof![Just(SEGMENTS), Just(SEATS)];
    let name = || prop_oneof![Just('a'), Just('b'), Just('c')];
    prop_oneof![
        (resource(), 0..5_u64).prop_map(|(resource, rows)| Act::Insert(resource, rows)),
        (resource(), 0..5_u64).prop_map(|(resource, rows)| Act::Delete(resource, rows)),
        name().prop_map(Act::Savepoint),
        name().prop_map(Act::Release),
        name().prop_map(Act::RollBackTo),
    ]
}

/// Copies of what is inserted and deleted, one for each savepoint: nothing cleverer can be wrong.
#[derive(Default)]
struct Copies {
    now: [(u64, u64); 2],
    savepoints: Vec<(char, [(u64, u64); 2])>,
}

proptest! {
    /// Whatever is reserved and released on the way: in the end the net of what is inserted and deleted is settled, and
    /// the books hold just what the ledger has reserved.
    #[test]
    fn a_ledger_says_what_a_copy_for_each_savepoint_says(acts in proptest::collection::vec(act(), 0..60)) {
        let (mut done, mut copies) = (ledger(), Copies::default());
        let mut books = [0_u64; 2];
        let at = |resource: ResourceId| usize::from(resource == SEATS);
        for act in acts {
            match act {
                Act::Insert(resource, rows) => {
                    books[at(resource)] += insert(&mut done, resource, rows);
                    copies.now[at(resource)].0 += rows;
                }
                Act::Delete(resource, rows) => {
                    done.deletes(resource, rows);
                    copies.now[at(resource)].1 += rows;
                }
                Act::Savepoint(name) => {
                    done.savepoint(&name.to_string());
                    copies.savepoints.push((name, copies.now));
                }
                Act::Release(name) => {
                    done.release_savepoint(&name.to_string());
                    if let Some(at) = copies.savepoints.iter().rposition(|(each, _)| *each == name) {
                        copies.savepoints.truncate(at);
                    }
                }
                Act::RollBackTo(name) => {
                    for (resource, rows) in done.rollback_to(&name.to_string()) {
                        books[at(resource)] -= rows;
                    }
                    if let Some(at) = copies.savepoints.iter().rposition(|(each, _)| *each == name) {
                        copies.savepoints.truncate(at + 1);
                        copies.now = copies.savepoints[at].1;
                    }
                }
            }
            for resource in [SEGMENTS, SEATS] {
                prop_assert_eq!(done.own(resource), books[at(resource)]);
                let (inserted, deleted) = copies.now[at(resource)];
                prop_assert!(inserted <= deleted + books[at(resource)], "an insert has a reservation or room of its own");
            }
        }
        for (resource, settlement) in done.commit() {
            let (inserted, deleted) = copies.now[at(resource)];
            prop_assert_eq!(settlement.reserved + deleted, inserted + settlement.credited);
        }
    }
}
