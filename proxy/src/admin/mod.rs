//! What operators talk to.

pub mod http;
