//! A small model server whose every answer the test decides.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_protocol::{InferRequest, InferResponse, NamedTensor, Tensor, headers};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An answer, or none: then the connection is closed.
pub(crate) type Answer = Option<Response<Full<Bytes>>>;

/// The header that says who asks.
pub(crate) const USER: &str = "x-user";

type Behaviour = dyn Fn(Asked) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// A request, read.
pub(crate) struct Asked {
    /// How many came before it, on all connections.
    pub(crate) number: u64,
    /// Its path.
    pub(crate) path: String,
    /// The one feature of its example.
    pub(crate) digit: f32,
    /// Who asks, where it says.
    pub(crate) user: Option<String>,
}

/// A server on a free port, for as long as this lives.
pub(crate) struct Server {
    pub(crate) url: String,
    counts: Arc<Counts>,
    accept: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
}

// === impl Server ===

impl Server {
    pub(crate) async fn start<F, A>(behaviour: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let counts = Arc::new(Counts::default());
        let behaviour: Arc<Behaviour> = Arc::new(move |asked| Box::pin(behaviour(asked)));
        let accept = tokio::spawn(accept(listener, Arc::clone(&counts), behaviour));
        Self {
            url,
            counts,
            accept,
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Connections that are not closed.
    pub(crate) fn open(&self) -> u64 {
        self.counts.open.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>, behaviour: Arc<Behaviour>) {
    while let Ok((stream, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::SeqCst);
        counts.open.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(stream, Arc::clone(&counts), Arc::clone(&behaviour)));
    }
}

async fn serve(stream: TcpStream, counts: Arc<Counts>, behaviour: Arc<Behaviour>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (counts, behaviour) = (Arc::clone(&counts), Arc::clone(&behaviour));
        async move {
            if request.method() == http::Method::GET {
                return Ok(metadata());
            }
            let number = counts.requests.fetch_add(1, Ordering::SeqCst);
            let path = request.uri().path().to_owned();
            let user = request.headers().get(USER);
            let user = user.map(|user| String::from_utf8_lossy(user.as_bytes()).into_owned());
            let body = request
                .into_body()
                .collect()
                .await
                .expect("a whole body")
                .to_bytes();
            let request = InferRequest::from_json(&body).expect("a request of the protocol");
            let image = request.input("image").expect("an input `image`");
            let digit = image.as_f32().expect("floats")[0];
            let answer = behaviour(Asked {
                number,
                path,
                digit,
                user,
            })
            .await;
            answer.ok_or_else(|| std::io::Error::other("closed by the test"))
        }
    });
    // An error is how a connection is closed without an answer.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    counts.open.fetch_sub(1, Ordering::SeqCst);
}

/// What the model takes: one feature for each row.
fn metadata() -> Response<Full<Bytes>> {
    let text = r#"{"name": "digits", "platform": "test",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1]}],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}]}"#;
    Response::new(Full::from(text))
}

/// A 200 with that label, by version 1, split.
pub(crate) fn label(label: i64) -> Response<Full<Bytes>> {
    let answer = InferResponse {
        model_name: "digits".to_owned(),
        outputs: vec![NamedTensor::new(
            "label",
            Tensor::from_i64([1], &[label]).expect("one"),
        )],
        ..InferResponse::default()
    };
    let mut response = Response::new(Full::from(answer.to_json().expect("whole numbers")));
    response
        .headers_mut()
        .insert(headers::MODEL_VERSION, "1".parse().expect("a value"));
    response
        .headers_mut()
        .insert(headers::ROUTE, "split".parse().expect("a value"));
    response
}

/// The right answer to a request.
#[expect(clippy::cast_possible_truncation, reason = "the examples are digits")]
pub(crate) fn right(asked: &Asked) -> Response<Full<Bytes>> {
    label(asked.digit as i64)
}

/// A refusal.
pub(crate) fn refusal(status: StatusCode, reason: &str, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_owned()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(headers::REASON, reason.parse().expect("a value"));
    response
}
