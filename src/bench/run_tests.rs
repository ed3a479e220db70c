//! The end of an end to end run, against a server of the classic protocol that answers late.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::bench::run::run;
use crate::bench::{Acks, Protocol, RunKind, RunPlan};
use crate::client::Endpoints;
use crate::proto::remoting::route_data::{BrokerData, QueueData, RouteData};
use crate::proto::remoting::{
    FRAME_BYTES_MAX, Fields, Frame, Header, HeaderType, RequestCode, ResponseCode, StoredMessage,
};

const WINDOW: Duration = Duration::from_secs(1);
/// Each worker's first send is answered soon, so that there is something to measure.
const FAST_SENDS: usize = 2;
/// The others take longer than the window, and than any pause in which something might still come.
const SEND_TAKES: Duration = Duration::from_millis(2500);
const SOON: Duration = Duration::from_millis(20);

/// What the one queue of the server has.
#[derive(Default)]
struct Queue {
    messages: Mutex<Vec<StoredMessage>>,
    sends: AtomicUsize,
}

impl Queue {
    fn answer(&self, address: &str, asked: &Frame) -> (ResponseCode, Fields, Bytes) {
        let fields = &asked.header.fields;
        match RequestCode::of_number(asked.header.code).unwrap() {
            RequestCode::GetRouteInfoByTopic => {
                let broker = BrokerData {
                    broker_addrs: [(0, address.to_owned())].into(),
                    broker_name: "b".into(),
                    ..BrokerData::default()
                };
                let queues = QueueData {
                    broker_name: "b".into(),
                    perm: 6,
                    read_queue_nums: 1,
                    write_queue_nums: 1,
                    ..QueueData::default()
                };
                let route = RouteData { broker_datas: vec![broker], queue_datas: vec![queues], ..RouteData::default() };
                (ResponseCode::Success, Fields::default(), serde_json::to_vec(&route).unwrap().into())
            }
            RequestCode::SendMessageV2 => {
                let mut queue = self.messages.lock();
                let (host, offset) = ("127.0.0.1:1".parse().unwrap(), queue.len() as i64);
                queue.push(StoredMessage {
                    topic: fields.text("b").unwrap().to_owned(),
                    queue: 0,
                    queue_offset: offset,
                    physical_offset: offset,
                    flag: 0,
                    system_flags: 0,
                    born_at: 0,
                    born_host: host,
                    stored_at: 0,
                    store_host: host,
                    reconsume_times: 0,
                    prepared_offset: 0,
                    body: asked.body.clone(),
                    properties: fields.text("i").unwrap().to_owned(),
                });
                (ResponseCode::Success, Fields::default(), Bytes::new())
            }
            RequestCode::PullMessage => {
                let from: usize = fields.number("queueOffset").unwrap();
                let queue = self.messages.lock();
                let mut body = BytesMut::new();
                queue[from..].iter().take(32).for_each(|message| message.put(&mut body).unwrap());
                let next = [("nextBeginOffset", queue.len().min(from + 32))].into_iter().collect();
                let code = if body.is_empty() { ResponseCode::PullNotFound } else { ResponseCode::Success };
                (code, next, body.freeze())
            }
            RequestCode::QueryConsumerOffset | RequestCode::GetMinOffset => {
                (ResponseCode::Success, [("offset", 0)].into_iter().collect(), Bytes::new())
            }
            other => panic!("nobody asks for {other:?}"),
        }
    }
}

async fn serve(queue: Arc<Queue>, address: String, stream: TcpStream) {
    let (mut reader, writer) = stream.into_split();
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    let mut read = BytesMut::new();
    while reader.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
        while let Some(asked) = Frame::take(&mut read, FRAME_BYTES_MAX).unwrap() {
            tokio::spawn(answer(queue.clone(), address.clone(), asked, writer.clone()));
        }
    }
}

/// Requests are answered side by side.
async fn answer(queue: Arc<Queue>, address: String, asked: Frame, to: Arc<tokio::sync::Mutex<OwnedWriteHalf>>) {
    let is_send = asked.header.code == RequestCode::SendMessageV2 as i32;
    let is_slow = is_send && queue.sends.fetch_add(1, Ordering::Relaxed) >= FAST_SENDS;
    tokio::time::sleep(if is_slow { SEND_TAKES } else { SOON }).await;
    let (code, fields, body) = queue.answer(&address, &asked);
    let header = Header::answer(asked.header.opaque, code, fields);
    let answer = Frame { header_type: HeaderType::Json, header, body }.encode().unwrap();
    // Whoever asked may be gone.
    let _ = to.lock().await.write_all(&answer).await;
}

/// A server on a thread of its own, which ends with the process.
fn server() -> (Arc<Queue>, String, JoinHandle<()>) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    port.set_nonblocking(true).unwrap();
    let address = port.local_addr().unwrap().to_string();
    let queue = Arc::<Queue>::default();
    let (served, own) = (queue.clone(), address.clone());
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(port).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(served.clone(), own.clone(), stream));
            }
        });
    });
    (queue, address, thread)
}

#[test]
fn an_end_to_end_run_waits_for_sends_that_are_under_way_and_for_what_they_sent() {
    let (queue, address, _serving) = server();
    let plan = RunPlan {
        what: RunKind::EndToEnd,
        protocol: Protocol::Remoting,
        endpoints: Endpoints::parse(&address).unwrap(),
        watch: Vec::new(),
        topics: vec!["t".into()],
        group: "g".into(),
        size: 100,
        batch: 1,
        in_flight: 2,
        connections: 2,
        threads: 1,
        rate: None,
        delay: None,
        warm_up: Duration::ZERO,
        window: WINDOW,
        count: 0,
        consumers: 1,
        receive_batch: 32,
        acks: Acks::Together,
        verifies: true,
    };
    let checked = run(&plan).map(|report| report.checked);
    let stored = queue.messages.lock().len();
    assert_eq!(checked.unwrap(), Some(stored as u64), "all that is stored was received");
    assert!(stored > FAST_SENDS, "the window ended while sends were under way");
}
