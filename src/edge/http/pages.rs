//! Which page is at which path.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body;
use tokio::sync::Semaphore;

use crate::edge::admin::ProcessFacts;
use crate::edge::budgets::Bounds;
use crate::edge::grpc::call_times::CallTimes;
use crate::edge::http::dashboard::{Access, Dashboard};
use crate::edge::http::health::{Checks, Kind};
use crate::edge::http::metrics::{Format, NodeSnapshot, Snapshot, encode};
use crate::edge::http::page::{self, Page};
use crate::edge::http::pulse::Pulse;
use crate::edge::http::tables::Tables;
use crate::env::panic::{Panicked, contained};
use crate::node::Node;

/// Scrapes that are made or taken at once.
const SCRAPES_MAX: usize = 4;
/// What waits is shown by metrics for so many times as long as finding it took: a twentieth of a core.
const FRESH_TIMES: u32 = 20;
const INDEX: &str = "raftmq\n\n\
    /ui/       the dashboard, for this machine unless adminOpen=true\n\
    /metrics   for Prometheus\n\
    /livez     200 while this process works, else 503: start it again\n\
    /readyz    200 while this node serves clients, else 503: send them to another\n\
    /healthz   both\n\n\
    The last three take ?verbose for a line about each check, and ?format=json.\n";

/// What is served, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// `metricsExporterType` is not `DISABLE`.
    pub serves_metrics: bool,
    /// Of every metric: those of this node, and `metricsLabel`.
    pub labels: Vec<(String, String)>,
    /// Whom the dashboard answers.
    pub access: Access,
}

/// The pages of a node, which may still be starting.
pub struct Pages {
    settings: HttpSettings,
    node: OnceLock<(Arc<Node>, Arc<CallTimes>, Bounds)>,
    pulse: Pulse,
    scrapes: Arc<Semaphore>,
    tables: Arc<Tables>,
    dashboard: Dashboard,
}

impl Pages {
    pub fn new(settings: HttpSettings, pulse: Pulse) -> Self {
        let scrapes = Arc::new(Semaphore::new(SCRAPES_MAX));
        let tables = Arc::<Tables>::default();
        let dashboard = Dashboard::new(settings.access.clone(), tables.clone());
        Self { settings, node: OnceLock::new(), pulse, scrapes, tables, dashboard }
    }

    /// From now on there is a node, whose calls are timed there; to be called on a runtime.
    pub fn set_node(&self, node: Arc<Node>, calls: Arc<CallTimes>, bounds: Bounds, facts: ProcessFacts) {
        self.dashboard.set_node(node.clone(), facts);
        // It is set once.
        let _ = self.node.set((node, calls, bounds));
    }

    /// Answers one request; a panic fails it alone.
    pub(super) async fn answer<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Page>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let answered = contained(self.page(request, peer)).await;
        answered.unwrap_or_else(|Panicked| {
            page::text(StatusCode::INTERNAL_SERVER_ERROR, "a bug in raftmq; the node's log says more")
        })
    }

    async fn page<B>(&self, mut request: Request<B>, peer: SocketAddr) -> Response<Page>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = request.uri().path();
        if path == "/ui" || path.starts_with("/ui/") {
            return self.dashboard.answer(&mut request, peer).await;
        }
        let (request, path) = (&request, request.uri().path());
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return page::not_allowed();
        }
        let node = self.node.get().map(|(node, ..)| &**node);
        let kind = match path {
            "/livez" => Kind::Live,
            "/readyz" => Kind::Ready,
            "/healthz" => Kind::Both,
            "/metrics" if !self.settings.serves_metrics => {
                let text = "there are no metrics here: metricsExporterType=DISABLE; remove the line to have them";
                return page::text(StatusCode::NOT_FOUND, text);
            }
            "/metrics" => return self.metrics(request).await,
            "/" => return page::text(StatusCode::OK, INDEX),
            _ => {
                let text = "there is no such page; there are /ui/, /metrics, /livez, /readyz and /healthz";
                return page::text(StatusCode::NOT_FOUND, text);
            }
        };
        let checks = Checks::of(kind, node, &self.pulse);
        let code = if checks.passed() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if asks(request, "format").is_some_and(|format| format.eq_ignore_ascii_case("json")) {
            return page::json(code, &checks.to_json());
        }
        let is_verbose = asks(request, "verbose").is_some_and(|value| !matches!(value, "0" | "false"));
        page::text(code, checks.to_text(is_verbose))
    }

    /// Not more than a few at once: each may be large, and whoever reads it slowly holds on to it.
    async fn metrics<B>(&self, request: &Request<B>) -> Response<Page> {
        let Ok(permit) = self.scrapes.clone().try_acquire_owned() else {
            let text = format!("{SCRAPES_MAX} scrapes are under way already; try again in a moment");
            return page::text(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        let mut snapshot = Snapshot::of_start(self.settings.labels.clone());
        if let Some((node, calls, bounds)) = self.node.get() {
            // Only the leader shows what all know alike.
            let leads = node.broker().leadership().borrow().is_self;
            let table = if leads { self.tables.of(node, FRESH_TIMES).await } else { None };
            let is_ready = Checks::of(Kind::Ready, Some(node), &self.pulse).passed();
            snapshot = snapshot.with(NodeSnapshot::of(node, calls, bounds, table, is_ready).await);
        }
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let format = Format::of(accept);
        page::large(format.content_type(), encode(snapshot, format).into(), permit)
    }
}

/// The value of a word of the query; empty if it has none.
fn asks<'a, B>(request: &'a Request<B>, name: &str) -> Option<&'a str> {
    let words = request.uri().query()?.split('&');
    words.map(|word| word.split_once('=').unwrap_or((word, ""))).find(|(word, _)| *word == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn code_of(settings: &HttpSettings, method: Method, path: &str) -> StatusCode {
        let pages = Pages::new(settings.clone(), Pulse::default());
        let request =
            Request::builder().method(method).uri(path).header("host", "localhost").body(String::new()).unwrap();
        pages.answer(request, SocketAddr::from(([127, 0, 0, 1], 40_000))).await.status()
    }

    #[tokio::test]
    async fn only_what_is_there_is_read_and_a_node_that_starts_lives_and_is_not_ready() {
        let settings = HttpSettings { serves_metrics: false, labels: Vec::new(), access: Access::default() };
        let get = async |path: &str| code_of(&settings, Method::GET, path).await;
        assert_eq!(get("/").await, StatusCode::OK);
        assert_eq!(get("/livez").await, StatusCode::OK);
        assert_eq!(get("/readyz?verbose").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/healthz?format=json").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/metrics").await, StatusCode::NOT_FOUND);
        assert_eq!(get("/livez/").await, StatusCode::NOT_FOUND);
        assert_eq!(code_of(&settings, Method::HEAD, "/livez").await, StatusCode::OK);
        assert_eq!(code_of(&settings, Method::POST, "/livez").await, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn the_query_is_read_by_word() {
        let request = Request::builder().uri("/readyz?verbose&format=json").body(()).unwrap();
        assert_eq!((asks(&request, "verbose"), asks(&request, "format")), (Some(""), Some("json")));
        assert_eq!(asks(&request, "form"), None);
    }

    #[test]
    fn fuzz_http_pages() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = HttpSettings { serves_metrics: true, labels: Vec::new(), access: Access::default() };
        let pages = Pages::new(settings, Pulse::default());
        let corpus = [
            "GET\n/\nlocalhost\n\n",
            "GET\n/healthz?verbose&format=json\nlocalhost\n\n",
            "GET\n/metrics\nlocalhost\napplication/openmetrics-text; version=1.0.0\n",
            "GET\n/ui/\nlocalhost:5557\n\n",
            "GET\n/ui/api/topics?limit=50&after=a%20b&q=%25\n127.0.0.1\n\n",
            "POST\n/ui/api/act\n[::1]:5557\n\n{\"act\":\"topic-delete\",\"topic\":\"t\",\"dry_run\":true}",
        ];
        let words = ["/ui/api/", "/ui/../", "%2e%2e", "%", "%zz", "?", "&", "=", "\"dry_run\":", "localhost", "/ui"];
        odd_bytes::Fuzz::of("http_pages", corpus).words(words).run(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let mut lines = text.splitn(5, '\n');
            let mut line = || lines.next().unwrap_or_default();
            let (method, path, host, accept, body) = (line(), line(), line(), line(), line());
            let request = Request::builder().method(method).uri(path).header("host", host).header(ACCEPT, accept);
            let request = request.body(body.to_owned()).map_err(|error| error.to_string())?;
            let answer = runtime.block_on(pages.answer(request, SocketAddr::from(([127, 0, 0, 1], 40_000))));
            let code = answer.status();
            assert_ne!(code, StatusCode::INTERNAL_SERVER_ERROR, "a panic");
            Ok("i".repeat(usize::from(code.as_u16() - 99)))
        });
    }
}
