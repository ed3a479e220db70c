//! Where the members are, kept in a file of its own beside log and state: a node whose log and state are gone, or dropped,
//! finds its group again, also if its `dLegerPeers` is as old as the group.
//!
//! * Shape of the file: a line for each member, `n1 host:port`. It is a hint: who is asked there proves himself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::env::disk;
use crate::env::pool::Pool;
use crate::model::MemberName;
use crate::raft::Replica;

const FILE: &str = "members";
/// More than a group has.
const LINES_MAX: usize = 64;

/// What was noted last; nothing if there is no such file, or none that can be read.
pub(super) fn read(folder: &Path) -> BTreeMap<MemberName, String> {
    parse(&disk::read_text(&folder.join(FILE)).unwrap_or_default())
}

fn parse(text: &str) -> BTreeMap<MemberName, String> {
    let line = |line: &str| {
        let (name, address) = line.split_once(' ')?;
        Some((MemberName::parse(name)?, address.to_owned()))
    };
    text.lines().take(LINES_MAX).filter_map(line).collect()
}

/// Notes where the members are whenever that changes; until it is dropped.
pub(super) async fn keep(replica: Replica, folder: PathBuf) {
    let mut members = replica.watch_members();
    loop {
        let now = members.borrow_and_update().clone();
        let lines: Vec<_> = now.all().map(|member| format!("{} {}\n", member.node.name(), member.address)).collect();
        let file = folder.join(FILE);
        let writing = Pool::Upkeep.run(move || disk::replace_text(&file, &lines.concat()));
        if let Ok(Err(error)) = writing.await {
            tracing::warn!(%error, "where the members are is not noted");
        }
        if members.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_member_is_passed_over() {
        let read = parse("n0 h:1\nnonsense\nn7 i:2\n\nx1 j:3");
        assert_eq!(read, BTreeMap::from([(MemberName(0), "h:1".to_owned()), (MemberName(7), "i:2".to_owned())]));
        assert!(parse("").is_empty());
    }
}
