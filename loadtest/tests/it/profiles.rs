//! Loads that change over the run, closed loops, and replays.

use std::path::Path;

use aegis_loadtest::Report;

use crate::cli::{output, run_command, text};
use crate::server::{Server, right};

/// Runs to the end, and gives the report and the table.
async fn run(url: &str, more: &[&str]) -> (Report, String) {
    let folder = tempfile::tempdir().expect("a folder");
    run_in(folder.path(), url, more).await
}

async fn run_in(folder: &Path, url: &str, more: &[&str]) -> (Report, String) {
    let json = folder.join("report.json");
    let json_flag = ["--json", json.to_str().expect("a plain path")];
    let output = output(run_command(folder, url, &[more, &json_flag].concat())).await;
    let table = text(&output.stdout).to_owned();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = std::fs::read(json).expect("a report");
    (serde_json::from_slice(&report).expect("JSON"), table)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spike_sends_as_much_as_it_says() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let more = [
        "--even",
        "--rate",
        "100",
        "--duration",
        "900ms",
        "--spike",
        "1000",
        "--spike-at",
        "300ms",
        "--spike-for",
        "300ms",
    ];
    let (report, table) = run(&server.url, &more).await;
    // 30 before, 300 in the spike and 30 after it.
    assert_eq!(report.summary.requests, 360);
    assert_eq!(server.requests(), 360);
    let says = "100 requests/s for 0.9 s, and 1000 from 0.3 s for 0.3 s, evenly";
    assert!(table.contains(says), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_and_ramps_send_as_much_as_they_say() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let more = ["--even", "--steps", "100,300", "--duration", "600ms"];
    let folder = tempfile::tempdir().unwrap();
    let steps = output(run_command(folder.path(), &server.url, &more)).await;
    assert_eq!(steps.status.code(), Some(64), "it has --rate, too");
    let more = [
        "--even",
        "--rate",
        "100",
        "--ramp-to",
        "500",
        "--duration",
        "500ms",
    ];
    let (report, table) = run(&server.url, &more).await;
    assert_eq!(report.summary.requests, 150);
    assert!(
        table.contains("100 to 500 requests/s over 0.5 s, evenly"),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_never_has_more_under_way_than_connections() {
    let server = Server::start(async |asked| {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        Some(right(&asked))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("digits.csv");
    std::fs::write(&data, crate::DIGITS).unwrap();
    let command = crate::cli::command(&[
        "run",
        "--url",
        &server.url,
        "--model",
        "digits",
        "--data",
        data.to_str().unwrap(),
        "--closed",
        "3",
        "--warmup",
        "100ms",
        "--duration",
        "500ms",
        "--max-lag",
        "10s",
    ]);
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("closed loop of 3 connections for 0.5 s"),
        "{table}"
    );
    // And one more, which asked what the model takes.
    assert_eq!(server.connections(), 4);
    // Three that wait 10 ms at least each time: at most 300 a second.
    assert!(server.requests() <= 185, "{}", server.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_arrivals_are_sent_again() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.txt");
    let times: Vec<_> = (0..100)
        .map(|n| (1_000.0 + f64::from(n) * 0.01).to_string())
        .collect();
    let times = times.join("\n");
    std::fs::write(&trace, times).unwrap();
    let data = folder.path().join("digits.csv");
    std::fs::write(&data, crate::DIGITS).unwrap();
    let replay = async |trace: &str| {
        let command = crate::cli::command(&[
            "run",
            "--url",
            &server.url,
            "--model",
            "digits",
            "--data",
            data.to_str().unwrap(),
            "--replay",
            trace,
            "--speed",
            "2",
            "--warmup",
            "0s",
            "--max-lag",
            "10s",
        ]);
        output(command).await
    };
    let done = replay(trace.to_str().unwrap()).await;
    let table = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(
        table.contains("100 recorded arrivals over 0.495 s"),
        "{table}"
    );
    assert!(table.contains("requests  100 due, 100 answered"), "{table}");
    let done = replay(data.to_str().unwrap()).await;
    assert_eq!(done.status.code(), Some(64));
    let says = "--replay: ";
    assert!(text(&done.stderr).contains(says), "{}", text(&done.stderr));
    assert!(
        text(&done.stderr).contains("expected seconds, an RFC 3339 time"),
        "{}",
        text(&done.stderr)
    );
}
