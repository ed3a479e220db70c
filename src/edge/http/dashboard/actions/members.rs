//! Members: add, replace, remove, and undo what is under way. A change is begun here; the leader sees it through.

use serde_json::{Value, json};

use crate::documents;
use crate::edge::http::dashboard::actions::command_line::CommandLine;
use crate::edge::http::dashboard::actions::done::Done;
use crate::edge::http::dashboard::actions::given::Given;
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;
use crate::proto::admin::change_members_request::{Add, Cancel, Change, Remove, Replace};

pub(super) async fn add(site: &Site, given: &Given) -> Result<Done, Refused> {
    let (name, address) = (given.text("member")?, given.text("address")?);
    let command = CommandLine::of(site, &["cluster", "add", name, "--peer", address]);
    let change = Change::Add(Add { name: name.to_owned(), address: address.to_owned() });
    request(site, given, command, vec![("member", json!(name)), ("address", json!(address))], change).await
}

pub(super) async fn replace(site: &Site, given: &Given) -> Result<Done, Refused> {
    let (name, address) = (given.text("member")?, given.text_if_any("address")?);
    let command = CommandLine::of(site, &["cluster", "replace", name]).option("--peer", address).word("--yes");
    // The replica that the trial named: said again later, it is not about another one.
    let leaves = given.text_if_any("leaves")?.map(str::to_owned);
    let change = Change::Replace(Replace { name: name.to_owned(), address: address.map(str::to_owned), leaves });
    request(site, given, command, vec![("member", json!(name)), ("address", json!(address))], change).await
}

pub(super) async fn remove(site: &Site, given: &Given) -> Result<Done, Refused> {
    let name = given.text("member")?;
    let command = CommandLine::of(site, &["cluster", "remove", name, "--yes"]);
    let change = Change::Remove(Remove { name: name.to_owned() });
    request(site, given, command, vec![("member", json!(name))], change).await
}

pub(super) async fn cancel(site: &Site, given: &Given) -> Result<Done, Refused> {
    let command = CommandLine::of(site, &["cluster", "cancel"]);
    request(site, given, command, Vec::new(), Change::Cancel(Cancel {})).await
}

/// What may not be done is refused with the reason, also as a trial.
async fn request(
    site: &Site,
    given: &Given,
    command: CommandLine,
    mut facts: Vec<(&'static str, Value)>,
    change: Change,
) -> Result<Done, Refused> {
    let request = wire::ChangeMembersRequest { change: Some(change), dry_run: given.is_trial() };
    let answer = site.admin.change_members(given.request(request)).await?.into_inner();
    facts.push(("leaves", json!(answer.leaves)));
    facts.push(("already", json!(Some(answer.already).filter(|why| !why.is_empty()))));
    let change = answer.change.as_ref().map(documents::members::change_row);
    facts.push(("change", json!(change.as_ref().map(|change| change.number))));
    Ok(Done { command, facts, document: json!({ "schema": "raftmq.member.change.v1", "change": change }) })
}
