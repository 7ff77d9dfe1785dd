//! Asks a real API server, by `kube-client`: as the pod that the proxy runs in, or with a
//! kubeconfig.
//!
//! The client is built when it is first needed, and as long as it cannot be (the service
//! account is not mounted yet) every try fails and the next one builds it again. It reads
//! the pod's token and the cluster's certificates anew within a minute of a rotation. Where
//! the API server does not know who asks (401), the client is built anew as well, so that
//! whatever was replaced is read. A program that makes the credentials may take longer than
//! one try has: the next ones wait for it, and start no other.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::{
    Client, Config as ClientConfig,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
    core::{
        ObjectList, Request, Resource, Status,
        params::{ListParams, WatchParams},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex, task::JoinHandle, time::timeout};

use super::{
    Cluster, Events, Listing, WatchError, object,
    stream::{Lines, error_of, shortened, text_of},
};
use crate::config::{Kubernetes, ServiceName};

/// Slices that one answer lists.
const PAGE: u32 = 100;
/// Slices after which no further page is asked for: more are not kept.
const ENOUGH: usize = 1_000;
/// The longest answer.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// The longest answer that says what is wrong.
const MAX_STATUS_BYTES: usize = 64 * 1024;
/// The label by which a slice says whose it is.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Where a pod is told of the API server.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// The API server of the configuration, or else of the cluster that the proxy is in.
pub struct ApiServer {
    settings: Kubernetes,
    slot: Mutex<Slot>,
}

/// The client, once it is built.
#[derive(Default)]
struct Slot {
    client: Option<Client>,
    /// What is building it, whoever waits for that.
    building: Option<JoinHandle<Result<Client, WatchError>>>,
}

// === impl ApiServer ===

impl ApiServer {
    /// Will ask as the configuration says.
    #[must_use]
    pub fn new(settings: &Kubernetes) -> Self {
        Self {
            settings: settings.clone(),
            slot: Mutex::default(),
        }
    }

    async fn client(&self) -> Result<Client, WatchError> {
        let mut slot = self.slot.lock().await;
        if let Some(client) = &slot.client {
            return Ok(client.clone());
        }
        let settings = &self.settings;
        let start = || tokio::spawn(build(settings.clone()));
        // Whoever gives up here leaves it running, for the next one to find.
        let built = slot.building.get_or_insert_with(start).await;
        slot.building = None;
        let client = built.unwrap_or_else(|error| Err(no_cluster(&error)))?;
        Ok(slot.client.insert(client).clone())
    }

    /// Sends a request, and takes the head of an answer that is no error.
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<Response<Body>, WatchError> {
        let client = self.client().await?;
        let answer = client.send(request.map(Body::from)).await;
        let answer = answer.map_err(|error| WatchError::Unreachable(text_of(&error)))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.slot.lock().await.client = None;
        }
        Err(refusal(answer).await)
    }

    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, WatchError>>,
    ) -> Result<T, WatchError> {
        let asked = timeout(self.settings.api_timeout, asking).await;
        asked.unwrap_or(Err(WatchError::Timeout))
    }

    /// What asks for slices in the namespace of a service.
    async fn slices_near(&self, service: &ServiceName) -> Result<Request, WatchError> {
        let namespace = match &service.namespace {
            Some(namespace) => namespace.to_string(),
            None => self.client().await?.default_namespace().to_owned(),
        };
        Ok(Request::new(EndpointSlice::url_path(&(), Some(&namespace))))
    }

    async fn page(
        &self,
        service: &ServiceName,
        token: Option<String>,
    ) -> Result<ObjectList<EndpointSlice>, WatchError> {
        let params = ListParams {
            label_selector: Some(selector(service)),
            limit: Some(PAGE),
            continue_token: token,
            ..ListParams::default()
        };
        let request = self.slices_near(service).await?.list(&params);
        let request = request.map_err(|error| no_cluster(&error))?;
        read(self.send(request).await?).await
    }
}

#[async_trait]
impl Cluster for ApiServer {
    async fn list(&self, service: &ServiceName) -> Result<Listing, WatchError> {
        let mut listing = Listing::default();
        let mut token = None;
        loop {
            let page = self.in_time(self.page(service, token)).await?;
            let objects = page.items.into_iter();
            listing.slices.extend(objects.map(object::slice));
            listing.version = page.metadata.resource_version.unwrap_or_default();
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if listing.slices.len() >= ENOUGH && token.is_some() {
                let more = page.metadata.remaining_item_count.unwrap_or(1);
                listing.left_out = usize::try_from(more).unwrap_or(1);
                token = None;
            }
            if token.is_none() {
                break;
            }
        }
        if listing.version.is_empty() {
            let message = "a list has no resourceVersion".to_owned();
            return Err(WatchError::Unreadable(message));
        }
        Ok(listing)
    }

    async fn watch(
        &self,
        service: &ServiceName,
        version: &str,
        lasting: Duration,
    ) -> Result<Box<dyn Events>, WatchError> {
        let seconds = lasting.as_secs_f64().ceil().max(1.0);
        let params = WatchParams {
            label_selector: Some(selector(service)),
            // Bounded by the configuration, far below.
            timeout: Some(
                Duration::from_secs_f64(seconds)
                    .as_secs()
                    .try_into()
                    .unwrap_or(1),
            ),
            bookmarks: true,
            ..WatchParams::default()
        };
        let asking = async {
            let request = self.slices_near(service).await?.watch(&params, version);
            let request = request.map_err(|error| no_cluster(&error))?;
            self.send(request).await
        };
        let answer = self.in_time(asking).await?;
        Ok(Box::new(Lines::new(answer.into_body())))
    }
}

fn selector(service: &ServiceName) -> String {
    format!("{SERVICE_LABEL}={}", service.name)
}

async fn build(settings: Kubernetes) -> Result<Client, WatchError> {
    // Whatever else is linked in, this is the one; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = read_config(settings.kubeconfig.as_deref()).await?;
    config.connect_timeout = Some(settings.api_timeout);
    // Failures are counted and waited out here.
    config.default_retry = false;
    // A kubeconfig may name a program that makes tokens, which is run right here.
    let built = tokio::task::spawn_blocking(|| Client::try_from(config)).await;
    match built {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(no_cluster(&error)),
        Err(error) => Err(no_cluster(&error)),
    }
}

/// Where the API server is, and with what credentials it is asked.
async fn read_config(kubeconfig: Option<&Path>) -> Result<ClientConfig, WatchError> {
    let options = KubeConfigOptions::default();
    if let Some(path) = kubeconfig {
        let read = Kubeconfig::read_from(path).map_err(|error| no_cluster(&error))?;
        let config = ClientConfig::from_custom_kubeconfig(read, &options).await;
        return config.map_err(|error| no_cluster(&error));
    }
    if std::env::var_os(IN_CLUSTER).is_some() {
        return ClientConfig::incluster().map_err(|error| no_cluster(&error));
    }
    let config = ClientConfig::from_kubeconfig(&options).await;
    config.map_err(|error| {
        let error = text_of(&error);
        WatchError::NoCluster(format!("not in a pod, and no kubeconfig: {error}"))
    })
}

fn no_cluster(error: &dyn std::error::Error) -> WatchError {
    WatchError::NoCluster(text_of(error))
}

/// Reads an answer's body whole.
async fn read<T: DeserializeOwned>(answer: Response<Body>) -> Result<T, WatchError> {
    let body = Limited::new(answer.into_body(), MAX_BODY_BYTES)
        .collect()
        .await;
    let body = body.map_err(|error| WatchError::Unreachable(text_of(&*error)))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| WatchError::Unreadable(text_of(&error)))
}

/// What an answer that is an error says.
async fn refusal(answer: Response<Body>) -> WatchError {
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_STATUS_BYTES)
        .collect()
        .await;
    let body = body
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        // A proxy in between has answered, with a page of its own.
        Status {
            message: shortened(&String::from_utf8_lossy(&body)),
            ..Status::default()
        }
    });
    error_of(code, &status)
}
