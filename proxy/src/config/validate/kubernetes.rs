//! Kubernetes: the service that a version is served by, and the API server.

use std::num::NonZeroU16;

use super::scope::Scope;
use crate::config::{
    Kubernetes, Label, Place, ServiceName, ServicePort,
    ranges::{KUBE_RENEW_MS, KUBE_REQUEST_MS, KUBE_RETRY_MS},
    raw::{RawKubernetes, RawKubernetesApi, RawPort, RawVersion},
};

/// How the API server is asked.
pub(super) fn api(raw: &RawKubernetesApi, mut scope: Scope<'_, '_>) -> Kubernetes {
    let kubernetes = Kubernetes {
        kubeconfig: match raw.kubeconfig.as_str() {
            "" => None,
            path => Some(path.into()),
        },
        api_timeout: scope.millis("api_timeout_ms", raw.api_timeout_ms, KUBE_REQUEST_MS),
        renew_after: scope.millis("renew_after_ms", raw.renew_after_ms, KUBE_RENEW_MS),
        retry_base: scope.millis("retry_base_ms", raw.retry_base_ms, KUBE_RETRY_MS),
        retry_max: scope.millis("retry_max_ms", raw.retry_max_ms, KUBE_RETRY_MS),
    };
    if kubernetes.retry_max < kubernetes.retry_base {
        let (least, got) = (raw.retry_base_ms, raw.retry_max_ms);
        let message = format!("expected at least retry_base_ms, {least}, got {got}");
        scope.fault("retry_max_ms", message);
    }
    kubernetes
}

/// Whether a version says anything of a service.
pub(super) fn is_given(version: &RawVersion) -> bool {
    version.kubernetes != RawKubernetes::default()
}

/// The service whose pods are endpoints of a version, if there is one.
pub(super) fn place(raw: &RawKubernetes, mut scope: Scope<'_, '_>) -> Option<Place> {
    if *raw == RawKubernetes::default() {
        return None;
    }
    if raw.service.is_empty() {
        let message = "missing: expected the name of a Kubernetes service";
        scope.fault("service", message);
        return None;
    }
    if !cfg!(feature = "kubernetes") {
        let message = "this aegis-proxy was built without the cargo feature `kubernetes`";
        scope.fault("service", message);
    }
    // All three are looked at, so that all their faults are told.
    let name = scope.parsed("service", Label::new(&raw.service));
    let namespace = match raw.namespace.as_str() {
        "" => Some(None),
        text => scope.parsed("namespace", Label::new(text)).map(Some),
    };
    let port = port(&raw.port, &mut scope);
    let (name, namespace, port) = (name?, namespace?, port?);
    let service = ServiceName { namespace, name };
    Some(Place::Service { service, port })
}

fn port(raw: &RawPort, scope: &mut Scope<'_, '_>) -> Option<ServicePort> {
    match raw {
        RawPort::Name(text) if text.is_empty() => Some(ServicePort::Only),
        RawPort::Name(text) => scope
            .parsed("port", Label::new(text))
            .map(ServicePort::Named),
        RawPort::Number(number) => {
            let port = u16::try_from(*number).ok().and_then(NonZeroU16::new);
            if port.is_none() {
                scope.fault(
                    "port",
                    format!("expected a port from 1 to 65535, got {number}"),
                );
            }
            port.map(ServicePort::Number)
        }
    }
}
