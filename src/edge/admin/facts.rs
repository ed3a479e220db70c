//! What only a process can say of itself: its limits, its settings, its certificates, where its log goes. Calls
//! `node/self_portrait` for another one.

use std::path::PathBuf;

use prost::Message;
use tonic::Status;

use crate::env::{clock, process};
use crate::logging;
use crate::model::{MemberName, Timestamp};
use crate::node::{Node, SelfPortrait};
use crate::proto::admin as wire;

/// What was read once, at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessFacts {
    /// Key and value.
    pub settings: Vec<(String, String)>,
    /// Those in files.
    pub certificates: Vec<CertificateFact>,
}

/// A certificate that this process shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFact {
    /// To whom.
    pub shown_to: &'static str,
    pub file: PathBuf,
    /// When the first of its chain ends, or why that is not known.
    pub ends: Result<Timestamp, String>,
}

/// Of this node, or of another one that is asked for it.
pub(super) async fn facts(
    node: &Node,
    own: &ProcessFacts,
    request: wire::NodeFactsRequest,
) -> Result<wire::NodeFactsResponse, Status> {
    let name = request.node;
    if name.is_empty() || name == node.settings().name.to_string() {
        return Ok(facts_of(node.settings().name, own));
    }
    let known = MemberName::parse(&name);
    let member =
        known.ok_or_else(|| Status::invalid_argument(format!("'{name}' is no name of a member; write n0, n1, …")))?;
    let said = node.portrait_of(member).await.and_then(|said| wire::NodeFactsResponse::decode(said).ok());
    said.ok_or_else(|| {
        Status::unavailable(format!(
            "{name} does not say it: it is down, no member, or of an older build; start it, or ask it"
        ))
    })
}

/// What other nodes are answered that ask this one.
pub(super) fn portrait(name: MemberName, own: ProcessFacts) -> SelfPortrait {
    Box::new(move || facts_of(name, &own).encode_to_vec().into())
}

fn facts_of(name: MemberName, facts: &ProcessFacts) -> wire::NodeFactsResponse {
    let process = process::own();
    let log = logging::file();
    let setting = |(key, value): &(String, String)| wire::Setting { key: key.clone(), value: value.clone() };
    wire::NodeFactsResponse {
        node: name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        open_files: process.open_files,
        open_files_max: process.open_files_max,
        certificates: facts.certificates.iter().map(certificate).collect(),
        settings: facts.settings.iter().map(setting).collect(),
        log_file_error: log.as_ref().and_then(|log| log.error.clone()).unwrap_or_default(),
        log_file: log.map(|log| log.path.display().to_string()),
        now_ms: clock::wall().0,
    }
}

fn certificate(fact: &CertificateFact) -> wire::Certificate {
    wire::Certificate {
        shown_to: fact.shown_to.to_owned(),
        file: fact.file.display().to_string(),
        not_after_ms: fact.ends.as_ref().map_or(0, |at| at.0),
        error: fact.ends.as_ref().err().cloned().unwrap_or_default(),
    }
}
