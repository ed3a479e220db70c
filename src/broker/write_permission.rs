//! Write permissions of broker names above the log: what routes do not offer to producers. Before:
//! `edge/remoting/write_permission`; after: `machine/write_permission`.

use crate::broker::{ActWords, Broker, Deadline, Error, Operator};
use crate::machine::command::SetWritePermission;
use crate::machine::{Command, Outcome};
use crate::model::{MemberName, Permission, Unwritable};

impl Broker {
    /// Takes the write permission of a member away, under whatever name routes have it, or gives it back; `None` is the group
    /// under all its names. Whether that is new.
    ///
    /// * Errors: [`Error::TimedOut`] if it may be done; it is safe to repeat.
    pub async fn set_write_permission(
        &self,
        by: &Operator,
        of: Option<MemberName>,
        may_write: bool,
        deadline: Deadline,
    ) -> Result<bool, Error> {
        let until = self.held_until(deadline);
        let on = of.map_or_else(String::new, |member| member.to_string());
        let words = ActWords::new(if may_write { "write-permission-add" } else { "write-permission-wipe" }, on, "");
        let set = Command::SetWritePermission(SetWritePermission { of, may_write });
        let command = self.of_operator(by, words, set)?;
        match self.propose_repeatable(&command, until).await? {
            (index, Outcome::WritePermissionSet { is_new }) => {
                self.reader.caught_up(index, until).await;
                Ok(is_new)
            }
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// What routes do not offer to producers, as far as this node has applied the log.
    pub fn unwritable(&self) -> Result<Unwritable, Error> {
        Ok(self.reader.view().unwritable()?)
    }

    /// What clients may do at this node, and so with all topics: `brokerPermission`.
    pub fn permission(&self) -> Permission {
        self.settings.permission
    }
}
