//! The ids of an entry's leases. Each command has lease ordinals of its own, which follow from the commands of the entry
//! alone: the id of a lease names the command that made it, and mostly the candidate, also after the lease is gone
//! (`broker/inspect/trace`).

use std::ops::Range;

use crate::machine::command::{Candidate, Command, Grant};

/// Ordinals that the grants, repeats and redrives of an entry share. Those of changes and returns, one each, come after
/// them, so that these are never refused for want of one.
const SHARED: u32 = 1 << 15;

/// Gives the ordinals of one entry to its commands, in order.
#[derive(Debug, Default)]
pub struct Ordinals {
    shared: u32,
    changes: u32,
}

impl Ordinals {
    /// Those of the next command; `None` if too few are left: what is not granted now is planned again.
    pub fn of(&mut self, command: &Command) -> Option<Range<u32>> {
        let most = match command {
            Command::Grant(grant) => {
                let open = grant.candidates.iter().any(|candidate| matches!(candidate, Candidate::Fresh { .. }));
                single(grant).saturating_add(if open { grant.limit } else { 0 })
            }
            Command::Repeat(repeat) => length(repeat.leases.len()),
            Command::Redrive(redrive) => length(redrive.offsets.len()),
            Command::Change(_) | Command::ReturnUnread { .. } => {
                let one = SHARED + self.changes;
                self.changes += 1;
                return Some(one..one + 1);
            }
            Command::OfOperator { command, .. } => return self.of(command),
            _ => 0,
        };
        let end = self.shared.checked_add(most).filter(|end| *end <= SHARED)?;
        let range = self.shared..end;
        self.shared = end;
        Some(range)
    }
}

/// How many of a grant's candidates make one lease at most. These have the first ordinals of the grant, in order; the
/// ordinals after them are for windows, of which an orderly group gets a lease for each message group.
pub fn single(grant: &Grant) -> u32 {
    length(grant.candidates.iter().filter(|candidate| candidate.makes_one()).count())
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
