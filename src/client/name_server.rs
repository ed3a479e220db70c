//! Finds the nodes of a cluster through a name server, which knows where their classic ports are: those serve gRPC too.
//!
//! Blocks: it is asked before anything else is done, once. Nodes answer the same question and say that they are nodes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::client::connection::Address;
use crate::proto::remoting::route_data::ClusterInfo;
use crate::proto::remoting::{Fields, Frame, Header, HeaderType, NODE_MARK, RequestCode, ResponseCode};

/// An answer has the addresses of all nodes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// A name server, with the nodes of each group that it knows.
    NameServer(BTreeMap<String, Vec<Address>>),
    /// A node, or something that speaks another protocol.
    Other,
    /// Nothing.
    Nothing,
}

/// Asks what is there. `within` bounds each of connecting, writing, and a read.
pub fn ask(address: &Address, within: Duration) -> Answers {
    let dialled = (address.host.as_str(), address.port).to_socket_addrs();
    let dialled = dialled.and_then(|mut all| all.next().ok_or(io::ErrorKind::NotFound.into()));
    let Ok(stream) = dialled.and_then(|dialled| TcpStream::connect_timeout(&dialled, within)) else {
        return Answers::Nothing;
    };
    match asked(stream, within) {
        Ok(answer) => read(&answer),
        Err(_) => Answers::Other,
    }
}

fn asked(mut stream: TcpStream, within: Duration) -> io::Result<Frame> {
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let header = Header::request(RequestCode::GetBrokerClusterInfo as i32, 1, Fields::default());
    let asked = Frame { header_type: HeaderType::Json, header, body: Bytes::new() };
    stream.write_all(&asked.encode().map_err(io::Error::other)?)?;
    let mut read = BytesMut::new();
    let mut some = [0; READ_BYTES];
    loop {
        if let Some(frame) = Frame::take(&mut read, ANSWER_BYTES_MAX).map_err(io::Error::other)? {
            return Ok(frame);
        }
        match stream.read(&mut some)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&some[..count]),
        }
    }
}

fn read(answer: &Frame) -> Answers {
    let is_node = answer.header.fields.get(NODE_MARK).is_some();
    if answer.header.code != ResponseCode::Success as i32 || is_node {
        return Answers::Other;
    }
    let Ok(info) = serde_json::from_slice::<ClusterInfo>(&with_quoted_keys(&answer.body)) else {
        return Answers::Other;
    };
    let mut groups: BTreeMap<String, Vec<Address>> = BTreeMap::new();
    for (name, broker) in info.broker_addr_table {
        // With a name server of RocketMQ every node is a broker of its own: `NAME-n1` beside `NAME`.
        let group = group_of(&name, &groups).unwrap_or(name);
        let addresses = broker.broker_addrs.values().filter_map(|address| Address::parse(address).ok());
        groups.entry(group).or_default().extend(addresses);
    }
    Answers::NameServer(groups)
}

/// JSON in which numbers that are keys are texts, as they must be: RocketMQ's name servers write `{0:"10.0.0.1:10911"}`.
fn with_quoted_keys(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + 16);
    let (mut is_in_text, mut is_escaped) = (false, false);
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let digits = json[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !is_in_text && digits > 0 {
            let is_key = json.get(at + digits) == Some(&b':');
            let quote = if is_key { &b"\""[..] } else { b"" };
            out.extend_from_slice(&[quote, &json[at..at + digits], quote].concat());
            at += digits;
            continue;
        }
        if *byte == b'"' && !is_escaped {
            is_in_text = !is_in_text;
        }
        is_escaped = is_in_text && *byte == b'\\' && !is_escaped;
        out.push(*byte);
        at += 1;
    }
    out
}

/// The group that a broker name is another name of, if that is among them; names come in their order.
fn group_of(name: &str, groups: &BTreeMap<String, Vec<Address>>) -> Option<String> {
    let (group, member) = name.rsplit_once('-')?;
    let is_member = member.strip_prefix('n').is_some_and(|number| number.parse::<u32>().is_ok());
    (is_member && groups.contains_key(group)).then(|| group.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: ResponseCode, fields: Fields, body: &str) -> Answers {
        let header = Header::answer(1, code, fields);
        read(&Frame { header_type: HeaderType::Json, header, body: body.to_owned().into() })
    }

    const TWO: &str = r#"{"brokerAddrTable":{"a":{"brokerAddrs":{"0":"h:1","1":"h:2"},"brokerName":"a","cluster":"C"},
        "a-n2":{"brokerAddrs":{"0":"h:3"},"brokerName":"a-n2","cluster":"C"},
        "b-n2":{"brokerAddrs":{"0":"h:4"},"brokerName":"b-n2","cluster":"C"}},"clusterAddrTable":{"C":["a","a-n2","b-n2"]}}"#;

    #[test]
    fn a_name_server_s_answer_is_its_groups_and_a_node_s_is_none() {
        let address = |port| Address { host: "h".into(), port };
        let groups = BTreeMap::from([
            ("a".to_owned(), vec![address(1), address(2), address(3)]),
            ("b-n2".to_owned(), vec![address(4)]),
        ]);
        assert_eq!(answer(ResponseCode::Success, Fields::default(), TWO), Answers::NameServer(groups));
        let unquoted = TWO.replace(r#""0":"#, "0:").replace(r#""1":"#, "1:");
        assert_ne!(unquoted, TWO);
        assert_eq!(
            answer(ResponseCode::Success, Fields::default(), &unquoted),
            answer(ResponseCode::Success, Fields::default(), TWO)
        );
        let node = [(NODE_MARK, "")].into_iter().collect();
        assert_eq!(answer(ResponseCode::Success, node, TWO), Answers::Other);
        assert_eq!(answer(ResponseCode::RequestCodeNotSupported, Fields::default(), ""), Answers::Other);
        assert_eq!(answer(ResponseCode::Success, Fields::default(), "{"), Answers::Other);
    }

    #[test]
    fn numbers_are_quoted_as_keys_and_nowhere_else() {
        for (json, expected) in [
            (r#"{0:"a",12:"b"}"#, r#"{"0":"a","12":"b"}"#),
            (r#"{"0":1,"x":[1,2],"1:2":"\"{0:\\"}"#, r#"{"0":1,"x":[1,2],"1:2":"\"{0:\\"}"#),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(with_quoted_keys(json.as_bytes())).unwrap(), expected);
        }
    }

    #[test]
    fn what_does_not_answer_or_speaks_otherwise_is_no_name_server() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let at = Address { host: "127.0.0.1".into(), port };
        let silent = std::thread::spawn(move || drop(listener.accept()));
        assert_eq!(ask(&at, Duration::from_secs(10)), Answers::Other, "it closes");
        silent.join().unwrap();
        assert_eq!(ask(&at, Duration::from_secs(10)), Answers::Nothing);
    }
}
