//! Server connections: who holds them, who waits.
