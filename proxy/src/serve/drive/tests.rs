//! What a client takes that says nothing. There are thousands of them for each that works, so it is their bytes that count.

use std::mem::size_of;

use super::Driver;
use crate::serve::registry::Slot;
use crate::session::Session;

/// What a call's future takes, beside what it borrows.
fn future_bytes<'a, F>(_: impl FnOnce(&'a mut Driver) -> F) -> usize {
    size_of::<F>()
}

/// The bench's target is 4 KiB for an idle client. Beside what is counted here a client takes about 0.9 KiB: the runtime's share
/// of a task and of a socket (128 and 256 bytes, each aligned to 128), its name, its unnamed statement, and what the allocator adds.
/// A driver that is moved into a future, a future that awaits another one of its size, a fault in place of a pointer to one: each
/// costs more than is left here. What is rare belongs behind a `Box`.
#[test]
fn an_idle_client_takes_no_more_than_it_did() {
    let (session, driver, running) = (size_of::<Session>(), size_of::<Driver>(), future_bytes(Driver::run));
    let slot = size_of::<Slot>();
    let all = format!("session {session}, driver {driver} with it, the future beside it {running}, slot {slot}");
    assert!(session <= 1280, "{all}");
    assert!(driver + running <= 2048, "{all}");
    assert!(slot <= 208, "{all}");
}
