//! pgcordon: a Postgres wire-protocol proxy that makes one shared Postgres multi-tenant.
//!
//! The rooms below stand in dependency order: a module imports only from what stands above it.
//! `ARCHITECTURE.md` is the map, and `tests/architecture.rs` keeps it true.

pub mod domain;
pub mod wire;
pub mod sql;
pub mod auth;
pub mod tenant;
pub mod limits;
pub mod quota;
pub mod audit;
pub mod backend;
pub mod session;
pub mod tls;
pub mod pool;
pub mod control;
pub mod metrics;
pub mod serve;
pub mod admin;
pub mod config;
pub mod app;
pub mod cli;
