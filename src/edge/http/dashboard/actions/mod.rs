//! What the dashboard does: each action is one request of the admin service. A trial (`dry_run`) does nothing, and says what
//! would be changed and which command does the same.

mod act;
mod cluster;
mod command_line;
mod done;
mod given;
mod groups;
mod members;
mod messages;
mod topics;

pub(super) use act::act;
pub(super) use given::Given;
