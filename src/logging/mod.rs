//! Log lines: to stderr and into files, never to stdout; as text or as JSON; at a level that changes while the process runs.
//!
//! A line is formatted once, written to stderr by who logs it, and put into a bounded queue for the thread that writes the
//! file: a disk that is full, slow or gone stops nobody (D135).

mod file;
mod level;
mod queue;
mod start;
mod status;
mod targets;
#[cfg(test)]
mod tests;
mod thread;

pub use level::{LevelNow, NotStarted, level, set_level};
pub use start::{Files, Format, flush, start};
pub use status::{FileStatus, file};
pub use targets::ANNOUNCEMENTS;
