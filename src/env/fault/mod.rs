//! Worlds that fail on purpose: a simulated disk, a disk that loses power, planted bugs. For tests and drills.
//!
//! Not here: deciding when something fails (`drill/`, the tests).

pub mod planted_bug;
pub mod power_loss_disk;
pub mod sim;
