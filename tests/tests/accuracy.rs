//! The right answers come out at the other end, and they are libtorch's own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use aegis_e2e::digits::{self, Digit, MODEL, PIXELS};
use aegis_e2e::{
    Backend, BackendSetup, Binaries, CANARY, Client, Proxy, ProxySetup, STABLE, workspace_root,
};
use aegis_protocol::{Tensor, path};
use aegis_torch::{Device, Module};
use tokio::task::JoinSet;

/// Kernels differ by batch size, so answers are equal within rounding only.
const RELATIVE: f32 = 1e-5;
/// Near 0 the relative difference of two roundings is anything.
const ABSOLUTE: f32 = 1e-7;

/// One version behind a proxy.
async fn serve(version: &str) -> (Backend, Proxy) {
    let programs = Binaries::built().unwrap();
    let backend = BackendSetup::new(MODEL, &[version])
        .start(programs)
        .await
        .unwrap();
    backend.ready().await.unwrap();
    let setup = ProxySetup::new(MODEL).pool(version, 1, &[backend.address()]);
    (backend, setup.start(programs).await.unwrap())
}

/// Asks about every image, in requests of these sizes by turns, from many clients at once; returns
/// labels and probabilities in the order of the images.
async fn ask(proxy: &Proxy, all: &[Digit], sizes: &[usize]) -> Vec<(i64, Vec<f32>)> {
    let mut rest = all;
    let mut requests = Vec::new();
    for &size in sizes.iter().cycle() {
        let (request, others) = rest.split_at(size.min(rest.len()));
        requests.push(request.to_vec());
        rest = others;
        if rest.is_empty() {
            break;
        }
    }
    let requests = Arc::new(requests);
    let clients = NonZeroUsize::new(16).unwrap();
    let mut workers = JoinSet::new();
    for first in 0..clients.get() {
        let (requests, data) = (Arc::clone(&requests), proxy.data());
        workers.spawn(async move {
            let client = Client::new();
            let mut answers = Vec::new();
            for at in (first..requests.len()).step_by(clients.get()) {
                let body = digits::request(&requests[at]);
                let answer = client
                    .post(data, &path::infer(MODEL, None), body)
                    .await
                    .unwrap();
                assert_eq!(answer.status, http::StatusCode::OK, "{answer:?}");
                let labels = digits::labels(&answer.body).unwrap();
                let probabilities = digits::probabilities(&answer.body).unwrap();
                assert_eq!(labels.len(), requests[at].len());
                let rows = probabilities.chunks(10).map(<[f32]>::to_vec);
                answers.push((at, labels.into_iter().zip(rows).collect::<Vec<_>>()));
            }
            answers
        });
    }
    let mut answers: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().flat_map(|(_, rows)| rows).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred images")]
fn accuracy(answers: &[(i64, Vec<f32>)], digits: &[Digit]) -> f64 {
    assert_eq!(answers.len(), digits.len());
    let right = answers
        .iter()
        .zip(digits)
        .filter(|((label, _), d)| *label == i64::from(d.label));
    right.count() as f64 / digits.len() as f64
}

fn assert_close(got: &[f32], expected: &[f32], which: &str) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let allowed = ABSOLUTE + RELATIVE * expected.abs();
        assert!(
            (got - expected).abs() <= allowed,
            "{which}: got {got}, libtorch says {expected}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_out_images_are_recognised_through_proxy_and_server() {
    let all = digits::held_out().unwrap();
    for (version, wanted) in [(STABLE, 0.95), (CANARY, 0.97)] {
        let (_backend, proxy) = serve(version).await;
        let answers = ask(&proxy, &all, &[1]).await;
        let share = accuracy(&answers, &all);
        assert!(
            share >= wanted,
            "version {version} recognises {share} of {} images",
            all.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_mixed_batches_are_those_of_libtorch_called_directly() {
    let all = digits::held_out().unwrap();
    for version in [STABLE, CANARY] {
        let (backend, proxy) = serve(version).await;
        let answers = ask(&proxy, &all, &[1, 2, 3, 4]).await;

        let file = workspace_root()
            .join("config/models")
            .join(MODEL)
            .join(version);
        let module = Module::load(&file.join("model.pt"), Device::Cpu).unwrap();
        for (at, (digit, (label, probabilities))) in all.iter().zip(&answers).enumerate() {
            let pixels = digit.pixels.map(f32::from);
            let image = Tensor::from_f32([1, PIXELS], &pixels).unwrap();
            let direct = module.run(&[image]).unwrap();
            assert_eq!(direct[0].as_i64().unwrap(), [*label], "image {at}");
            let direct = direct[1].as_f32().unwrap();
            assert_close(
                probabilities,
                &direct,
                &format!("version {version}, image {at}"),
            );
        }

        // Otherwise this proved nothing about batches.
        let metrics = backend.metrics().await.unwrap();
        let labels = [("model", MODEL), ("model_version", version)];
        let batches = metrics
            .count("aegis_inference_batch_size_count", &labels)
            .unwrap();
        let rows = metrics
            .count("aegis_inference_batch_size_sum", &labels)
            .unwrap();
        let requests = metrics
            .count("aegis_inference_requests_total", &labels)
            .unwrap();
        assert_eq!(rows, all.len() as u64, "each row ran once");
        assert!(
            batches < requests,
            "{batches} batches for {requests} requests"
        );
    }
}
