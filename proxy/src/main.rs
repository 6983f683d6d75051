//! The `pgcordon` program: everything is in the library.

fn main() {}
