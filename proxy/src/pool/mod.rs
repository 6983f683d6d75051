//! Server connections: who holds them, who waits.

pub mod cancel;
pub mod upstream;
