//! Which series there are: those of the configuration, and no others.

use std::collections::HashSet;

use aegis_policy::{BreakerState, FallbackReason, TripReason};
use prometheus::{
    core::{Collector, MetricVec, MetricVecBuilder},
    proto::Metric,
};

use super::{
    Metrics, RETRY_REASONS, RetryResult, STATIC_LABEL,
    client_side::{label, series},
    known::Endpoint,
    labels::POD_STATES,
    specs::{self, Spec},
};
use crate::config::{Config, Model, Name, Version};

/// Gives every series of a configuration its 0, but for those of its endpoints.
pub(super) fn create(metrics: &Metrics, config: &Config) {
    for service in config.services() {
        create_service(metrics, &service.to_string());
    }
    for (model_name, model) in &config.models {
        metrics.queued.with_label_values(&[model_name]);
        metrics.queue_seconds.with_label_values(&[model_name]);
        for (name, version) in &model.versions {
            create_version(metrics, model_name, name, version);
        }
        if let Some(shadow) = &model.shadow {
            // Its handles are made for their side effect here.
            let _ = metrics.shadow(model_name, &shadow.version);
        }
        for (from, to) in fallback_pairs(model) {
            for reason in FallbackReason::LABELS {
                let labels = [&**model_name, from, to, reason];
                metrics.fallbacks.with_label_values(&labels);
            }
        }
        for reason in RETRY_REASONS {
            for result in RetryResult::ALL {
                let labels = [&**model_name, reason, result.label()];
                metrics.retries.with_label_values(&labels);
            }
        }
    }
}

fn create_version(metrics: &Metrics, model: &Name, name: &Name, version: &Version) {
    // Its handles are made for their side effect here.
    let _ = metrics.version(model, name);
    let labels = [&**model, &**name];
    metrics
        .weight
        .with_label_values(&labels)
        .set(version.weight);
    metrics.available.with_label_values(&labels);
}

/// Gives every series of an endpoint its 0.
pub(super) fn create_endpoint(metrics: &Metrics, (model, version, at): Endpoint<'_>) {
    let endpoint = at.to_string();
    let labels = [model, version, &endpoint];
    metrics.breaker_state.with_label_values(&labels);
    metrics.endpoint_healthy.with_label_values(&labels);
    for (to, reason) in moves() {
        let labels = [model, version, &endpoint, to, reason];
        metrics.breaker_transitions.with_label_values(&labels);
    }
}

/// Takes away every series of an endpoint.
pub(super) fn remove_endpoint(metrics: &Metrics, (model, version, at): Endpoint<'_>) {
    let endpoint = at.to_string();
    let labels = [model, version, &endpoint];
    // All of them are there.
    let _ = metrics.breaker_state.remove_label_values(&labels);
    let _ = metrics.endpoint_healthy.remove_label_values(&labels);
    for (to, reason) in moves() {
        let labels = [model, version, &endpoint, to, reason];
        let _ = metrics.breaker_transitions.remove_label_values(&labels);
    }
}

fn create_service(metrics: &Metrics, service: &str) {
    metrics.stale.with_label_values(&[service]);
    for state in POD_STATES {
        metrics.pods.with_label_values(&[service, state]);
    }
}

/// Every pair of versions between which traffic can fall back.
fn fallback_pairs(model: &Model) -> impl Iterator<Item = (&str, &str)> {
    let chain = model.fallback.iter().map(|to| &**to);
    let answer = model.static_answer.iter().map(|_| STATIC_LABEL);
    chain.chain(answer).flat_map(|to| {
        let from = model.versions.keys().filter(move |from| ***from != *to);
        from.map(move |from| (&**from, to))
    })
}

/// Every move that a breaker can make, with the rule that makes it.
fn moves() -> impl Iterator<Item = (&'static str, &'static str)> {
    let to = [
        BreakerState::Open,
        BreakerState::Open,
        BreakerState::Open,
        BreakerState::Open,
        BreakerState::Open,
        BreakerState::HalfOpen,
        BreakerState::Closed,
    ];
    to.map(BreakerState::label)
        .into_iter()
        .zip(TripReason::LABELS)
}

/// Takes away the series of models, versions and services that are not configured.
pub(super) fn remove_stale(metrics: &Metrics, config: &Config) {
    let version = |metric: &Metric| has_version(config, metric, "model_version");
    let pair = |metric: &Metric| has_version(config, metric, "from") && has_target(config, metric);
    let model = |metric: &Metric| config.models.contains_key(label(metric, "model"));
    retain(&metrics.queued, &specs::QUEUED, model);
    retain(&metrics.queue_seconds, &specs::QUEUE_SECONDS, model);
    retain(&metrics.requests, &specs::REQUESTS, version);
    retain(&metrics.duration, &specs::DURATION, version);
    retain(&metrics.first_byte, &specs::FIRST_BYTE, version);
    retain(&metrics.waiting, &specs::WAITING, version);
    retain(&metrics.available, &specs::AVAILABLE, version);
    retain(&metrics.weight, &specs::WEIGHT, version);
    let services: HashSet<String> = config.services().iter().map(ToString::to_string).collect();
    let service = |metric: &Metric| services.contains(label(metric, "service"));
    retain(&metrics.stale, &specs::KUBERNETES_STALE, service);
    retain(&metrics.pods, &specs::KUBERNETES_PODS, service);
    let shadow = |metric: &Metric| {
        let model = config.models.get(label(metric, "model"));
        let shadow = model.and_then(|model| model.shadow.as_ref());
        shadow.is_some_and(|shadow| *shadow.version == *label(metric, "model_version"))
    };
    retain(&metrics.shadow_requests, &specs::SHADOW_REQUESTS, shadow);
    retain(&metrics.shadow_absolute, &specs::SHADOW_ABSOLUTE, shadow);
    retain(&metrics.shadow_relative, &specs::SHADOW_RELATIVE, shadow);
    retain(&metrics.shadow_largest, &specs::SHADOW_LARGEST, shadow);
    retain(&metrics.fallbacks, &specs::FALLBACKS, pair);
    retain(&metrics.retries, &specs::RETRIES, model);
}

fn retain<B: MetricVecBuilder>(metrics: &MetricVec<B>, spec: &Spec, keep: impl Fn(&Metric) -> bool)
where
    MetricVec<B>: Collector,
{
    for metric in series(metrics) {
        if !keep(&metric) {
            let labels: Vec<&str> = spec
                .labels
                .iter()
                .map(|name| label(&metric, name))
                .collect();
            // Another reconcile may have been first.
            let _ = metrics.remove_label_values(&labels);
        }
    }
}

/// Whether a request may fall back to what the series names.
fn has_target(config: &Config, metric: &Metric) -> bool {
    let model = config.models.get(label(metric, "model"));
    let is_static = label(metric, "to") == STATIC_LABEL;
    has_version(config, metric, "to")
        || (is_static && model.is_some_and(|model| model.static_answer.is_some()))
}

fn has_version(config: &Config, metric: &Metric, name: &str) -> bool {
    let model = config.models.get(label(metric, "model"));
    model.is_some_and(|model| model.versions.contains_key(label(metric, name)))
}
