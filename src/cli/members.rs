//! `raftmq cluster members|add|remove|replace|cancel`: who is a member, and changing that while the cluster runs.

use std::time::Duration;

use crate::documents::members::{MemberRow, document, row};
use crate::proto::admin::change_members_request::{Add, Cancel, Change, Remove, Replace};
use crate::proto::admin::{ChangeMembersRequest, ChangeMembersResponse, ListMembersResponse, MemberChange};

use crate::cli::confirm::is_confirmed;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, grouped, known, utc};
use crate::model::Timestamp;

/// How often a change is looked after while this command waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Answers that may fail in a row while it waits: leaders change meanwhile.
const FAILURES_MAX: u32 = 40;

#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// Name of the new member, as in its dLegerSelfId: n3
    name: String,
    /// Where its peers reach it, as in its dLegerPeers
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub struct ReplaceArgs {
    /// Name of the member
    name: String,
    /// Where the new replica is, if it is elsewhere
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// Do not ask; required when there is no terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// Name of the member
    name: String,
    /// Do not ask; required when there is no terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub struct How {
    /// Return once the change is under way; see how it goes with `raftmq cluster members`
    #[arg(long)]
    no_wait: bool,
    /// Only say whether it may be done
    #[arg(long)]
    dry_run: bool,
}

const COLUMNS: [Column; 8] = [
    Column::Text("NAME"),
    Column::Text("ID"),
    Column::Text("ROLE"),
    Column::Text("PEERS AT"),
    Column::Number("MATCH"),
    Column::Number("BEHIND"),
    Column::Text("SINCE"),
    Column::Text("STATE"),
];

pub async fn list(context: &Context) -> Result<Exit, Failure> {
    let listed = read(context).await?;
    let rows: Vec<MemberRow> = listed.members.iter().map(row).collect();
    let text = match context.global.output {
        Format::Table | Format::Wide => text(&listed, &rows),
        Format::Json => render::document(&document(&listed))?,
        Format::Jsonl => rows.iter().map(render::line).collect::<Result<_, _>>()?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

pub async fn add(context: &Context, args: AddArgs) -> Result<Exit, Failure> {
    let change = Change::Add(Add { name: args.name, address: args.peer });
    request(context, change, &args.how).await
}

pub async fn replace(context: &Context, args: ReplaceArgs) -> Result<Exit, Failure> {
    let ReplaceArgs { name, peer, yes, how } = args;
    let mut replace = Replace { name: name.clone(), address: peer.clone(), leaves: None };
    // An answer may be lost, and the request said again: it is about the replica that there is now, and no later one.
    replace.leaves = trial(context, Change::Replace(replace.clone())).await?.leaves;
    let change = Change::Replace(replace);
    let at = peer.map_or_else(String::new, |peer| format!(" --peer {peer}"));
    let what = format!("replace {name}: what is in its folder is dropped, and a new replica takes its place");
    if !is_agreed(context, &change, yes || how.dry_run, &what, &format!("raftmq cluster replace {name}{at}")).await? {
        return Ok(Exit::Ok);
    }
    request(context, change, &how).await
}

pub async fn remove(context: &Context, args: RemoveArgs) -> Result<Exit, Failure> {
    let RemoveArgs { name, yes, how } = args;
    let change = Change::Remove(Remove { name: name.clone() });
    let what = format!("remove {name} from the group");
    if !is_agreed(context, &change, yes || how.dry_run, &what, &format!("raftmq cluster remove {name}")).await? {
        return Ok(Exit::Ok);
    }
    request(context, change, &how).await
}

pub async fn cancel(context: &Context) -> Result<Exit, Failure> {
    request(context, Change::Cancel(Cancel {}), &How { no_wait: false, dry_run: false }).await
}

/// Asks the person at the terminal, if the change may be done at all.
async fn is_agreed(context: &Context, change: &Change, yes: bool, what: &str, command: &str) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    let answer = trial(context, change.clone()).await?;
    if answer.change.is_some() || !answer.already.is_empty() {
        return Ok(true);
    }
    let agreed = is_confirmed(what, command)?;
    if !agreed {
        context.say("nothing done");
    }
    Ok(agreed)
}

/// What would be done, and why not if it may not be.
async fn trial(context: &Context, change: Change) -> Result<ChangeMembersResponse, Failure> {
    send(context, ChangeMembersRequest { change: Some(change), dry_run: true }).await
}

async fn send(context: &Context, request: ChangeMembersRequest) -> Result<ChangeMembersResponse, Failure> {
    match context.admin.change_members(request).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(context.failure(&error, Subject::Cluster).await),
    }
}

async fn request(context: &Context, change: Change, how: &How) -> Result<Exit, Failure> {
    let answer = send(context, ChangeMembersRequest { change: Some(change), dry_run: how.dry_run }).await?;
    let Some(change) = answer.change else {
        let said = if answer.already.is_empty() { "it may be done" } else { &answer.already };
        context.say(said);
        return Ok(Exit::Ok);
    };
    context.say(&format!("change {}: {}", change.number, sentence(&change)));
    if how.no_wait || how.dry_run {
        return Ok(Exit::Ok);
    }
    see_through(context, change.number).await
}

/// Waits for the end of a change and says how it goes; it goes on also if nobody waits.
async fn see_through(context: &Context, number: u64) -> Result<Exit, Failure> {
    let (mut said, mut failures) = (String::new(), 0);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let listed = match read(context).await {
            Ok(listed) if !listed.may_be_old => listed,
            Err(failure) if failures >= FAILURES_MAX => {
                return Err(failure.remedy("later:", "the change goes on by itself; see: raftmq cluster members"));
            }
            Ok(_) | Err(_) => {
                failures += 1;
                continue;
            }
        };
        failures = 0;
        if let Some(change) = listed.pending.filter(|change| change.number == number) {
            if change.waits_for != said {
                context.say(&change.waits_for);
                said = change.waits_for;
            }
            continue;
        }
        return match listed.ended {
            Some(ended) if ended.number == number && ended.end == "refused" => {
                Err(Failure::new(Exit::Usage, ended.why))
            }
            Some(ended) if ended.number == number => {
                context.say(&ended.end);
                Ok(Exit::Ok)
            }
            other => {
                let last = other.map_or(0, |ended| ended.number);
                let text = format!("change {number} is over, and others followed: change {last} was the last one");
                Err(Failure::new(Exit::Partly, text).remedy("look:", "raftmq cluster members"))
            }
        };
    }
}

async fn read(context: &Context) -> Result<ListMembersResponse, Failure> {
    match context.admin.list_members().await {
        Ok(listed) => Ok(listed),
        Err(error) => Err(context.failure(&error, Subject::Cluster).await),
    }
}

fn sentence(change: &MemberChange) -> String {
    let at = if change.address.is_empty() { String::new() } else { format!(" at {}", change.address) };
    let as_id = change.joins.as_ref().map_or_else(String::new, |id| format!(", as {id}"));
    format!("{} {}{at}{as_id}", change.what, change.name)
}

fn text(listed: &ListMembersResponse, rows: &[MemberRow]) -> String {
    let mut text = render::table(&COLUMNS, rows.iter().map(cells));
    if let Some(change) = &listed.pending {
        text.push_str(&format!("under way: change {}: {}: {}\n", change.number, sentence(change), change.waits_for));
    }
    if let Some(ended) = &listed.ended {
        let why = if ended.why.is_empty() { String::new() } else { format!(": {}", ended.why) };
        text.push_str(&format!("last: change {}: {}: {}{why}\n", ended.number, sentence(ended), ended.end));
    }
    if let Some(difference) = &listed.difference {
        text.push_str(&format!("note: dLegerPeers of the node that answered is older: {difference}\n"));
    }
    if listed.may_be_old {
        text.push_str("note: that node hears of no leader; this is what it knew last\n");
    }
    text
}

fn cells(row: &MemberRow) -> Vec<String> {
    vec![
        row.name.clone(),
        row.id.clone(),
        row.role.clone(),
        row.address.clone(),
        known(row.matching.map(grouped)),
        known(row.behind.map(grouped)),
        row.since_ms.map_or_else(|| "the start".to_owned(), |since| utc(Timestamp(since))),
        row.state.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::ClusterMember;

    #[test]
    fn members_are_shown_with_the_replica_behind_each_name() {
        let member = |name: &str, id: &str, role: &str| ClusterMember {
            name: name.into(),
            id: id.into(),
            role: role.into(),
            address: "h:1".into(),
            answers: role != "learner",
            matching: Some(1200),
            behind: Some(0),
            since_ms: (id != name).then_some(0),
        };
        let change = MemberChange {
            number: 4,
            what: "replace".into(),
            name: "n2".into(),
            address: "h:1".into(),
            joins: Some("n2.5".into()),
            waits_for: "n2 catches up".into(),
            ..Default::default()
        };
        let listed = ListMembersResponse {
            members: vec![member("n0", "n0", "leader"), member("n2", "n2.5", "learner")],
            pending: Some(change),
            ended: None,
            difference: Some("it does not name n3".into()),
            may_be_old: true,
        };
        let rows: Vec<MemberRow> = listed.members.iter().map(row).collect();
        assert_eq!(
            text(&listed, &rows),
            "NAME  ID    ROLE     PEERS AT  MATCH  BEHIND  SINCE                STATE\n\
             n0    n0    leader   h:1       1,200       0  the start            ok\n\
             n2    n2.5  learner  h:1       1,200       0  1970-01-01 00:00:00  down\n\
             under way: change 4: replace n2 at h:1, as n2.5: n2 catches up\n\
             note: dLegerPeers of the node that answered is older: it does not name n3\n\
             note: that node hears of no leader; this is what it knew last\n"
        );
    }
}
