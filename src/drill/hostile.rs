//! Hostile peers: connections to the nodes' peer ports that say what no peer says.
//!
//! None of it may end a node, make it follow, or hold up its service. What answers come back is not looked at: the checker
//! judges by what clients see.

use std::io;
use std::time::Duration;

use bytes::BufMut;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::Endpoint;

use crate::client::Address;
use crate::proto::peer as proto;
use crate::proto::peer::peer_client::PeerClient;

/// First bytes of a link (`raft/peer/link`).
const MAGIC: [u8; 8] = *b"RAFTMQ\x01\n";
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
const CALL_WITHIN: Duration = Duration::from_secs(1);
/// Connections left open with half a frame in them.
const HALF_OPEN: usize = 32;

/// Who the cluster is, for those who forge.
#[derive(Debug, Clone)]
pub(super) struct Forged {
    pub cluster: String,
    pub group: String,
    /// Ids of the node that is said to speak and of the one that is spoken to.
    pub from: u64,
    pub to: u64,
    /// The disk that is said to be its own.
    pub disk: u64,
}

impl Forged {
    fn envelope(&self) -> proto::Envelope {
        proto::Envelope {
            cluster: self.cluster.clone(),
            group: self.group.clone(),
            from: self.from,
            to: self.to,
            disk: self.disk,
        }
    }
}

/// Everything there is against one node; the connections stay open until `hold` is over.
pub(super) async fn attack(address: &Address, forged: &Forged, hold: Duration) -> io::Result<()> {
    let mut open = Vec::new();
    for bytes in texts(forged) {
        open.push(say(address, &bytes).await?);
    }
    for _ in 0..HALF_OPEN {
        open.push(say(address, &MAGIC[..3]).await?);
    }
    // Whatever is answered is fine.
    let _ = timeout(CALL_WITHIN, call(address, forged)).await;
    tokio::time::sleep(hold).await;
    drop(open);
    Ok(())
}

async fn say(address: &Address, bytes: &[u8]) -> io::Result<TcpStream> {
    let connected = timeout(CONNECT_WITHIN, TcpStream::connect((address.host.as_str(), address.port))).await;
    let mut stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // A node that closes at once is right.
    let _ = stream.write_all(bytes).await;
    Ok(stream)
}

/// What is written to connections.
fn texts(forged: &Forged) -> Vec<Vec<u8>> {
    let hello = |purpose: proto::Purpose| proto::Hello { envelope: Some(forged.envelope()), purpose: purpose.into() };
    let append = [&MAGIC[..], &frame(&hello(proto::Purpose::Append))].concat();
    let forward = [&MAGIC[..], &frame(&hello(proto::Purpose::Forward))].concat();
    let records = proto::AppendFrame {
        vote: Some(proto::Vote { term: u64::MAX, node: forged.from, committed: true }),
        prev: Some(proto::LogId { term: u64::MAX, node: forged.from, index: u64::MAX }),
        committed: Some(proto::LogId { term: u64::MAX, node: forged.from, index: u64::MAX }),
        records: vec![0xA5; 4096].into(),
        record_count: u32::MAX,
        ..Default::default()
    };
    let proposals = proto::ForwardFrame { id: 1, proposals: vec![vec![0xFF; 100].into(), Vec::new().into()] };
    let mut too_long = append.clone();
    too_long.put_u32(u32::MAX);
    vec![
        // Neither a link nor gRPC, and a link that has no hello.
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 64],
        [&MAGIC[..], &[0xFF; 64]].concat(),
        // A hello without its end; a length beyond all bounds.
        append[..append.len() - 3].to_vec(),
        too_long,
        [append, frame(&records)].concat(),
        [forward, frame(&proposals)].concat(),
    ]
}

fn frame(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.extend(message.encode_to_vec());
    bytes
}

/// A vote for the last term there can be, and a heartbeat of its leader.
async fn call(address: &Address, forged: &Forged) -> Result<(), Box<dyn std::error::Error>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut peer = PeerClient::new(channel);
    let vote = Some(proto::Vote { term: u64::MAX, node: forged.from, committed: false });
    let last = Some(proto::LogId { term: u64::MAX, node: forged.from, index: u64::MAX });
    let ask = proto::VoteCall { envelope: Some(forged.envelope()), vote, last, leader_transfer: true };
    let _ = peer.pre_vote(Request::new(ask.clone())).await;
    let _ = peer.request_vote(Request::new(ask)).await;
    let beat = proto::AppendFrame { envelope: Some(forged.envelope()), vote, prev: last, ..Default::default() };
    let _ = peer.heartbeat(Request::new(beat)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn each_kind_of_nonsense_arrives() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
            let forged = Forged { cluster: "c".into(), group: "g".into(), from: 7, to: 0, disk: 9 };
            let said = tokio::spawn(async move {
                let mut said = Vec::new();
                for _ in 0..texts(&forged).len() + HALF_OPEN {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut text = [0; 8];
                    let length = stream.read(&mut text).await.unwrap();
                    said.push(text[..length].to_vec());
                }
                said
            });
            let forged = Forged { cluster: "c".into(), group: "g".into(), from: 7, to: 0, disk: 9 };
            attack(&address, &forged, Duration::ZERO).await.unwrap();
            let said = said.await.unwrap();
            assert!(said.iter().filter(|text| text.starts_with(&MAGIC)).count() >= 5, "{said:?}");
            assert_eq!(said.iter().filter(|text| **text == MAGIC[..3]).count(), HALF_OPEN);
        });
    }
}
