//! Hostile peers: connections to the nodes' peer ports that say what no peer says.
//!
//! None of it may end a node, make it follow, or hold up its service. What answers come back is not looked at: the checker
//! judges by what clients see.

use std::io;
use std::time::Duration;

use bytes::BufMut;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Address;
use crate::proto::peer as proto;
use crate::proto::peer::call::Call;

/// First bytes of a link (`raft/peer/link`).
const MAGIC: [u8; 8] = *b"RAFTMQ\x02\n";
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Connections left open with half a frame in them.
const HALF_OPEN: usize = 32;
/// No frame of a greeting is larger.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// Who the cluster is, for those who forge.
#[derive(Debug, Clone)]
pub(super) struct Forged {
    pub cluster: String,
    pub group: String,
    /// Ids of the node that is said to speak and of the one that is spoken to.
    pub from: u64,
    pub to: u64,
    /// Where the node that is said to speak can be asked for its disk, to be said in its name; `None`: made up.
    pub asked: Option<Address>,
}

impl Forged {
    fn hello(&self, purpose: proto::Purpose) -> proto::Hello {
        let (cluster, group) = (self.cluster.clone(), self.group.clone());
        let envelope = proto::Envelope { cluster, group, from: self.from, to: self.to, shard: 0, lineage: 0 };
        proto::Hello { envelope: Some(envelope), purpose: purpose.into(), nonce: vec![7; 16].into() }
    }

    /// What the node that is said to speak says of its disk, if it tells; else something made up.
    async fn facts(&self) -> proto::Facts {
        let made_up = proto::Facts { disk: 9, cluster_version: 1, ..proto::Facts::default() };
        let Some(asked) = &self.asked else { return made_up };
        let back = Self { from: self.to, to: self.from, ..self.clone() };
        match timeout(ASK_WITHIN, probe(asked, &back, made_up.clone())).await {
            Ok(Ok(Some(facts))) => facts,
            Ok(Ok(None) | Err(_)) | Err(_) => made_up,
        }
    }
}

/// Everything there is against one node; the connections stay open until `hold` is over.
pub(super) async fn attack(address: &Address, forged: &Forged, hold: Duration) -> io::Result<()> {
    let facts = forged.facts().await;
    let mut open = Vec::new();
    for bytes in texts(forged, &facts) {
        open.push(say(address, &bytes).await?);
    }
    for _ in 0..HALF_OPEN {
        open.push(say(address, &MAGIC[..3]).await?);
    }
    tokio::time::sleep(hold).await;
    drop(open);
    Ok(())
}

async fn connect(address: &Address) -> io::Result<TcpStream> {
    let connected = timeout(CONNECT_WITHIN, TcpStream::connect((address.host.as_str(), address.port))).await;
    connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn say(address: &Address, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = connect(address).await?;
    // A node that closes at once is right.
    let _ = stream.write_all(bytes).await;
    Ok(stream)
}

/// Asks a node what it says of its disk.
async fn probe(address: &Address, asking: &Forged, facts: proto::Facts) -> io::Result<Option<proto::Facts>> {
    let mut stream = connect(address).await?;
    stream.write_all(&greeting(asking, proto::Purpose::Probe, &facts)).await?;
    let _: proto::Challenge = receive(&mut stream).await?;
    let welcome: proto::Welcome = receive(&mut stream).await?;
    Ok(welcome.facts)
}

async fn receive<M: Message + Default>(stream: &mut TcpStream) -> io::Result<M> {
    let length = stream.read_u32().await? as usize;
    let mut bytes = vec![0; length.min(ANSWER_BYTES_MAX)];
    stream.read_exact(&mut bytes).await?;
    stream.read_u32().await?;
    M::decode(&bytes[..]).map_err(io::Error::other)
}

/// A greeting as it is sent at once by whoever does not care for the answers.
fn greeting(forged: &Forged, purpose: proto::Purpose, facts: &proto::Facts) -> Vec<u8> {
    let proof = proto::Proof { proof: Vec::new().into(), facts: Some(facts.clone()) };
    [MAGIC.to_vec(), frame(&forged.hello(purpose)), frame(&proof)].concat()
}

/// What is written to connections.
fn texts(forged: &Forged, facts: &proto::Facts) -> Vec<Vec<u8>> {
    let link = |purpose| greeting(forged, purpose, facts);
    let vote = Some(proto::Vote { term: u64::MAX, node: forged.from, committed: false });
    let leads = Some(proto::Vote { term: u64::MAX, node: forged.from, committed: true });
    let last = Some(proto::LogId { term: u64::MAX, node: forged.from, index: u64::MAX });
    let records = proto::AppendFrame {
        vote: leads,
        prev: last,
        committed: last,
        records: vec![0xA5; 4096].into(),
        record_count: u32::MAX,
    };
    let proposals = proto::ForwardFrame { id: 1, proposals: vec![vec![0xFF; 100].into(), Vec::new().into()] };
    let ask = proto::VoteCall { vote, last, leader_transfer: true };
    let beat = proto::AppendFrame { vote: leads, prev: last, ..Default::default() };
    let calls = [Call::PreVote(ask), Call::Vote(ask), Call::Heartbeat(beat)];
    let calls = (0..).zip(calls).map(|(id, call)| frame(&proto::Call { id, call: Some(call) })).collect::<Vec<_>>();
    let append = link(proto::Purpose::Append);
    let mut too_long = append.clone();
    too_long.put_u32(u32::MAX);
    vec![
        // No link, and a link that has no hello.
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 64],
        [&MAGIC[..], &[0xFF; 64]].concat(),
        // A greeting without its end; a length beyond all bounds.
        append[..append.len() - 3].to_vec(),
        too_long,
        [append, frame(&records)].concat(),
        [link(proto::Purpose::Forward), frame(&proposals)].concat(),
        [link(proto::Purpose::Control), calls.concat()].concat(),
    ]
}

fn frame(message: &impl Message) -> Vec<u8> {
    let text = message.encode_to_vec();
    let mut bytes = Vec::new();
    bytes.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    bytes.put_slice(&text);
    bytes.put_u32(crc32c::crc32c(&text));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_nonsense_arrives() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
            let forged = Forged { cluster: "c".into(), group: "g".into(), from: 7, to: 0, asked: None };
            let said = tokio::spawn(async move {
                let mut said = Vec::new();
                for _ in 0..texts(&forged, &proto::Facts::default()).len() + HALF_OPEN {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut text = [0; 8];
                    let length = stream.read(&mut text).await.unwrap();
                    said.push(text[..length].to_vec());
                }
                said
            });
            let forged = Forged { cluster: "c".into(), group: "g".into(), from: 7, to: 0, asked: None };
            attack(&address, &forged, Duration::ZERO).await.unwrap();
            let said = said.await.unwrap();
            assert!(said.iter().filter(|text| text.starts_with(&MAGIC)).count() >= 5, "{said:?}");
            assert_eq!(said.iter().filter(|text| **text == MAGIC[..3]).count(), HALF_OPEN);
        });
    }
}
