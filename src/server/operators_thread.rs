//! The thread on which the requests of operators are served: what they look at may take long, and the thread that takes their
//! requests is Raft's on small machines (D43, D232).

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::env::panic::contained;

/// Requests that are served at once; others are told to come later.
const REQUESTS_MAX: usize = 64;

/// The thread; it ends when this is dropped.
pub(super) struct OperatorsThread {
    runtime: Handle,
    room: Arc<Semaphore>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl OperatorsThread {
    /// Starts it with a runtime of its own.
    pub fn start(runtime: Runtime) -> io::Result<Self> {
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        let serving = move || {
            runtime.block_on(stopped.cancelled());
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("operators".to_owned()).spawn(serving)?;
        Ok(Self { runtime: handle, room: Arc::new(Semaphore::new(REQUESTS_MAX)), stop, thread: Some(thread) })
    }

    /// The service, served on this thread.
    pub fn serves<S>(&self, service: S) -> Apart<S> {
        Apart { service, runtime: self.runtime.clone(), room: self.room.clone() }
    }
}

impl Drop for OperatorsThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It panics only if its runtime does, and then the process has ended.
            let _ = thread.join();
        }
    }
}

/// A service whose requests are served on another thread.
#[derive(Clone)]
pub(super) struct Apart<S> {
    service: S,
    runtime: Handle,
    room: Arc<Semaphore>,
}

impl<S: NamedService> NamedService for Apart<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Apart<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            let busy = format!("{REQUESTS_MAX} requests of operators are served by this node; try again in a moment");
            return async { Ok(Status::resource_exhausted(busy).into_http()) }.boxed();
        };
        let mut service = self.service.clone();
        let serving = self.runtime.spawn(async move {
            let _place = place;
            contained(service.call(request)).await
        });
        // Who does not wait any more ends it.
        let serving = AbortOnDropHandle::new(serving);
        async move {
            match serving.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Ok(Status::internal("a bug in raftmq: the log of this node says more").into_http()),
                Err(_) => Ok(Status::unavailable("this node stops").into_http()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::env::runtime::of_one_thread;

    /// Answers with the name of the thread that it is served on, once it may.
    #[derive(Clone)]
    struct Where(Arc<Semaphore>);

    impl Service<Request<Body>> for Where {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let may = self.0.clone();
            async move {
                let _turn = may.acquire_owned().await;
                let mut answer = Response::new(Body::empty());
                let thread = std::thread::current().name().unwrap_or("none").to_owned();
                answer.headers_mut().insert("thread", thread.parse().unwrap());
                Ok(answer)
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn requests_of_operators_are_served_on_their_thread_and_bounded() {
        let operators = OperatorsThread::start(of_one_thread().unwrap()).unwrap();
        let may = Arc::new(Semaphore::new(0));
        let service = operators.serves(Where(may.clone()));
        let ask = || tokio::spawn(service.clone().oneshot(Request::new(Body::empty())));
        let asked: Vec<_> = (0..REQUESTS_MAX).map(|_| ask()).collect();
        while operators.room.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = ask().await.unwrap().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
        may.add_permits(REQUESTS_MAX);
        for asked in asked {
            assert_eq!(asked.await.unwrap().unwrap().headers()["thread"], "operators");
        }
    }
}
