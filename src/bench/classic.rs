//! One connection to the measured endpoint over RocketMQ's classic protocol, as its clients use theirs: the route names the
//! brokers, sends go to those that may be written, pulls to those that may be read, and offsets are committed with pulls.
//! Nothing here knows whose server answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::bench::Error;
use crate::bench::connection::Purpose;
use crate::proto::remoting::route_data::{PERM_READ, PERM_WRITE, RouteData};
use crate::proto::remoting::sys_flag::{PULL_COMMITS, PULL_SUBSCRIBES, PULL_SUSPENDS};
use crate::proto::remoting::{
    BatchPart, FRAME_BYTES_MAX, Fields, Frame, Header, HeaderType, Language, Malformed, RequestCode, ResponseCode,
    StoredMessage, put_part, put_property, read_properties,
};
use crate::proto::v2;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A pull that finds nothing holds its queue for so long.
const PULL_WAIT_MILLIS: u64 = 1000;
/// Pause of a consumer for which no queue is free.
const PAUSE: Duration = Duration::from_millis(10);
/// Requests that wait to be written.
const WRITES_MAX: usize = 4096;
const READ_BYTES: usize = 64 * 1024;
const ID: &str = "UNIQ_KEY";

/// Where the consumers of a run are in each queue of each topic; one consumer pulls from a queue at a time.
#[derive(Default)]
pub(super) struct PullOffsets(Mutex<BTreeMap<(String, i32), Place>>);

#[derive(Debug, Clone, Copy)]
enum Place {
    Taken,
    At(i64),
}

impl PullOffsets {
    /// Takes the first free queue, from the one of this turn on, with its offset if that is known.
    fn claim(&self, topic: &str, queues: &[i32], turn: usize) -> Option<(i32, Option<i64>)> {
        let mut places = self.0.lock();
        (0..queues.len()).find_map(|step| {
            let queue = queues[turn.wrapping_add(step) % queues.len()];
            match places.insert((topic.to_owned(), queue), Place::Taken) {
                Some(Place::Taken) => None,
                Some(Place::At(offset)) => Some((queue, Some(offset))),
                None => Some((queue, None)),
            }
        })
    }

    fn release(&self, topic: &str, queue: i32, offset: Option<i64>) {
        let mut places = self.0.lock();
        let key = (topic.to_owned(), queue);
        match offset {
            Some(offset) => places.insert(key, Place::At(offset)),
            None => places.remove(&key),
        };
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct ClassicConnection {
    link: Rc<Link>,
    topic: Rc<str>,
    group: Rc<str>,
    /// Queues to send to, or to pull from.
    pub queues: Rc<[i32]>,
    offsets: Arc<PullOffsets>,
}

impl ClassicConnection {
    /// Asks the endpoint for the route, and connects to the broker whose turn it is by `number`.
    pub async fn open(purpose: &Purpose<'_>, number: usize, offsets: &Arc<PullOffsets>) -> Result<Self, Error> {
        let names = Link::connect(&purpose.address.to_string()).await?;
        let mut fields: Fields = [("topic", purpose.topic)].into_iter().collect();
        fields.put("acceptStandardJsonOnly", "true");
        let answer = names.ask(RequestCode::GetRouteInfoByTopic, fields, Bytes::new()).await.map_err(unanswered)?;
        let answer = done("the route", answer)?;
        let route: RouteData = serde_json::from_slice(&answer.body)
            .map_err(|error| Error::Machine(format!("the route cannot be read: {error}")))?;
        let permission = if purpose.consumes { PERM_READ } else { PERM_WRITE };
        let usable = route.queue_datas.iter().filter(|queues| queues.perm & permission != 0);
        let brokers: Vec<(String, u32)> = usable
            .filter_map(|queues| {
                let broker = route.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name)?;
                let count = if purpose.consumes { queues.read_queue_nums } else { queues.write_queue_nums };
                Some((broker.broker_addrs.get(&0)?.clone(), count))
            })
            .collect();
        let Some((address, count)) = brokers.get(number % brokers.len().max(1)) else {
            return Err(Error::Machine(format!(
                "the route of topic '{}' has no queue that may be used",
                purpose.topic
            )));
        };
        Ok(Self {
            link: Link::connect(address).await?,
            topic: purpose.topic.into(),
            group: purpose.group.into(),
            queues: (0..count.cast_signed()).collect(),
            offsets: offsets.clone(),
        })
    }

    /// Sends messages to one queue, in a batch if they are several; an error says why they may not be stored.
    pub async fn send(&self, messages: &[v2::Message]) -> Result<(), String> {
        let system = |message: &v2::Message| message.system_properties.clone().unwrap_or_default();
        let Some(first) = messages.first().map(system) else { return Ok(()) };
        let is_batch = messages.len() > 1;
        let mut fields: Fields =
            [("a", "bench"), ("b", &*self.topic), ("c", "TBW102"), ("d", "4")].into_iter().collect();
        fields.put("e", first.queue_id);
        let born = first.born_timestamp.unwrap_or_default();
        let born_at = born.seconds * 1000 + i64::from(born.nanos / 1_000_000);
        for (name, value) in [("f", 0), ("g", born_at), ("h", 0), ("j", 0)] {
            fields.put(name, value);
        }
        fields.put("k", false);
        fields.put("m", is_batch);
        let (code, body) = if is_batch {
            fields.put("i", "WAIT\u{1}true\u{2}");
            let mut body = BytesMut::new();
            for message in messages {
                let properties = properties(&system(message)).map_err(|error| error.to_string())?;
                let part = BatchPart { flag: 0, body: message.body.clone(), properties };
                put_part(&mut body, &part).map_err(|error| error.to_string())?;
            }
            (RequestCode::SendBatchMessage, body.freeze())
        } else {
            fields.put("i", properties(&first).map_err(|error| error.to_string())?);
            (RequestCode::SendMessageV2, messages[0].body.clone())
        };
        let answer = self.link.ask(code, fields, body).await?;
        if answer.header.code == ResponseCode::Success as i32 { Ok(()) } else { Err(answer.header.code.to_string()) }
    }

    /// One long poll on the next free queue.
    pub async fn pull(&self, turn: usize, batch: u32) -> Result<Vec<v2::Message>, String> {
        let Some((queue, offset)) = self.offsets.claim(&self.topic, &self.queues, turn) else {
            tokio::time::sleep(PAUSE).await;
            return Ok(Vec::new());
        };
        let pulled = self.pull_queue(queue, offset, batch).await;
        let next = pulled.as_ref().map_or(offset, |(_, next)| Some(*next));
        self.offsets.release(&self.topic, queue, next);
        pulled.map(|(messages, _)| messages)
    }

    async fn pull_queue(&self, queue: i32, offset: Option<i64>, batch: u32) -> Result<(Vec<v2::Message>, i64), String> {
        let offset = match offset {
            Some(offset) => offset,
            None => self.begin(queue).await?,
        };
        let mut fields = self.of_queue(queue);
        for (name, value) in [("queueOffset", offset), ("commitOffset", offset), ("subVersion", 0)] {
            fields.put(name, value);
        }
        fields.put("maxMsgNums", batch);
        fields.put("sysFlag", PULL_COMMITS | PULL_SUSPENDS | PULL_SUBSCRIBES);
        fields.put("suspendTimeoutMillis", PULL_WAIT_MILLIS);
        fields.put("subscription", "*");
        fields.put("expressionType", "TAG");
        let answer = self.link.ask(RequestCode::PullMessage, fields, Bytes::new()).await?;
        let next = answer.header.fields.number("nextBeginOffset").map_err(|_| answer.header.code.to_string())?;
        let stored = StoredMessage::read_all(answer.body).map_err(|error| error.to_string())?;
        Ok((stored.into_iter().map(received).collect(), next))
    }

    /// The offset that the group committed in a queue, or its beginning.
    async fn begin(&self, queue: i32) -> Result<i64, String> {
        let mut fields = self.of_queue(queue);
        fields.put("setZeroIfNotFound", "false");
        let mut answer = self.link.ask(RequestCode::QueryConsumerOffset, fields, Bytes::new()).await?;
        if answer.header.code == ResponseCode::QueryNotFound as i32 {
            answer = self.link.ask(RequestCode::GetMinOffset, self.of_queue(queue), Bytes::new()).await?;
        }
        answer.header.fields.number("offset").map_err(|_| answer.header.code.to_string())
    }

    fn of_queue(&self, queue: i32) -> Fields {
        let mut fields: Fields = [("consumerGroup", &*self.group), ("topic", &*self.topic)].into_iter().collect();
        fields.put("queueId", queue);
        fields
    }

    pub fn topic(&self) -> v2::Resource {
        v2::Resource { resource_namespace: String::new(), name: self.topic.to_string() }
    }
}

fn properties(system: &v2::SystemProperties) -> Result<String, Malformed> {
    let mut text = String::new();
    put_property(&mut text, ID, &system.message_id)?;
    put_property(&mut text, "WAIT", "true")?;
    if let Some(at) = system.delivery_timestamp {
        let millis = at.seconds * 1000 + i64::from(at.nanos / 1_000_000);
        put_property(&mut text, "TIMER_DELIVER_MS", &millis.to_string())?;
    }
    Ok(text)
}

/// A message as the checks of a run read it.
fn received(stored: StoredMessage) -> v2::Message {
    let id = read_properties(&stored.properties).find(|(name, _)| *name == ID);
    let system = v2::SystemProperties {
        message_id: id.map(|(_, id)| id.to_owned()).unwrap_or_default(),
        queue_id: stored.queue,
        queue_offset: Some(stored.queue_offset),
        ..Default::default()
    };
    v2::Message {
        topic: Some(v2::Resource { resource_namespace: String::new(), name: stored.topic }),
        body: stored.body,
        system_properties: Some(system),
        ..Default::default()
    }
}

fn unanswered(reason: String) -> Error {
    Error::Machine(format!("a request was not answered: {reason}"))
}

fn done(what: &str, answer: Frame) -> Result<Frame, Error> {
    if answer.header.code == ResponseCode::Success as i32 {
        return Ok(answer);
    }
    let text = answer.header.remark.unwrap_or_default();
    Err(Error::Refused { what: what.to_owned(), code: answer.header.code.to_string(), text })
}

/// Who waits for which answer.
type Waiting = RefCell<BTreeMap<i32, oneshot::Sender<Frame>>>;

/// A connection with many requests on their way. Its tasks end with it.
struct Link {
    writes: mpsc::Sender<Bytes>,
    waiting: Rc<Waiting>,
    opaque: Cell<i32>,
    reading: tokio::task::AbortHandle,
}

impl Link {
    async fn connect(address: &str) -> Result<Rc<Self>, Error> {
        let unreachable = |reason: String| Error::Connect { address: address.to_owned(), reason };
        let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
        let stream = connecting
            .map_err(|_| unreachable(format!("no answer in {CONNECT_WITHIN:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let (reader, writer) = stream.into_split();
        let (writes, written) = mpsc::channel(WRITES_MAX);
        let waiting: Rc<Waiting> = Rc::default();
        tokio::task::spawn_local(write(writer, written));
        let answered = waiting.clone();
        let reading = tokio::task::spawn_local(async move {
            read(reader, &answered).await;
            // Those that wait hear that there is no answer.
            answered.borrow_mut().clear();
        });
        Ok(Rc::new(Self { writes, waiting, opaque: Cell::new(0), reading: reading.abort_handle() }))
    }

    /// The answer to a request, or why there is none.
    async fn ask(&self, code: RequestCode, fields: Fields, body: Bytes) -> Result<Frame, String> {
        self.opaque.set(self.opaque.get().wrapping_add(1));
        let opaque = self.opaque.get();
        let header = Header { language: Language::Java, ..Header::request(code as i32, opaque, fields) };
        let frame = Frame { header_type: HeaderType::Json, header, body };
        let bytes = frame.encode().map_err(|error| error.to_string())?;
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().insert(opaque, answer);
        self.writes.send(bytes).await.map_err(|_| "the connection is closed".to_owned())?;
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(_)) => Err("the connection was closed".to_owned()),
            Err(_) => {
                self.waiting.borrow_mut().remove(&opaque);
                Err("no answer in time".to_owned())
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Requests that are ready together go out together.
async fn write(mut writer: OwnedWriteHalf, mut written: mpsc::Receiver<Bytes>) {
    let (mut ready, mut out) = (Vec::new(), BytesMut::new());
    while written.recv_many(&mut ready, WRITES_MAX).await > 0 {
        out.clear();
        ready.drain(..).for_each(|bytes| out.extend_from_slice(&bytes));
        if writer.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn read(mut reader: OwnedReadHalf, waiting: &Waiting) {
    let mut read = BytesMut::new();
    loop {
        match Frame::take(&mut read, FRAME_BYTES_MAX) {
            // What the server asks is not answered: nothing here depends on it.
            Ok(Some(frame)) if !frame.header.is_response() => {}
            Ok(Some(frame)) => {
                let waits = waiting.borrow_mut().remove(&frame.header.opaque);
                // Whoever waited may have given up.
                if let Some(waits) = waits {
                    let _ = waits.send(frame);
                }
            }
            Ok(None) => {
                read.reserve(READ_BYTES);
                if !matches!(reader.read_buf(&mut read).await, Ok(1..)) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_pulled_from_by_one_consumer_at_a_time_and_goes_on_where_it_was() {
        let offsets = PullOffsets::default();
        let claim = |turn| offsets.claim("t", &[0, 1], turn);
        assert_eq!((claim(1), claim(1), claim(0)), (Some((1, None)), Some((0, None)), None));
        offsets.release("t", 1, Some(7));
        offsets.release("t", 0, None);
        assert_eq!((claim(0), claim(0), claim(0)), (Some((0, None)), Some((1, Some(7))), None));
        assert_eq!(offsets.claim("u", &[0], 5), Some((0, None)), "of another topic");
    }
}
