//! Reports this node to the name servers of `namesrvAddr`: when it connects, again after a while, and when anything changes;
//! and says goodbye before it stops.
//!
//! One report is made for all of them; each has a connection of its own and nobody waits for another one. One that does not
//! answer is dialled again every second. Bounded: one request at a time, and how long it may take.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::edge::remoting::context::Remoting;
use crate::edge::remoting::report::Report;
use crate::env::clock;
use crate::model::HostPort;
use crate::proto::remoting::{Frame, Header, HeaderType, NAME_SERVER_MARK, RequestCode, ResponseCode};

/// What nobody is notified of is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes that come together are one report.
const TOGETHER: Duration = Duration::from_millis(20);
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const DIAL_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A goodbye must not delay a stop.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// Answers to reports are short.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

type Reports = watch::Receiver<Option<Arc<Report>>>;

impl Remoting {
    /// Reports until the node leaves.
    pub async fn report(self, name_servers: Vec<HostPort>, every: Duration) {
        let leaving = self.node.leaving().clone();
        let (made, reports) = watch::channel(None);
        let making = leaving.clone().run_until_cancelled_owned(make(self, made));
        let reporting = name_servers.into_iter().map(|address| {
            let address = address.to_string();
            let (reports, leaving, began_at) = (reports.clone(), leaving.clone(), clock::wall().0);
            Reporter { address, every, reports, leaving, began_at, counter: 0, is_known: false }.run()
        });
        tokio::join!(making, join_all(reporting));
    }
}

/// Makes a report whenever there is something new to say.
async fn make(remoting: Remoting, made: watch::Sender<Option<Arc<Report>>>) {
    let mut catalog = remoting.node.catalog_changes();
    let mut leadership = remoting.broker.leadership();
    loop {
        match Report::now(&remoting) {
            Ok(Some(report)) => {
                made.send_if_modified(|before| {
                    let is_new = before.as_deref() != Some(&report);
                    if is_new {
                        if report.left_out > 0 {
                            let left_out = report.left_out;
                            tracing::warn!(left_out, "name servers take no more topics of a group: some are left out");
                        }
                        *before = Some(Arc::new(report));
                    }
                    is_new
                });
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "there is nothing to report to name servers yet"),
        }
        sleep(TOGETHER).await;
        tokio::select! {
            _ = catalog.changed() => {}
            _ = leadership.changed() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Reports to one name server.
struct Reporter {
    address: String,
    every: Duration,
    reports: Reports,
    leaving: CancellationToken,
    began_at: u64,
    /// Reports that differed from the one before.
    counter: u64,
    /// The last one was taken.
    is_known: bool,
}

impl Reporter {
    async fn run(mut self) {
        let mut is_new = true;
        while !self.leaving.is_cancelled() {
            let Err(error) = self.session().await else { return };
            if is_new || self.is_known {
                tracing::warn!(address = self.address, %error, "this name server cannot be reported to; it goes on trying");
            }
            (is_new, self.is_known) = (false, false);
            self.leaving.clone().run_until_cancelled(sleep(DIAL_AGAIN_AFTER)).await;
        }
    }

    /// Reports over one connection until it fails, or the node leaves.
    async fn session(&mut self) -> io::Result<()> {
        let leaving = self.leaving.clone();
        let dialling = timeout(DIAL_TIMEOUT, TcpStream::connect(&self.address));
        let Some(dialled) = leaving.run_until_cancelled(dialling).await else { return Ok(()) };
        let mut link = Link { stream: dialled??, read: BytesMut::new(), opaque: 0, is_own: false };
        let mut reported = None;
        while !leaving.is_cancelled() {
            let report = self.reports.borrow_and_update().clone();
            if let Some(report) = report {
                self.send(&mut link, reported.as_deref(), &report).await?;
                reported = Some(report);
            }
            tokio::select! {
                biased;
                () = leaving.cancelled() => {}
                changed = self.reports.changed() => if changed.is_err() {
                    // What makes reports ends when the node leaves.
                    leaving.cancelled().await;
                },
                () = sleep(self.every) => {}
                ended = link.end() => return Err(ended),
            }
        }
        if let Some(reported) = &reported {
            // Late or not, the node stops; the end of the connection says the same.
            let _ = timeout(GOODBYE_TIMEOUT, link.ask(RequestCode::UnregisterBroker, reported, None)).await;
        }
        Ok(())
    }

    async fn send(&mut self, link: &mut Link, before: Option<&Report>, report: &Report) -> io::Result<()> {
        if before != Some(report) {
            self.counter += 1;
        }
        // RocketMQ's name servers know one name for an address, and would keep the other one for two minutes. Ours would have
        // the node nowhere for a moment.
        if let Some(before) = before.filter(|before| !before.has_name_of(report) && !link.is_own) {
            link.ask(RequestCode::UnregisterBroker, before, None).await?;
        }
        link.ask(RequestCode::RegisterBroker, report, Some(report.body(self.counter, self.began_at))).await?;
        if !self.is_known {
            tracing::info!(address = self.address, "this name server knows this node");
            self.is_known = true;
        }
        Ok(())
    }
}

/// A connection to a name server.
struct Link {
    stream: TcpStream,
    read: BytesMut,
    opaque: i32,
    /// It is one of raftmq's.
    is_own: bool,
}

impl Link {
    async fn ask(&mut self, code: RequestCode, report: &Report, body: Option<Bytes>) -> io::Result<()> {
        self.opaque = self.opaque.wrapping_add(1);
        let header = Header::request(code as i32, self.opaque, report.fields(code));
        let frame = Frame { header_type: HeaderType::Json, header, body: body.unwrap_or_default() };
        let asked = frame.encode().map_err(io::Error::other)?;
        timeout(ANSWER_TIMEOUT, self.stream.write_all(&asked)).await??;
        let answer = timeout(ANSWER_TIMEOUT, async {
            loop {
                let frame = self.next().await?;
                if frame.header.is_response() && frame.header.opaque == self.opaque {
                    return io::Result::Ok(frame.header);
                }
            }
        });
        let answer = answer.await??;
        if answer.code != ResponseCode::Success as i32 {
            let why = answer.remark.unwrap_or_default();
            return Err(io::Error::other(format!("{} was answered {}: {why}", code.name(), answer.code)));
        }
        self.is_own |= answer.fields.get(NAME_SERVER_MARK).is_some();
        Ok(())
    }

    /// Why the connection ended; what the name server says meanwhile is passed over.
    async fn end(&mut self) -> io::Error {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }

    /// The next frame. May be dropped and called again.
    async fn next(&mut self) -> io::Result<Frame> {
        loop {
            let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            if let Some(frame) = Frame::take(&mut self.read, ANSWER_BYTES_MAX).map_err(malformed)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended the connection"));
            }
        }
    }
}
