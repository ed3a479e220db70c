//! The dashboard: the cluster in a browser, on every node's HTTP port below `/ui/`. Pages are files in this binary
//! (`ui/`), written by hand; they read `/ui/api/` and show it.
//!
//! What is shown is asked of the admin service in this process, as the commands ask it from outside, and comes as the same
//! documents. It runs on the HTTP thread, reads a few rows at a time, and does nothing while nobody looks.
//!
//! Not here: what the answers mean (`edge/admin`, `broker/inspect`), their form (`documents`).

mod actions;
mod assets;
mod body;
mod feed;
mod gate;
mod overview;
mod query;
mod reads;
mod refused;
mod routing;
mod site;
mod timeline;
mod work;

pub use gate::Access;
pub(super) use routing::Dashboard;
