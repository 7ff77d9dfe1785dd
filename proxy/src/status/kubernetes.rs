//! What the proxy says of Kubernetes services.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    config::{Place, Version},
    kubernetes::{Book, ServiceStatus as Known},
};

/// The services whose pods are endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KubernetesStatus {
    /// Every service, by `namespace/name`.
    pub services: BTreeMap<String, ServiceStatus>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Whether it was ever listed.
    pub listed: bool,
    /// Its `EndpointSlice`s.
    pub slices: usize,
    /// Those that are not used, because there are too many.
    pub slices_left_out: usize,
    /// Pods that are ready.
    pub ready: usize,
    /// Pods that are not.
    pub unready: usize,
    /// Pods that are going away.
    pub terminating: usize,
    /// The ports of its pods, as `name=number`.
    pub ports: Vec<String>,
    /// How long ago the API server last told anything about it; none before the first
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds_ago: Option<f64>,
    /// How long no watch has stood; none while all is well. What is known serves on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_for_seconds: Option<f64>,
    /// Tries that failed since.
    pub failures: u32,
    /// Why the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The service that a version is served by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePool {
    /// The service and its port, as `namespace/name:port`.
    pub service: String,
    /// Why none of its pods is an endpoint, where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

// === impl ServiceStatus ===

impl ServiceStatus {
    /// Why nothing is known of it, where nothing ever was.
    pub(super) fn unlisted_because(&self, name: &str) -> Option<String> {
        if self.listed {
            return None;
        }
        let why = self.error.as_deref().unwrap_or("no answer yet");
        Some(format!("service {name} was never listed ({why})"))
    }
}

impl From<&Known> for ServiceStatus {
    fn from(service: &Known) -> Self {
        Self {
            listed: service.listed,
            slices: service.slices,
            slices_left_out: service.slices_left_out,
            ready: service.ready,
            unready: service.unready,
            terminating: service.terminating,
            ports: service.ports.clone(),
            heard_seconds_ago: service.heard.as_ref().map(Duration::as_secs_f64),
            stale_for_seconds: service.stale.as_ref().map(Duration::as_secs_f64),
            failures: service.failures,
            error: service.error.as_ref().map(ToString::to_string),
        }
    }
}

// === impl ServicePool ===

impl ServicePool {
    /// What is known of the service of a version, where it has one.
    #[must_use]
    pub fn of(version: &Version, book: &Book) -> Option<Self> {
        let place = version.places().find(|place| place.service().is_some())?;
        let (service, port) = Place::service(place)?;
        Some(Self {
            service: place.to_string(),
            problem: book.problem(service, port),
        })
    }

    /// Why a version has no endpoint there, in one line.
    pub(super) fn empty_because(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(format!("service {}: {problem}", self.service))
    }
}
