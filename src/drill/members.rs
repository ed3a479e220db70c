//! The members as an operator changes them during a drill.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::drill::clients::{ANSWER_WITHIN, Clients, request};
use crate::drill::not_done::not_done;
use crate::proto::admin;
use crate::proto::admin::change_members_request::Change;

/// A change that is not done in this time is stuck.
const DONE_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(100);

impl Clients {
    /// Has a change begun, by whoever answers; one that may not be done yet, because a node is still down, is asked for
    /// again.
    pub async fn begin_change(&self, change: Change) -> io::Result<()> {
        let until = Instant::now() + DONE_WITHIN;
        let mut said = String::new();
        while Instant::now() < until {
            for node in &self.nodes {
                let asked = admin::ChangeMembersRequest { change: Some(change.clone()), dry_run: false };
                match node.admin.clone().change_members(request(asked, "nemesis", ANSWER_WITHIN)).await {
                    Ok(_) => return Ok(()),
                    Err(status) => said = status.message().to_owned(),
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Err(not_done(format!("{change:?} did not begin in {DONE_WITHIN:?}: {said}")))
    }

    /// Waits until no change is under way; the replicas that vote then, as name and id.
    pub async fn settled_voters(&self) -> io::Result<BTreeMap<String, String>> {
        let until = Instant::now() + DONE_WITHIN;
        let mut said = String::new();
        while Instant::now() < until {
            for node in &self.nodes {
                let asked = request(admin::ListMembersRequest {}, "nemesis", ANSWER_WITHIN);
                match node.admin.clone().list_members(asked).await.map(tonic::Response::into_inner) {
                    Ok(listed) if listed.may_be_old => said = "no leader".to_owned(),
                    Ok(listed) if listed.pending.is_none() => {
                        let voters = listed.members.into_iter().filter(|member| member.role != "learner");
                        return Ok(voters.map(|member| (member.name, member.id)).collect());
                    }
                    Ok(listed) => said = listed.pending.map(|pending| pending.waits_for).unwrap_or_default(),
                    Err(status) => said = status.message().to_owned(),
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Err(not_done(format!("a change of members did not end in {DONE_WITHIN:?}: {said}")))
    }

    /// Has a change made, again if it was refused meanwhile, until the voters are as wanted.
    pub async fn change_until(
        &self,
        change: Change,
        is_done: &dyn Fn(&BTreeMap<String, String>) -> bool,
    ) -> io::Result<()> {
        let until = Instant::now() + DONE_WITHIN;
        while !is_done(&self.settled_voters().await?) {
            if Instant::now() >= until {
                return Err(not_done(format!("{change:?} was not done in {DONE_WITHIN:?}")));
            }
            self.begin_change(change.clone()).await?;
        }
        Ok(())
    }
}
