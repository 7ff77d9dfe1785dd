//! How the API server answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use super::store::{Next, Selector, Store};
use super::{Asked, Mood};

/// How long a watch stands that does not say for how long.
const WATCH_SECONDS: u64 = 1_800;

type Body = BoxBody<Bytes, Infallible>;

/// What is shared between the test and the connections.
#[derive(Debug, Default)]
pub(super) struct Api {
    store: Mutex<Store>,
    mood: Mutex<Mood>,
    asked: Mutex<Asked>,
    token: Mutex<Option<String>>,
    connections: Mutex<Vec<AbortHandle>>,
    changed: watch::Sender<u64>,
}

/// The store, which tells every watch when it is let go.
pub(super) struct Change<'a> {
    store: MutexGuard<'a, Store>,
    changed: &'a watch::Sender<u64>,
}

/// One watch.
struct Watching {
    api: Arc<Api>,
    selector: Selector,
    version: u64,
    ends_at: Instant,
    changes: watch::Receiver<u64>,
    bookmarks: bool,
    ended: bool,
}

pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, api: Arc<Api>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let handler = Arc::clone(&api);
        let service = service_fn(move |request| answer(Arc::clone(&handler), request));
        let tls = tls.clone();
        let connection = tokio::spawn(async move {
            let http = http1::Builder::new();
            // Who asked may be gone, or may not trust us.
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
        let mut connections = api.connections.lock();
        connections.retain(|connection| !connection.is_finished());
        connections.push(connection.abort_handle());
    }
}

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mood = *api.mood.lock();
    match mood {
        Mood::Silent => pending().await,
        Mood::Status(status) => return Ok(failure(status, "as the test wants it")),
        Mood::Well => {}
    }
    let query = query_of(request.uri().query().unwrap_or_default());
    let is_watch = query.get("watch").is_some_and(|is| is == "true");
    api.note(&request, &query, is_watch);
    if !api.knows(&request) {
        return Ok(failure(StatusCode::UNAUTHORIZED, "no such token"));
    }
    let path: Vec<&str> = request.uri().path().split('/').collect();
    let [
        "",
        "apis",
        "discovery.k8s.io",
        "v1",
        "namespaces",
        namespace,
        "endpointslices",
    ] = path[..]
    else {
        return Ok(failure(StatusCode::NOT_FOUND, "no such resource"));
    };
    let label = query.get("labelSelector").map(String::as_str);
    let service = label.and_then(|label| label.strip_prefix("kubernetes.io/service-name="));
    let Some(service) = service else {
        return Ok(failure(
            StatusCode::BAD_REQUEST,
            "expected a label selector",
        ));
    };
    let selector = Selector {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
    };
    if is_watch {
        Ok(watching(api, selector, &query))
    } else {
        Ok(list(&api, &selector, &query))
    }
}

fn list(api: &Api, selector: &Selector, query: &HashMap<String, String>) -> Response<Body> {
    let limit = query.get("limit").and_then(|limit| limit.parse().ok());
    let from = query.get("continue").map_or("", String::as_str);
    let page = api
        .store
        .lock()
        .page(selector, from, limit.unwrap_or(usize::MAX));
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    if let Some((next, count)) = page.rest {
        metadata["continue"] = next.into();
        metadata["remainingItemCount"] = count.into();
    }
    let list = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSliceList",
        "metadata": metadata,
        "items": page.items,
    });
    whole(StatusCode::OK, &list)
}

fn watching(api: Arc<Api>, selector: Selector, query: &HashMap<String, String>) -> Response<Body> {
    let number = |key: &str| query.get(key).and_then(|text| text.parse().ok());
    let Some(version) = number("resourceVersion") else {
        return failure(StatusCode::BAD_REQUEST, "expected a resourceVersion");
    };
    let lasting = Duration::from_secs(number("timeoutSeconds").unwrap_or(WATCH_SECONDS));
    let watching = Watching {
        changes: api.changed.subscribe(),
        api,
        selector,
        version,
        ends_at: Instant::now() + lasting,
        bookmarks: query
            .get("allowWatchBookmarks")
            .is_some_and(|is| is == "true"),
        ended: false,
    };
    let lines = stream::unfold(watching, async |mut watching| {
        let line = watching.next().await?;
        Some((line, watching))
    });
    let frames = lines.map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn failure(status: StatusCode, message: &str) -> Response<Body> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": status.canonical_reason(),
        "code": status.as_u16(),
    });
    whole(status, &body)
}

fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The parts of a query; of what is escaped, only what label selectors need.
fn query_of(query: &str) -> HashMap<String, String> {
    let parts = query.split('&').filter_map(|part| part.split_once('='));
    let read = |text: &str| text.replace("%2F", "/").replace("%3D", "=");
    parts.map(|(key, value)| (read(key), read(value))).collect()
}

// === impl Api ===

impl Api {
    pub(super) fn store(&self) -> Change<'_> {
        Change {
            store: self.store.lock(),
            changed: &self.changed,
        }
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        *self.mood.lock() = mood;
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn expect_token(&self, token: &str) {
        *self.token.lock() = Some(format!("Bearer {token}"));
    }

    fn knows(&self, request: &Request<Incoming>) -> bool {
        let token = self.token.lock();
        let given = request.headers().get(header::AUTHORIZATION);
        token
            .as_deref()
            .is_none_or(|token| given.is_some_and(|given| given == token))
    }

    pub(super) fn cut(&self) {
        for connection in self.connections.lock().drain(..) {
            connection.abort();
        }
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked.lock().clone()
    }

    fn note(&self, request: &Request<Incoming>, query: &HashMap<String, String>, is_watch: bool) {
        let mut asked = self.asked.lock();
        let credentials = request.headers().get(header::AUTHORIZATION);
        asked.credentials = credentials.and_then(|text| Some(text.to_str().ok()?.to_owned()));
        asked.targets.push(request.uri().to_string());
        if is_watch {
            asked.watches += 1;
            let from = query.get("resourceVersion").cloned();
            asked.from.push(from.unwrap_or_default());
        } else {
            asked.lists += 1;
        }
    }

    fn is_silent(&self) -> bool {
        *self.mood.lock() == Mood::Silent
    }
}

// === impl Change ===

impl std::ops::Deref for Change<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl std::ops::DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.store
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

// === impl Watching ===

impl Watching {
    /// The next line; none when the watch has lasted as long as was asked.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if self.ended {
                return None;
            }
            self.changes.borrow_and_update();
            if !self.api.is_silent() {
                if Instant::now() >= self.ends_at {
                    return None;
                }
                let next = self.api.store.lock().after(self.version, &self.selector);
                match next {
                    Next::Event(version, line) => {
                        self.version = version;
                        if self.bookmarks || line["type"] != "BOOKMARK" {
                            return Some(line);
                        }
                        continue;
                    }
                    Next::Expired => {
                        self.ended = true;
                        return Some(expired());
                    }
                    Next::Nothing => {}
                }
            }
            let silent = self.api.is_silent();
            let end = async {
                if silent {
                    pending::<()>().await;
                }
                sleep_until(self.ends_at).await;
            };
            let end = pin!(end);
            let changed = self.changes.changed();
            tokio::select! {
                () = end => {}
                changed = changed => if changed.is_err() {
                    return None;
                },
            }
        }
    }
}

fn expired() -> Value {
    json!({
        "type": "ERROR",
        "object": {
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "message": "too old resource version",
            "reason": "Expired",
            "code": 410,
        },
    })
}
