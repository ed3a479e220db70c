//! Sees a change of members through, on whatever node leads: a replica comes as a learner, catches up, and then the voters
//! change by joint consensus (D113).
//!
//! Whatever is done is done as the leader of one term, and what is decided here comes from a state in which all is applied
//! that could have ended the change (D160). What is next: `members_step`. Below the log: `machine/member`.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::background::members_step::{Look, Said, Step};
use crate::broker::{Broker, Error};
use crate::machine::Command;
use crate::model::{NodeId, Term};
use crate::raft::NotChanged;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const PROPOSE_WAIT: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub(super) async fn see_changes_through(broker: &Broker) {
    let mut said = Said::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let leadership = *broker.leadership().borrow();
        if !leadership.is_self {
            continue;
        }
        let step = match look(broker, leadership.term, &mut said).await {
            Ok(step) => step,
            Err(error) => {
                tracing::warn!(%error, "the changes of members cannot be looked at");
                continue;
            }
        };
        if let Err(error) = take(broker, leadership.term, step.clone()).await {
            tracing::warn!(?step, %error, "a change of members is tried again");
        }
    }
}

/// What is to be done next, by a node that leads in this term.
async fn look(broker: &Broker, term: Term, said: &mut Said) -> Result<Step, Error> {
    let has_learners = broker.replica.membership().members.all().any(|member| !member.is_voter);
    if broker.known_member_changes()?.pending.is_none() && !has_learners {
        return Ok(Step::Wait);
    }
    // Before the state is read: what ended a change may be committed and not applied here yet.
    let until = Instant::now() + PROPOSE_WAIT;
    let Ok(committed) = broker.replica.read_index(until).await else { return Ok(Step::Wait) };
    broker.reader.caught_up(committed, until).await;
    let applied = broker.reader.applied();
    let change = broker.known_member_changes()?.pending;
    let membership = broker.replica.membership();
    let Some(progress) = broker.replica.progress() else { return Ok(Step::Wait) };
    let (own, last) = (broker.replica.node(), broker.replica.last_log());
    let look = Look { own, change: change.as_ref(), applied, committed, membership, progress, last };
    Ok(said.step(term, &look))
}

async fn take(broker: &Broker, term: Term, step: Step) -> Result<(), NotChanged> {
    let replica = &broker.replica;
    match step {
        Step::AddLearner(node, address) => {
            tracing::info!(%node, address, "a replica joins and catches up");
            replica.add_learner(term, node, &address).await
        }
        Step::RemoveLearner(node) => {
            tracing::info!(%node, "a replica that does not vote is let go");
            replica.remove_learner(term, node).await
        }
        Step::SetVoters(voters) => {
            let names = voters.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
            tracing::info!(voters = names, "the voters change");
            replica.set_voters(term, voters).await
        }
        Step::GiveWay(voters) => {
            // Where nobody can lead now, those that stay elect once this node is out.
            if replica.give_leadership_away().await { Ok(()) } else { replica.set_voters(term, voters).await }
        }
        Step::End(number, end) => {
            tracing::info!(change = number, ?end, "a change of members ends");
            let command = Command::EndMemberChange { number, end };
            if let Err(error) = replica.propose_as_leader(&command, PROPOSE_WAIT).await {
                tracing::debug!(%error, "the end of a change of members is said again");
            }
            Ok(())
        }
        Step::Wait => Ok(()),
    }
}
