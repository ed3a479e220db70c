//! Metrics and health over HTTP: what is served, by whom, and what Prometheus makes of it.

mod http;
pub mod names;
mod prometheus;
mod scale;
