//! Sockets and tasks.
