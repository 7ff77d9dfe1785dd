//! `/metrics`, and the document that explains it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{Backend, ECHO, echo_body};

#[tokio::test]
async fn what_clients_invent_never_becomes_a_label() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    for model in ["invented", "echo/versions/invented"] {
        assert_eq!(backend.infer(model, "{}").await.status, 404);
    }
    backend.get("/v2/models/invented").await;
    backend.get("/invented").await;
    let text = backend.get("/metrics").await.text();
    assert!(!text.contains("invented"), "{text}");
}

#[tokio::test]
async fn every_series_is_there_at_zero_before_the_first_request() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let zero = [
        "aegis_inference_requests_total{code=\"200\",model=\"echo\",model_version=\"1\"}",
        "aegis_inference_requests_total{code=\"499\",model=\"echo\",model_version=\"2\"}",
        "aegis_inference_requests_total{code=\"504\",model=\"echo\",model_version=\"2\"}",
        "aegis_inference_latency_seconds_count{model=\"echo\",model_version=\"1\"}",
        "aegis_inference_latency_seconds_bucket{model=\"echo\",model_version=\"1\",le=\"0.2\"}",
        "aegis_inference_latency_seconds_bucket{model=\"echo\",model_version=\"1\",le=\"1.5\"}",
        "aegis_inference_queue_depth{model=\"echo\",model_version=\"1\"}",
        "aegis_safety_flags_total{action=\"block\",model=\"echo\",model_version=\"1\",reason=\"nan_inf_input\"}",
        "aegis_safety_flags_total{action=\"block\",model=\"echo\",model_version=\"2\",reason=\"nan_inf_output\"}",
        "aegis_inference_rejected_total{reason=\"queue_full\"}",
    ];
    for series in zero {
        assert!(
            backend.metric(series).await.abs() < f64::EPSILON,
            "{series}"
        );
    }
}

#[tokio::test]
async fn instances_are_busy_for_as_long_as_their_batches_run() {
    let slow = format!("{ECHO}batch_ms = 20\n");
    let backend = Backend::ready(&[("echo", &slow)]).await;
    let labels = "{model=\"echo\",model_version=\"1\"}";
    let busy = format!("aegis_instance_busy_seconds_total{labels}");
    assert!(backend.metric(&busy).await.abs() < f64::EPSILON);
    for _ in 0..3 {
        let reply = backend.infer("echo", echo_body(&[1.0])).await;
        assert_eq!(reply.status, 200);
    }
    let ran = format!("aegis_inference_batch_seconds_sum{labels}");
    let (busy, ran) = (backend.metric(&busy).await, backend.metric(&ran).await);
    assert!(busy >= 0.06, "{busy}");
    assert!((busy - ran).abs() < 1e-9, "busy for {busy} s, ran {ran} s");
}

/// Type and labels of a metric.
type Described = (String, BTreeSet<String>);

#[tokio::test]
async fn the_document_lists_exactly_what_is_exported() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let exported = exported(&backend.get("/metrics").await.text());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/METRICS.md");
    assert_eq!(
        documented(&std::fs::read_to_string(path).unwrap()),
        exported
    );
}

/// The rows of the tables under `## aegis-backend`.
fn documented(text: &str) -> BTreeMap<String, Described> {
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with("aegis-backend"));
    let rows = section
        .expect("a section")
        .lines()
        .filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[3]
            .split_whitespace()
            .map(|label| label.trim_matches('`').to_owned());
        let name = cells[1].trim_matches('`').to_owned();
        (name, (cells[2].to_owned(), labels.collect()))
    })
    .collect()
}

/// What the text format shows; a parser of its own, so that the text is checked as well.
fn exported(text: &str) -> BTreeMap<String, Described> {
    let mut found: BTreeMap<String, Described> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            name.clone_into(&mut current);
            let fresh = found.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
            assert!(fresh.is_none(), "{name} is declared twice");
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(
                help.split_once(' ')
                    .is_some_and(|(_, text)| !text.is_empty()),
                "{line}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let suffix = name.strip_prefix(&current).expect("its own family");
            assert!(
                matches!(suffix, "" | "_bucket" | "_sum" | "_count"),
                "{line}"
            );
            let names = labels
                .split("\",")
                .filter_map(|label| label.split_once('='));
            let names = names
                .map(|(name, _)| name.to_owned())
                .filter(|name| name != "le");
            found.get_mut(&current).expect("a type").1.extend(names);
        }
    }
    found
}

#[tokio::test]
async fn where_they_are_not_kept_there_are_none_and_all_else_is_as_it_was() {
    let backend = Backend::ready_with("metrics = false", &[("echo", ECHO)]).await;
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
    assert_eq!(backend.get("/metrics").await.status, 404);
    assert_eq!(backend.get("/v2/health/ready").await.status, 200);
}
