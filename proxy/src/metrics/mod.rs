//! The registry and its exporter.
