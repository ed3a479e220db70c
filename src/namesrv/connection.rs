//! One connection of a name server: takes a frame, answers it from memory or asks the brokers, and takes the next.
//!
//! Bounded: the bytes of a frame, how long a client may say nothing or take nothing, and one answer at a time. A malformed
//! frame ends the connection without an answer (remoting §1.1).

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::namesrv::answers::{Asked, answer};
use crate::namesrv::forward;
use crate::namesrv::table::{ConnectionNumber, Table};
use crate::proto::remoting::{FRAME_BYTES_MAX, Frame};

/// A connection on which no whole request comes for this long is closed, as RocketMQ's name servers do.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(120);
/// A client must take an answer in this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 4 * 1024;

/// Serves a connection until its client ends it, or says nothing for too long.
pub(super) async fn serve(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    idle_max: Duration,
    table: &Mutex<Table>,
    settings: &str,
    number: ConnectionNumber,
) -> io::Result<()> {
    let mut read = BytesMut::new();
    while let Some(frame) = next(&mut io, &mut read, idle_max).await? {
        let Frame { header_type, header, body } = frame;
        if header.is_response() {
            continue;
        }
        let asked = Asked { header: &header, body: &body, connection: number, settings };
        let mut answer = if forward::is_forwarded(header.code) {
            let groups = table.lock().addresses();
            forward::answer(&groups, &header).await
        } else {
            answer(&mut table.lock(), &asked)
        };
        if header.is_oneway() {
            continue;
        }
        let body = std::mem::take(&mut answer.body);
        let answered = Frame { header_type, header: answer.header(header.opaque), body };
        let bytes = answered.encode().map_err(io::Error::other)?;
        match timeout(WRITE_TIMEOUT, io.write_all(&bytes)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for 30 s")),
        }
    }
    Ok(())
}

/// The next frame; `None` when the client closed.
async fn next(io: &mut (impl AsyncRead + Unpin), read: &mut BytesMut, idle_max: Duration) -> io::Result<Option<Frame>> {
    let until = Instant::now() + idle_max;
    loop {
        let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some(frame) = Frame::take(read, FRAME_BYTES_MAX).map_err(malformed)? {
            return Ok(Some(frame));
        }
        read.reserve(READ_BYTES);
        match tokio::time::timeout_at(until, io.read_buf(read)).await {
            Ok(Ok(0)) if read.is_empty() => return Ok(None),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => drop(read?),
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole request came in time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::proto::remoting::registration::{NodeReport, Registration};
    use crate::proto::remoting::{Fields, Header, HeaderType, RequestCode, ResponseCode};

    fn frame(code: RequestCode, fields: Fields, body: &[u8]) -> Frame {
        let header = Header::request(code as i32, 7, fields);
        Frame { header_type: HeaderType::Json, header, body: Bytes::copy_from_slice(body) }
    }

    async fn ask(client: &mut DuplexStream, asked: Frame) -> Frame {
        client.write_all(&asked.encode().unwrap()).await.unwrap();
        let mut read = BytesMut::new();
        next(client, &mut read, IDLE_MAX).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_let_go_and_one_that_is_malformed_at_once() {
        let table = Mutex::default();
        let (mut client, io) = duplex(1 << 20);
        let served =
            async { serve(io, Duration::from_millis(500), &table, "listenPort=9876\n", 0).await.unwrap_err().kind() };
        let asking = async {
            let settings = ask(&mut client, frame(RequestCode::GetNamesrvConfig, Fields::default(), b"")).await;
            assert_eq!((settings.header.code, &settings.body[..]), (0, &b"listenPort=9876\n"[..]));
            // Bytes that are no whole request do not count.
            client.write_all(&[0, 0]).await.unwrap();
        };
        assert_eq!(tokio::join!(served, asking).0, io::ErrorKind::TimedOut);
        let (mut client, io) = duplex(1 << 20);
        let served = async { serve(io, IDLE_MAX, &table, "", 1).await.unwrap_err().kind() };
        let asking = async { client.write_all(&[1, 0, 0, 1, 0]).await.unwrap() };
        assert_eq!(tokio::join!(served, asking).0, io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn reports_of_other_brokers_and_requests_to_brokers_are_refused_by_name() {
        let table = Mutex::default();
        let (mut client, io) = duplex(1 << 20);
        let asking = async move {
            let of_rocketmq = serde_json::to_vec(&Registration::default()).unwrap();
            for (code, body, refusal, words) in [
                (
                    RequestCode::RegisterBroker,
                    &of_rocketmq[..],
                    ResponseCode::RequestCodeNotSupported,
                    "raftmq's brokers only",
                ),
                (RequestCode::RegisterBroker, b"{", ResponseCode::InvalidParameter, "cannot be read"),
                (
                    RequestCode::SendMessage,
                    b"",
                    ResponseCode::RequestCodeNotSupported,
                    "10 (SEND_MESSAGE) is not served",
                ),
                (RequestCode::PutKvConfig, b"", ResponseCode::ServiceNotAvailable, "no broker reports"),
                (RequestCode::WipeWritePermOfBroker, b"", ResponseCode::ServiceNotAvailable, "no broker reports"),
                (RequestCode::UnregisterBroker, b"", ResponseCode::InvalidParameter, "'clusterName' is missing"),
                (RequestCode::GetRouteInfoByTopic, b"", ResponseCode::InvalidParameter, "'topic' is missing"),
            ] {
                let header = ask(&mut client, frame(code, Fields::default(), body)).await.header;
                assert_eq!(header.code, refusal as i32);
                assert!(header.remark.as_deref().unwrap().contains(words), "{header:?}");
            }
            let report = NodeReport {
                cluster: "C".into(),
                broker_name: "b".into(),
                member: "n0".into(),
                address: "a:1".into(),
                ..NodeReport::default()
            };
            let own = serde_json::to_vec(&Registration { raftmq: Some(report), ..Registration::default() }).unwrap();
            let taken = ask(&mut client, frame(RequestCode::RegisterBroker, Fields::default(), &own)).await.header;
            assert_eq!((taken.code, taken.fields.get("raftmqNameServer").is_some()), (0, true));
        };
        tokio::join!(async { serve(io, IDLE_MAX, &table, "", 0).await.unwrap() }, asking);
        assert_eq!(table.lock().nodes_count(), 1, "whoever accepted the connection ends what it reported");
    }

    #[test]
    fn fuzz_name_server() {
        let report = NodeReport {
            cluster: "C".into(),
            broker_name: "b".into(),
            member: "n0".into(),
            address: "10.0.0.1:10911".into(),
            ..NodeReport::default()
        };
        let report = serde_json::to_vec(&Registration { raftmq: Some(report), ..Registration::default() }).unwrap();
        let corpus = [
            frame(
                RequestCode::RegisterBroker,
                [("clusterName", "C"), ("brokerAddr", "10.0.0.1:10911")].into_iter().collect(),
                &report,
            ),
            frame(RequestCode::GetRouteInfoByTopic, [("topic", "t")].into_iter().collect(), b""),
            frame(RequestCode::GetBrokerClusterInfo, Fields::default(), b""),
            frame(RequestCode::GetTopicsByCluster, [("cluster", "C")].into_iter().collect(), b""),
            frame(
                RequestCode::UnregisterBroker,
                [("clusterName", "C"), ("brokerAddr", "a:1")].into_iter().collect(),
                b"",
            ),
        ];
        let corpus = corpus.map(|frame| frame.encode().unwrap());
        let mend = |bytes: &mut Vec<u8>, _: &mut odd_bytes::Rng| {
            let rest = (bytes.len() as u32).saturating_sub(4);
            if let Some(length) = bytes.get_mut(..4) {
                length.copy_from_slice(&rest.to_be_bytes());
            }
        };
        let table = Mutex::new(Table::default());
        odd_bytes::Fuzz::of("name_server", corpus).words(["\"code\":105", "\"code\":103", "%DLQ%"]).mend(mend).run(
            |bytes| {
                let mut read = BytesMut::from(bytes);
                let frame = Frame::take(&mut read, FRAME_BYTES_MAX)
                    .map_err(|error| error.to_string())?
                    .ok_or("more is needed")?;
                let asked = Asked { header: &frame.header, body: &frame.body, connection: 1, settings: "" };
                let mut answer = answer(&mut table.lock(), &asked);
                let body = std::mem::take(&mut answer.body);
                let header = answer.header(7);
                let answered = Frame { header_type: frame.header_type, header: header.clone(), body };
                answered.encode().expect("an answer can be written");
                Ok(format!("{} {}", "i".repeat(header.code.clamp(0, 300) as usize), header.remark.unwrap_or_default()))
            },
        );
    }
}
