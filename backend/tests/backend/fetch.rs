//! Versions that come as archives, by their digests.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use aegis_signing::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::integrity::{key, sign};
use crate::support::{Backend, ECHO, echo_body, until};

/// A server that gives scripted answers, one a connection, the last again and again.
struct Registry {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Registry {
    fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (
            listener.local_addr().unwrap(),
            Arc::new(AtomicUsize::new(0)),
        );
        let counted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let at = counted.fetch_add(1, Ordering::SeqCst);
                let answer = &answers[at.min(answers.len() - 1)];
                serve(stream.unwrap(), answer);
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("http://user:secret@{}/echo.tar?token=secret", self.address)
    }
}

/// An empty answer never comes.
fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    if answer.is_empty() {
        // Until the client gives up.
        let _ = stream.read(&mut byte);
    } else {
        let _ = stream.write_all(answer);
    }
}

pub(crate) fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A folder with the model, as `tar`.
pub(crate) fn archive(change: impl Fn(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.toml"), ECHO).unwrap();
    change(folder.path());
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder.path()).unwrap();
    builder.into_inner().unwrap()
}

/// Serves the model `echo`, version 7, from there; waits until it is decided on.
async fn serve_from(folder: TempDir, keys: &str, from: &str, sha256: Digest) -> (Backend, Value) {
    let text = format!(
        "listen = \"127.0.0.1:0\"\n{keys}\n[models.echo]\nversions = [\"7\"]\n\
         [models.echo.sources.7]\nfrom = \"{from}\"\nsha256 = \"{sha256}\"\n"
    );
    fs::write(folder.path().join("backend.toml"), text).unwrap();
    let backend = Backend::start_in(folder).await;
    let decided = || async {
        let health = backend.get("/health").await.json();
        health["models"][0]["reason"] != "loading"
    };
    until(decided).await;
    let health = backend.get("/health").await.json();
    let model = health["models"][0].clone();
    (backend, model)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn reason(model: &Value) -> &str {
    assert_eq!(model["loaded"], false, "{model}");
    model["reason"].as_str().unwrap()
}

#[tokio::test]
async fn a_mounted_archive_is_served_by_its_digest() {
    let (folder, bytes) = (folder(), archive(|_| {}));
    fs::write(folder.path().join("echo.tar"), &bytes).unwrap();
    let (backend, model) = serve_from(folder, "", "echo.tar", Digest::of(&bytes)).await;
    assert_eq!(model["loaded"], true, "{model}");
    assert_eq!(model["digest"], format!("sha256:{}", Digest::of(&bytes)));
    let reply = backend.infer("echo", echo_body(&[3.0])).await;
    assert_eq!(reply.output(0), [3.0, 3.0]);
    assert_eq!(reply.header("x-aegis-model-version"), Some("7"));
}

#[tokio::test]
async fn what_fails_for_a_moment_is_tried_again_and_a_restart_fetches_nothing() {
    let bytes = archive(|_| {});
    let failing = answer("503 Service Unavailable", b"later");
    // The second breaks off in the middle.
    let whole = answer("200 OK", &bytes);
    let broken = whole[..whole.len() / 2].to_vec();
    let registry = Registry::start(vec![failing, broken, whole]);
    let (backend, model) = serve_from(folder(), "", &registry.url(), Digest::of(&bytes)).await;
    assert_eq!(model["loaded"], true, "{model}");
    assert_eq!(registry.asked(), 3);
    let cache = backend.folder.path().join("model-cache");
    let cached: Vec<_> = fs::read_dir(&cache).unwrap().collect();
    assert_eq!(cached.len(), 1, "nothing is left of the attempts");

    let keys = format!("model_cache = \"{}\"", cache.display());
    let (_again, model) = serve_from(folder(), &keys, &registry.url(), Digest::of(&bytes)).await;
    assert_eq!(model["loaded"], true, "{model}");
    assert_eq!(registry.asked(), 3);

    // What somebody changed in the cache is fetched anew.
    let file = cache.join(format!("{}.tar", Digest::of(&bytes)));
    fs::write(&file, b"changed").unwrap();
    let (_again, model) = serve_from(folder(), &keys, &registry.url(), Digest::of(&bytes)).await;
    assert_eq!(model["loaded"], true, "{model}");
    assert_eq!(registry.asked(), 4);
    assert_eq!(fs::read(file).unwrap(), bytes);
}

#[tokio::test]
async fn another_archive_than_the_one_asked_for_is_not_used() {
    let (asked, other) = (
        archive(|_| {}),
        archive(|it| fs::write(it.join("x"), "").unwrap()),
    );
    let registry = Registry::start(vec![answer("200 OK", &other)]);
    let (backend, model) = serve_from(folder(), "", &registry.url(), Digest::of(&asked)).await;
    let (expected, got) = (Digest::of(&asked), Digest::of(&other));
    let words = format!("is not what was asked for: expected sha256 {expected}, got {got}");
    assert!(reason(&model).contains(&words), "{model}");
    assert!(!reason(&model).contains("secret"), "{model}");
    assert_eq!(registry.asked(), 1, "it would be the same again");
    let cached = fs::read_dir(backend.folder.path().join("model-cache")).unwrap();
    assert_eq!(cached.count(), 0);

    let folder = folder();
    fs::write(folder.path().join("echo.tar"), &other).unwrap();
    let (_backend, model) = serve_from(folder, "", "echo.tar", Digest::of(&asked)).await;
    assert!(reason(&model).contains(&words), "{model}");
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again() {
    let registry = Registry::start(vec![answer("404 Not Found", b"")]);
    let (_backend, model) = serve_from(folder(), "", &registry.url(), Digest::of(b"")).await;
    assert!(reason(&model).ends_with("/echo.tar answers 404"), "{model}");
    assert_eq!(registry.asked(), 1);
    let (_backend, model) = serve_from(folder(), "", "nowhere.tar", Digest::of(b"")).await;
    assert!(reason(&model).contains("nowhere.tar"), "{model}");
}

#[tokio::test]
async fn a_fetch_is_bounded_in_bytes_and_in_time() {
    let bytes = archive(|it| fs::write(it.join("weights"), [7; 10_000]).unwrap());
    let limit = "max_model_bytes = 5000";
    let chunked = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    for answer in [answer("200 OK", &bytes), [&chunked[..], &bytes].concat()] {
        let registry = Registry::start(vec![answer]);
        let (_backend, model) =
            serve_from(folder(), limit, &registry.url(), Digest::of(&bytes)).await;
        assert!(
            reason(&model).contains("more than max_model_bytes, which is 5000"),
            "{model}"
        );
        assert_eq!(registry.asked(), 1);
    }
    let registry = Registry::start(vec![Vec::new()]);
    let limit = "fetch_timeout_ms = 200";
    let (_backend, model) = serve_from(folder(), limit, &registry.url(), Digest::of(&bytes)).await;
    assert!(
        reason(&model).contains("was not there within 200 ms"),
        "{model}"
    );
}

#[tokio::test]
async fn an_archive_is_verified_like_a_folder() {
    let required = "verify = \"required\"\ntrusted_keys = [\"team.pub\"]";
    let signed = archive(|it| sign(it, 7));
    let unsigned = archive(|_| {});
    let changed = archive(|it| {
        sign(it, 7);
        fs::write(it.join("model.toml"), format!("{ECHO}# changed\n")).unwrap();
    });
    let cases = [
        (&signed, None),
        (&unsigned, Some("not verified: not signed")),
        (&changed, Some("model.toml is not as it was signed")),
    ];
    for (bytes, words) in cases {
        let folder = folder();
        fs::write(
            folder.path().join("team.pub"),
            key(7).public().unwrap().to_pem().unwrap(),
        )
        .unwrap();
        fs::write(folder.path().join("echo.tar"), bytes).unwrap();
        let (_backend, model) = serve_from(folder, required, "echo.tar", Digest::of(bytes)).await;
        match words {
            None => assert_eq!(model["signer"], "team", "{model}"),
            Some(words) => assert!(reason(&model).contains(words), "{model}"),
        }
    }
}

#[tokio::test]
async fn an_archive_that_tricks_is_not_used() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "model.pt", "/etc/passwd")
        .unwrap();
    let link = builder.into_inner().unwrap();
    for (bytes, words) in [
        (link, "neither a plain file nor a folder"),
        (archive(|_| {})[..700].to_vec(), "tar"),
    ] {
        let folder = folder();
        fs::write(folder.path().join("echo.tar"), &bytes).unwrap();
        let (_backend, model) = serve_from(folder, "", "echo.tar", Digest::of(&bytes)).await;
        assert!(reason(&model).contains(words), "{model}");
    }
}

#[tokio::test]
async fn a_server_that_stops_waits_for_no_other_attempt() {
    let registry = Registry::start(vec![answer("503 Service Unavailable", b"")]);
    let folder = folder();
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[models.echo]\nversions = [\"7\"]\n[models.echo.sources.7]\n\
         from = \"{}\"\nsha256 = \"{}\"\n",
        registry.url(),
        Digest::of(b"")
    );
    fs::write(folder.path().join("backend.toml"), text).unwrap();
    let backend = Backend::start_in(folder).await;
    until(|| async { registry.asked() == 1 }).await;
    backend.app.models.control().close();
    let stopped = || async {
        let health = backend.get("/health").await.json();
        health["models"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("the server stops")
    };
    until(stopped).await;
    assert!(registry.asked() <= 2);
}
