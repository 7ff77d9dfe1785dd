//! A server in this process, on a free port, with models that are written for the test.

use std::fmt::Write;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_backend::app::App;
use aegis_backend::config::Config;
use aegis_backend::loader::Loader;
use aegis_backend::server::{Drained, Server};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Far more than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Echoes `x`, FP32 `[-1, 2]`, as `y`.
pub(crate) const ECHO: &str = r#"
platform = "scripted"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 2]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 2]
[scripted]
answer = "identity"
"#;

/// What differs from the defaults.
pub(crate) struct Setup<'a> {
    /// Keys of backend.toml, before its tables.
    pub(crate) keys: &'a str,
    /// Models by name, with the text of their model.toml; each in the versions 1 and 2.
    pub(crate) models: &'a [(&'a str, &'a str)],
}

/// A server that runs.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    pub(crate) stop: mpsc::Sender<()>,
    pub(crate) ended: JoinHandle<Drained>,
    pub(crate) folder: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection that is kept.
pub(crate) struct Client(SendRequest<Full<Bytes>>);

// === impl Setup ===

impl Setup<'_> {
    /// Writes the files.
    pub(crate) fn write(&self, folder: &Path) {
        let mut config = format!("listen = \"127.0.0.1:0\"\n{}\n", self.keys);
        for (name, model) in self.models {
            writeln!(config, "[models.{name}]\nversions = [\"1\", \"2\"]").unwrap();
            let folder = folder.join("models").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("model.toml"), model).unwrap();
        }
        std::fs::write(folder.join("backend.toml"), config).unwrap();
    }

    /// Starts a server, and does not wait until it is ready.
    pub(crate) async fn start(&self) -> Backend {
        let backend = self.listen().await;
        backend.load();
        backend
    }

    /// Starts a server that loads nothing.
    pub(crate) async fn listen(&self) -> Backend {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        let text = std::fs::read_to_string(folder.path().join("backend.toml")).unwrap();
        Backend::listen(&text, folder).await
    }
}

// === impl Backend ===

impl Backend {
    /// Starts a server on what was written into this folder, and does not wait until it is ready.
    pub(crate) async fn start_in(folder: TempDir) -> Self {
        let text = std::fs::read_to_string(folder.path().join("backend.toml")).unwrap();
        let backend = Self::listen(&text, folder).await;
        backend.load();
        backend
    }

    /// Starts a server from the text of its configuration, which lies in this folder.
    async fn listen(text: &str, folder: TempDir) -> Self {
        let config = Config::parse("backend.toml", text, folder.path()).unwrap();
        let app = App::open(&config);
        let server = Server::bind(config.listen, Arc::clone(&app)).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stops) = mpsc::channel(1);
        let ended = tokio::spawn(server.run(config.drain, stops));
        Self {
            address,
            app,
            stop,
            ended,
            folder,
        }
    }

    /// Loads the models in the background.
    pub(crate) fn load(&self) {
        Loader::start(Arc::clone(&self.app.models)).unwrap();
    }

    /// A server with these models, ready.
    pub(crate) async fn ready(models: &[(&str, &str)]) -> Self {
        Self::ready_with("", models).await
    }

    /// A server with these keys in backend.toml and these models, ready. It drains without delay.
    pub(crate) async fn ready_with(keys: &str, models: &[(&str, &str)]) -> Self {
        Self::ready_with_drain(&format!("drain_delay_ms = 0\n{keys}"), models).await
    }

    /// As [`ready_with`](Self::ready_with), where the keys say how it drains.
    pub(crate) async fn ready_with_drain(keys: &str, models: &[(&str, &str)]) -> Self {
        Setup { keys, models }.start().await.when_ready().await
    }

    /// A server whose models lie elsewhere, as the keys and tables say.
    #[cfg(feature = "torch")]
    pub(crate) async fn in_place(keys: &str, tables: &str) -> Self {
        let text = format!("listen = \"127.0.0.1:0\"\n{keys}\n{tables}");
        let backend = Self::listen(&text, tempfile::tempdir().unwrap()).await;
        backend.load();
        backend
    }

    /// Waits until every model is loaded.
    pub(crate) async fn when_ready(self) -> Self {
        until(|| async { self.get("/v2/health/ready").await.status == 200 }).await;
        self
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Full::default()).unwrap())
            .await
    }

    /// Posts a JSON body.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        let body = Full::new(body.into());
        self.send(Request::post(path).body(body).unwrap()).await
    }

    /// Infers with a JSON body.
    pub(crate) async fn infer(&self, model: &str, body: impl Into<Bytes>) -> Reply {
        self.send(infer(model, body)).await
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        Client::connect(self.address).await.send(request).await
    }

    /// The value of a series, by its name and labels as the text format shows them.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
            .parse()
            .unwrap()
    }
}

// === impl Client ===

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Reply {
        self.try_send(request).await.expect("an answer")
    }

    pub(crate) async fn try_send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> hyper::Result<Reply> {
        request
            .headers_mut()
            .entry("host")
            .or_insert("test".parse().unwrap());
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}

// === impl Reply ===

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// The text of a refusal.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }

    /// The data of the nth output.
    #[track_caller]
    pub(crate) fn output(&self, at: usize) -> Vec<f64> {
        assert_eq!(self.status, 200, "{}", self.text());
        let json = self.json();
        let data = json["outputs"][at]["data"].as_array().unwrap();
        data.iter().map(|value| value.as_f64().unwrap()).collect()
    }
}

/// A request for an inference.
pub(crate) fn infer(model: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("/v2/models/{model}/infer"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// A body for [`ECHO`]: rows of two equal numbers.
pub(crate) fn echo_body(rows: &[f64]) -> String {
    let data: Vec<f64> = rows.iter().flat_map(|value| [*value, *value]).collect();
    let shape = [rows.len(), 2];
    serde_json::json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": shape, "data": data }]
    })
    .to_string()
}

/// Writes bytes as they are, and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(LONG, read)
        .await
        .expect("the server closes")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

/// Waits for a condition.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("the condition comes true");
}
