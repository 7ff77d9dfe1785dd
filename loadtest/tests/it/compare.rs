//! `compare`, against servers whose difference is known.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::server::{Server, right};
use crate::{DIGITS, closed_port, until};

/// Six pairs of short runs, of which a busy machine invalidates none.
fn command(folder: &Path, targets: &[&str], more: &[&str]) -> Command {
    let data = folder.join("digits.csv");
    std::fs::write(&data, DIGITS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-loadtest"));
    command
        .arg("compare")
        .args(targets)
        .args([
            "--model",
            "digits",
            "--pairs",
            "6",
            "--rate",
            "150",
            "--quiet",
            "--error-margin",
            "0.02",
        ])
        .args([
            "--duration",
            "400ms",
            "--warmup",
            "100ms",
            "--max-lag",
            "1s",
        ])
        .arg("--data")
        .arg(data)
        .arg("--json")
        .arg(folder.join("compare.json"))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

async fn output(mut command: Command) -> Output {
    let run = move || command.output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("compare.json")).unwrap()).unwrap()
}

/// Answers rightly after so long.
async fn after(millis: u64) -> Server {
    Server::start(move |asked| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Some(right(&asked))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slower_server_is_worse_and_a_faster_one_better() {
    let (fast, slow) = (after(2).await, after(60).await);
    let folder = tempfile::tempdir().unwrap();
    let worse = output(command(folder.path(), &[&fast.url, &slow.url], &[])).await;
    let table = text(&worse.stdout);
    assert_eq!(
        worse.status.code(),
        Some(1),
        "{table}{}",
        text(&worse.stderr)
    );
    assert!(table.contains("B is worse than A"), "{table}");

    let report = json(folder.path());
    let p50 = &report["figures"][0];
    assert_eq!(
        (&p50["name"], &p50["standing"]),
        (&"p50_ms".into(), &"worse".into())
    );
    let [difference, low, high] =
        ["difference", "low", "high"].map(|key| p50[key].as_f64().unwrap());
    assert!(low <= difference && difference <= high, "{p50}");
    assert!(
        (40.0..90.0).contains(&difference),
        "58 ms, and what the machine adds: {p50}"
    );
    let first = report["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair["a_first"] == true);
    assert_eq!(first.count(), 3, "each begins as often");

    let better = output(command(folder.path(), &[&slow.url, &fast.url], &[])).await;
    let table = text(&better.stdout);
    assert_eq!(better.status.code(), Some(0), "{table}");
    assert!(
        table.contains("B is no worse than A") && table.contains("  better"),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_of_one_server_get_the_same_requests() {
    let asked_of = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counts = Arc::clone(&asked_of);
    let server = Server::start(move |asked| {
        let version = usize::from(asked.path.contains("/versions/2/"));
        counts[version].fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(Duration::from_millis(80)).await;
            Some(right(&asked))
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let versions = ["--version-a", "1", "--version-b", "2", "--margin", "0.9"];
    let output = output(command(folder.path(), &[&server.url], &versions)).await;
    let table = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{table}{}",
        text(&output.stderr)
    );
    assert!(table.contains("digits version 1\nB  "), "{table}");
    let [one, two] = [0, 1].map(|version: usize| asked_of[version].load(Ordering::SeqCst));
    assert!(
        one > 0 && one == two,
        "{one} and {two}: pairs share their seeds"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_worse_too() {
    let good = after(1).await;
    let bad = Server::start(async |asked| (asked.number % 10 != 0).then(|| right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let output = output(command(
        folder.path(),
        &[&good.url, &bad.url],
        &["--margin", "0.9"],
    ))
    .await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let errors = &json(folder.path())["figures"][2];
    assert_eq!(errors["standing"], "worse", "{errors}");
    assert!(
        (errors["b"].as_f64().unwrap() - 0.1).abs() < 0.03,
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_half_way_leaves_what_was_measured_and_no_verdict() {
    let good = after(1).await;
    let gone = Server::start(async |asked| (asked.number < 200).then(|| right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let output = output(command(folder.path(), &[&good.url, &gone.url], &[])).await;
    let table = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{table}{}",
        text(&output.stderr)
    );
    let partial = format!("partial: {} answered no request of pair ", gone.url);
    assert!(table.contains(&partial), "{table}");
    assert!(!json(folder.path())["pairs"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_early_and_shows_nothing() {
    let server = after(1).await;
    let folder = tempfile::tempdir().unwrap();
    let child = command(
        folder.path(),
        &[&server.url, &server.url],
        &["--pairs", "1000"],
    )
    .spawn()
    .unwrap();
    until("a pair is over", || server.requests() > 250).await;
    let interrupt = format!("kill -INT {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &interrupt])
            .status()
            .unwrap()
            .success()
    );
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap())
        .await
        .unwrap();
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{table}");
    assert!(table.contains("partial: stopped by Ctrl-C"), "{table}");
    assert!(
        table.contains("not shown: that takes at least 6 pairs"),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_comparison_is_told_from_one_that_fails() {
    let server = after(1).await;
    let (_socket, nobody) = closed_port();
    let folder = tempfile::tempdir().unwrap();
    let (url, there) = (server.url.as_str(), nobody.as_str());
    for (targets, more, code, error) in [
        (&[url][..], &[][..], 64, "A is compared with itself"),
        (
            &[url, "ftp://b"][..],
            &[][..],
            64,
            "B: expected an address like",
        ),
        (
            &[url, url][..],
            &["--pairs", "5"][..],
            64,
            "pairs: expected 6 to 1000 for a confidence of 0.95, got 5",
        ),
        (
            &[url, url][..],
            &["--margin", "2"][..],
            64,
            "over 0 and under 1",
        ),
        (
            &[url, there][..],
            &[][..],
            1,
            "answered no request: connect: ",
        ),
    ] {
        let output = output(command(folder.path(), targets, more)).await;
        let stderr = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{targets:?} {more:?}: {stderr}"
        );
        assert!(stderr.contains(error), "{targets:?} {more:?}: {stderr}");
    }
}
