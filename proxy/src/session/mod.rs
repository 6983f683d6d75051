//! One client's life as a pure machine.
