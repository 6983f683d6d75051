//! What operators talk to.

pub mod http;
pub mod quota;
mod reply;
