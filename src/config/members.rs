//! `dLegerPeers` and `dLegerSelfId`: who the members are, and addresses that can be dialled.

use std::collections::BTreeSet;

use crate::config::characters::shown;
use crate::config::host;
use crate::config::value::Values;
use crate::model::{HostPort, MemberName};

/// RocketMQ reads a number as an `int`.
const NUMBER_MAX: u32 = i32::MAX as u32;

/// How a member is written.
const LIKE: &str = "write n0-host:port, with IPv6 n0-[address]:port";

/// One member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    pub name: MemberName,
    /// Where it is, with its port for peers.
    pub address: HostPort,
}

/// The members by name, and which of them this node is.
pub(super) fn members(values: &mut Values<'_>) -> (Vec<PeerAddress>, Option<MemberName>) {
    let mut peers: Vec<PeerAddress> = Vec::new();
    let text = values.optional("dLegerPeers");
    let is_given = text.is_some();
    for part in
        text.as_deref().unwrap_or("n0-127.0.0.1:40911").split(';').map(str::trim).filter(|part| !part.is_empty())
    {
        match member(part) {
            Ok(peer) => peers.push(peer),
            Err(what) => values.complain("dLegerPeers", what),
        }
    }
    if peers.is_empty() && is_given && !values.is_refused("dLegerPeers") {
        values.complain("dLegerPeers", format!("names no member; {LIKE}"));
    }
    let names: BTreeSet<_> = peers.iter().map(|peer| peer.name).collect();
    let addresses: BTreeSet<_> = peers.iter().map(|peer| &peer.address).collect();
    if names.len() < peers.len() {
        values.complain("dLegerPeers", "names one id twice");
    }
    if addresses.len() < peers.len() {
        values.complain("dLegerPeers", "names one address twice");
    }
    peers.sort_by_key(|peer| peer.name);
    let self_text = values.text("dLegerSelfId");
    let self_name = name_of(&self_text);
    // A member that cannot be read may be this node: one complaint is enough.
    if values.is_refused("dLegerPeers") {
        return (peers, None);
    }
    if !self_name.is_some_and(|name| names.contains(&name)) {
        let names: Vec<_> = names.iter().map(MemberName::to_string).collect();
        values.complain("dLegerSelfId", format!("is not among the members in dLegerPeers ({})", names.join(", ")));
        return (peers, None);
    }
    (peers, self_name)
}

/// The member that should lead. One that is not listed may be added later.
pub(super) fn preferred_leader(values: &mut Values<'_>) -> Option<MemberName> {
    let text = values.optional("preferredLeaderId").filter(|text| !text.is_empty())?;
    let name = name_of(&text);
    if name.is_none() {
        values.complain("preferredLeaderId", format!("'{}' is no node; write it as dLegerSelfId: n0", shown(&text)));
    }
    name
}

/// RocketMQ drops the first character and reads the rest as a number.
fn name_of(text: &str) -> Option<MemberName> {
    let mut rest = text.chars();
    rest.next()?;
    let digits = rest.as_str();
    // Rust would take a plus sign, too.
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = digits.parse::<u32>().ok().filter(|number| is_number && *number <= NUMBER_MAX)?;
    Some(MemberName(number))
}

fn member(text: &str) -> Result<PeerAddress, String> {
    let shown = shown(text);
    if text.contains(',') {
        return Err(format!("'{shown}' has a comma in it; members are separated by ';'"));
    }
    let unlike = || format!("'{shown}' is not like n0-host:port, or with IPv6 n0-[address]:port");
    let (name, address) = text.split_once('-').ok_or_else(unlike)?;
    let name = name_of(name).ok_or_else(unlike)?;
    let HostPort { host, port } = HostPort::parse(address).filter(|address| address.port > 0).ok_or_else(unlike)?;
    let host = host::host(&host).map_err(|what| format!("'{shown}': {what}; {LIKE}"))?;
    Ok(PeerAddress { name, address: HostPort { host, port } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_rocketmq_writes_them_and_with_ipv6() {
        for (text, written) in [
            ("n0-h:1", "n0 h:1"),
            ("n1-my-host:40911", "n1 my-host:40911"),
            ("n0-::1:41911", "n0 [::1]:41911"),
            ("n0-[::1]:41911", "n0 [::1]:41911"),
            ("n0-2001:db8::2:41911", "n0 [2001:db8::2]:41911"),
        ] {
            let peer = member(text).unwrap();
            assert_eq!(format!("{} {}", peer.name, peer.address), written);
        }
        for text in [
            "",
            "n0",
            "-h:1",
            "n-h:1",
            "n+1-h:1",
            "nx-h:1",
            "n2147483648-h:1",
            "n0-h",
            "n0-h:0",
            "n0-:1",
            "n0-::1",
            "n0-h:65536",
        ] {
            assert!(member(text).is_err(), "{text}");
        }
    }
}
