//! The backend's fixed names, as clients of the proxy see them.
//!
//! `aegis_inference_requests_total` and `aegis_inference_latency_seconds` hold
//! nothing that the proxy's own metrics do not, so they are made from those when
//! somebody asks, and cost a request nothing. The label `via="proxy"` tells them
//! from the backends' own series in the same Prometheus.

use std::collections::BTreeMap;

use prometheus::{
    core::Collector,
    proto::{Counter, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    Metrics,
    labels::STATIC_LABEL,
    specs::{CLIENT_LATENCY, CLIENT_REQUESTS, Spec, VIA},
};

/// Both families.
pub(super) fn families(metrics: &Metrics) -> [MetricFamily; 2] {
    [requests(metrics), latency(metrics)]
}

/// Requests by status, whatever way they came to their version.
fn requests(metrics: &Metrics) -> MetricFamily {
    let mut sums: BTreeMap<[String; 3], f64> = BTreeMap::new();
    for metric in series(&metrics.requests) {
        // A canned answer in its place is no answer of the version.
        if label(&metric, "kind") == STATIC_LABEL {
            continue;
        }
        let key = ["model", "model_version", "code"].map(|name| label(&metric, name).to_owned());
        *sums.entry(key).or_default() += metric.get_counter().get_value();
    }
    let metrics = sums.into_iter().map(|([model, version, code], sum)| {
        let mut counter = Counter::default();
        counter.set_value(sum);
        let mut metric = Metric::from_label(vec![
            pair("code", &code),
            pair("model", &model),
            pair("model_version", &version),
            pair("via", VIA),
        ]);
        metric.set_counter(counter);
        metric
    });
    family(&CLIENT_REQUESTS, MetricType::COUNTER, metrics.collect())
}

/// The histogram under its other name.
fn latency(metrics: &Metrics) -> MetricFamily {
    let metrics = series(&metrics.duration)
        .into_iter()
        .map(|mut metric| {
            let mut labels = metric.take_label();
            labels.push(pair("via", VIA));
            metric.set_label(labels);
            metric
        })
        .collect();
    family(&CLIENT_LATENCY, MetricType::HISTOGRAM, metrics)
}

/// Every series of a metric.
pub(super) fn series(collector: &impl Collector) -> Vec<Metric> {
    let families = collector.collect().into_iter();
    families
        .flat_map(|mut family| family.take_metric())
        .collect()
}

/// The value of a label; empty when it is not there.
pub(super) fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    let mut labels = metric.get_label().iter();
    labels
        .find(|pair| pair.name() == name)
        .map_or("", LabelPair::value)
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn family(spec: &Spec, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(spec.name.to_owned());
    family.set_help(spec.help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
