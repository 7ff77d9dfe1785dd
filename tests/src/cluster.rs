//! A Kubernetes API server inside the test, which knows one kind of object: `EndpointSlice`s.
//!
//! It lists (by label, in pages), watches (from a `resourceVersion`, with bookmarks, until
//! `timeoutSeconds`), and says 410 where the events that were missed are forgotten. On cue it
//! answers errors, falls silent, cuts its connections, or closes its port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod answer;
mod store;
mod tls;

use answer::{Api, serve};
use tls::Tls;

/// A token that every request may come with.
const TOKEN: &str = "a-token";

/// A running API server; it and its connections end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    address: SocketAddr,
    api: Arc<Api>,
    tls: Option<Tls>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What the API server does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    #[default]
    Well,
    /// It answers with this status, and ends no watch that stands.
    Status(StatusCode),
    /// It answers nothing, and its watches neither tell nor end.
    Silent,
}

/// How often something was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Lists, by page.
    pub lists: u64,
    /// Watches.
    pub watches: u64,
    /// The `resourceVersion`s that watches went on from.
    pub from: Vec<String>,
    /// Paths, each with its query.
    pub targets: Vec<String>,
    /// The `authorization` of the last request.
    pub credentials: Option<String>,
}

/// A member of a slice.
#[derive(Clone, Debug)]
pub struct PodState {
    /// Its address.
    pub ip: std::net::IpAddr,
    /// `ready`, `serving` and `terminating`; none leaves all out.
    pub conditions: Option<(bool, bool, bool)>,
    /// Where it runs.
    pub zone: Option<&'static str>,
}

// === impl Cluster ===

impl Cluster {
    /// Starts one without any object.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// Starts one that speaks TLS, as those of real clusters do, with a certificate of its own.
    ///
    /// # Errors
    ///
    /// When there is no free port, or no certificate to be had.
    pub async fn start_secure() -> Result<Self> {
        Self::start_with(Some(Tls::new()?)).await
    }

    async fn start_with(tls: Option<Tls>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let api = Arc::<Api>::default();
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let accepting = tokio::spawn(serve(listener, acceptor, Arc::clone(&api)));
        Ok(Self {
            address,
            api,
            tls,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// Writes a kubeconfig that leads here, with a token in a file of its own beside it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_kubeconfig(&self, folder: &Path, namespace: &str) -> Result<PathBuf> {
        let token = folder.join("token");
        std::fs::write(&token, TOKEN)?;
        let path = folder.join("kubeconfig");
        let (scheme, authority) = match &self.tls {
            None => ("http", None),
            Some(tls) => ("https", Some(tls.authority(folder)?)),
        };
        let server = format!("{scheme}://{}", self.address);
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "test", "user": {"tokenFile": token}}],
            "contexts": [{
                "name": "test",
                "context": {"cluster": "test", "user": "test", "namespace": namespace},
            }],
        });
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Creates or replaces a slice of a service.
    pub fn set_slice(
        &self,
        (namespace, service): (&str, &str),
        name: &str,
        port: (&str, u16),
        pods: &[PodState],
    ) {
        let object = slice((namespace, service), name, port, pods);
        self.api.store().put(namespace, name, object);
    }

    /// Deletes a slice.
    pub fn remove_slice(&self, namespace: &str, name: &str) {
        self.api.store().delete(namespace, name);
    }

    /// Tells every watch a version that nothing has changed by.
    pub fn bookmark(&self) {
        self.api.store().bookmark();
    }

    /// Forgets what happened so far: who goes on from a version before has to list.
    pub fn compact(&self) {
        self.api.store().compact();
    }

    /// What it does with requests from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.api.set_mood(mood);
    }

    /// Closes every connection, as a balancer in front does when it restarts.
    pub fn cut(&self) {
        self.api.cut();
    }

    /// Closes the port and every connection.
    pub async fn stop(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // Once the task is gone, so is the listener: the next connection is refused.
            let _ = accepting.await;
        }
        self.cut();
    }

    /// Opens the port again; the objects are those of before.
    ///
    /// # Errors
    ///
    /// When somebody else has taken it.
    pub async fn start_again(&self) -> Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        let acceptor = self.tls.as_ref().map(Tls::acceptor);
        let accepting = tokio::spawn(serve(listener, acceptor, Arc::clone(&self.api)));
        *self.accepting.lock() = Some(accepting);
        Ok(())
    }

    /// From now on it knows this token alone, which is written beside a kubeconfig.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn rotate_token(&self, folder: &Path, token: &str) -> Result<()> {
        self.api.expect_token(token);
        Ok(std::fs::write(folder.join("token"), token)?)
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Asked {
        self.api.asked()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().take() {
            accepting.abort();
        }
        self.cut();
    }
}

// === impl PodState ===

impl PodState {
    /// One that is ready.
    #[must_use]
    pub fn ready(address: SocketAddr) -> Self {
        Self {
            ip: address.ip(),
            conditions: Some((true, true, false)),
            zone: None,
        }
    }

    /// One that is going away, and serves as long.
    #[must_use]
    pub fn leaving(address: SocketAddr) -> Self {
        Self {
            conditions: Some((false, true, true)),
            ..Self::ready(address)
        }
    }

    fn json(&self) -> Value {
        let conditions = self.conditions.map(|(ready, serving, terminating)| {
            json!({"ready": ready, "serving": serving, "terminating": terminating})
        });
        json!({
            "addresses": [self.ip],
            "conditions": conditions.unwrap_or(json!({})),
            "targetRef": {"kind": "Pod", "name": self.ip.to_string(), "uid": self.ip.to_string()},
            "zone": self.zone,
        })
    }
}

/// A slice as the API has it; its version comes with the store.
fn slice(
    (namespace, service): (&str, &str),
    name: &str,
    (port, number): (&str, u16),
    pods: &[PodState],
) -> Value {
    let is_six = pods.first().is_some_and(|pod| pod.ip.is_ipv6());
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": if is_six { "IPv6" } else { "IPv4" },
        "ports": [{"name": port, "port": number, "protocol": "TCP"}],
        "endpoints": pods.iter().map(PodState::json).collect::<Vec<_>>(),
    })
}
