//! End-to-end tests, a file per concern.
