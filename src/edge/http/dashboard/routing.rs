//! Which request goes where, and what every answer says about itself to browsers.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, LOCATION, REFERRER_POLICY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::edge::admin::ProcessFacts;
use crate::edge::http::dashboard::actions::{Given, act};
use crate::edge::http::dashboard::assets;
use crate::edge::http::dashboard::body;
use crate::edge::http::dashboard::feed::{Feed, LISTENERS_MAX};
use crate::edge::http::dashboard::gate::{Access, Gate};
use crate::edge::http::dashboard::query::Query;
use crate::edge::http::dashboard::reads;
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::edge::http::dashboard::timeline::Timeline;
use crate::edge::http::dashboard::work;
use crate::edge::http::page::{self, Page};
use crate::edge::http::tables::Tables;
use crate::node::Node;

/// Reads, and actions, under way at once.
const READS_MAX: usize = 8;
const ACTIONS_MAX: usize = 2;

/// For a browser: scripts, styles and requests from here only, nothing in frames, nothing written into the page.
const POLICY: [(HeaderName, &str); 5] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'",
    ),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (REFERRER_POLICY, "no-referrer"),
];

/// The dashboard of a node, which may still be starting.
pub(in crate::edge::http) struct Dashboard {
    gate: Gate,
    site: OnceLock<Arc<Site>>,
    timeline: Arc<Timeline>,
    watching: OnceLock<AbortOnDropHandle<()>>,
    feed: Arc<Feed>,
    tables: Arc<Tables>,
    reads: Semaphore,
    actions: Semaphore,
}

impl Dashboard {
    pub fn new(access: Access, tables: Arc<Tables>) -> Self {
        let timeline = Arc::<Timeline>::default();
        Self {
            gate: Gate::new(access),
            site: OnceLock::new(),
            feed: Arc::new(Feed::new(timeline.clone())),
            timeline,
            watching: OnceLock::new(),
            tables,
            reads: Semaphore::new(READS_MAX),
            actions: Semaphore::new(ACTIONS_MAX),
        }
    }

    /// From now on there is a node; to be called on a runtime.
    pub fn set_node(&self, node: Arc<Node>, facts: ProcessFacts) {
        let watching = tokio::spawn(self.timeline.clone().watch(node.clone()));
        // Both are set once.
        let _ = self.watching.set(AbortOnDropHandle::new(watching));
        let _ = self.site.set(Arc::new(Site::new(node, facts)));
    }

    /// Answers a request for a path that is `/ui` or below it.
    pub async fn answer<B>(&self, request: &mut Request<B>, peer: SocketAddr) -> Response<Page>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut response = self.route(request, peer).await.unwrap_or_else(|refused| refused.page());
        let policy = POLICY.map(|(name, value)| (name, HeaderValue::from_static(value)));
        response.headers_mut().extend(HeaderMap::from_iter(policy));
        response
    }

    async fn route<B>(&self, request: &mut Request<B>, peer: SocketAddr) -> Result<Response<Page>, Refused>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.gate.admits(peer.ip(), request.headers())?;
        let Some(path) = request.uri().path().strip_prefix("/ui/") else {
            let mut page = page::text(StatusCode::PERMANENT_REDIRECT, "/ui/");
            page.headers_mut().insert(LOCATION, HeaderValue::from_static("/ui/"));
            return Ok(page);
        };
        if let Some(name) = path.strip_prefix("api/do/") {
            let name = name.to_owned();
            return self.act(&name, request, peer).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(page::not_allowed());
        }
        match path.strip_prefix("api/") {
            Some(name) => self.read(name, &Query::parse(request.uri().query())).await,
            None => {
                let (_, kind, bytes) =
                    assets::find(path).ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "there is no such file"))?;
                Ok(page::file(kind, bytes))
            }
        }
    }

    fn site(&self) -> Result<&Arc<Site>, Refused> {
        let starting =
            || Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the node is starting: its log says what it waits for");
        self.site.get().ok_or_else(starting)
    }

    async fn act<B>(&self, name: &str, request: &mut Request<B>, peer: SocketAddr) -> Result<Response<Page>, Refused>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if *request.method() != Method::POST {
            return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "an action is a POST"));
        }
        self.gate.admits_action(request.headers())?;
        let _acting = self.actions.try_acquire().map_err(|_| {
            let text = format!("{ACTIONS_MAX} actions are under way already; try again in a moment");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })?;
        let given = Given::parse(&body::read(request.body_mut()).await?, peer)?;
        let done = act(self.site()?, name, &given).await?;
        Ok(page::json(StatusCode::OK, &done))
    }

    async fn read(&self, name: &str, query: &Query) -> Result<Response<Page>, Refused> {
        let site = self.site()?;
        let busy = |what: String| Refused::new(StatusCode::SERVICE_UNAVAILABLE, what);
        let value = match name {
            "live" => {
                let (frames, permit) = self.feed.listen(site).ok_or_else(|| {
                    busy(format!(
                        "{LISTENERS_MAX} pages are open at this node already; close one, or look at another node"
                    ))
                })?;
                return Ok(page::stream("text/event-stream", frames, permit));
            }
            "session" => {
                let settings = site.node.settings();
                json!({
                    "token": self.gate.token(),
                    "is_open": self.gate.is_open(),
                    "node": settings.name.to_string(),
                    "cluster": settings.cluster,
                    "broker": settings.broker_name,
                    "version": env!("CARGO_PKG_VERSION"),
                })
            }
            "leaders" => json!({ "changes": self.timeline.changes() }),
            _ => {
                let _reading = self
                    .reads
                    .try_acquire()
                    .map_err(|_| busy(format!("{READS_MAX} requests are under way already; try again in a moment")))?;
                let (read, worked) = work::timed(async {
                    let value = reads::read(site, &self.tables, name, query).await?;
                    Ok::<_, Refused>(page::json(StatusCode::OK, &value))
                })
                .await;
                let mut response = read?;
                work::note(&mut response, worked);
                return Ok(response);
            }
        };
        Ok(page::json(StatusCode::OK, &value))
    }
}
