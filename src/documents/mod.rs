//! The JSON that people and programs are shown: what the admin service answers, as rows. The commands print it (`-o json`), and
//! draw their tables from the same rows; the dashboard serves it. So both say the same.
//!
//! Not here: asking (`client`, `edge/admin`), tables and texts for people (`cli/`).

pub mod clients;
pub mod cluster;
pub mod counts;
pub mod events;
pub mod groups;
pub mod members;
pub mod messages;
pub mod topics;
pub mod trace;
