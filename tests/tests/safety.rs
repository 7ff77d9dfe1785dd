//! The safety checks of the bundled model, judged from outside: what gets through, and what that proves.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use aegis_e2e::digits::{MODEL, held_out_path};
use aegis_e2e::{Backend, BackendSetup, Binaries, STABLE, until};
use aegis_loadtest::Dataset;
use aegis_loadtest::safety::{Claim, Generator, SafetyReport, Sending, Verdict, evaluate};
use serde_json::Value;
use tokio::process::Command;

const CLAIM: Claim = Claim {
    bound: 0.001,
    confidence: 0.95,
    must_block: false,
};

async fn backend() -> Backend {
    let setup = BackendSetup::new(MODEL, &[STABLE]);
    let backend = setup.start(Binaries::built().unwrap()).await.unwrap();
    backend.ready().await.unwrap();
    backend
}

async fn judged(backend: &Backend, cases: usize) -> SafetyReport {
    let generator = Generator {
        input: "image".to_owned(),
        largest: 16.0,
        seed: 1,
    };
    let data = Dataset::from_csv(&held_out_path()).unwrap();
    let cases = generator.cases(&data, cases).unwrap();
    let uri = format!("http://{}/v2/models/{MODEL}/infer", backend.address());
    let sending = Sending {
        connections: 8,
        timeout: Duration::from_secs(30),
    };
    let report = evaluate(&uri.parse().unwrap(), cases, CLAIM, sending).await;
    report.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_model_is_proved_to_let_less_than_a_tenth_of_a_percent_through() {
    let backend = backend().await;
    let report = judged(&backend, 3_000).await;
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
    assert_eq!((report.misses, report.unjudged), (0, 0), "{report}");
    assert_eq!(
        (report.unsafe_cases, report.repeats),
        (3_000, 0),
        "{report}"
    );
    for (reason, row) in &report.by_reason {
        assert_eq!(row.as_expected, row.cases, "{reason}: {report}");
    }
    let false_positive_rate = report.false_positive_rate.unwrap();
    assert!(false_positive_rate < 0.05, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_cases_prove_nothing() {
    let backend = backend().await;
    let report = judged(&backend, 200).await;
    assert_eq!(
        (report.misses, report.verdict),
        (0, Verdict::TooSmall),
        "{report}"
    );
    assert!(
        report.to_string().contains("at least 2995 different cases"),
        "{report}"
    );
}

/// A batch takes 20 ms, whatever is in it, and what is over 1 is flagged: after it ran, row by row.
const SLOW: &str = "\
    platform = \"scripted\"\nmax_batch_size = 32\n\
    [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n\
    [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n\
    [scripted]\nanswer = \"sum\"\nbatch_ms = 20\n\
    [[safety.output_range]]\noutput = \"y\"\nmax = 1.0\naction = \"flag\"\n";

/// So many cases that differ in their second number.
fn cases(expect: &str, first: f32, count: usize) -> String {
    let case = |at: usize| {
        let second = at as f32 / 100_000.0;
        format!(
            "{{\"expect\":{expect},\"request\":{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\
             \"shape\":[1,2],\"data\":[{first},{second}]}}]}}}}\n"
        )
    };
    (0..count).map(case).collect()
}

/// A backend with that model, and its address; cases lie in the folder beside it.
async fn slow(folder: &Path, cases: usize) -> (Backend, String) {
    std::fs::create_dir_all(folder.join("models/slow/1")).unwrap();
    std::fs::write(folder.join("models/slow/model.toml"), SLOW).unwrap();
    let mut text = self::cases("\"safe\"", 0.5, 20);
    text += &self::cases("[\"output_range\"]", 3.0, cases);
    std::fs::write(folder.join("cases.jsonl"), text).unwrap();
    let setup = BackendSetup::new("slow", &["1"]).repository(&folder.join("models"));
    let backend = setup.start(Binaries::built().unwrap()).await.unwrap();
    backend.ready().await.unwrap();
    let url = format!("http://{}", backend.address());
    (backend, url)
}

fn safety(folder: &Path, url: &str, more: &[&str]) -> Command {
    let mut command = Command::new(Binaries::loadtest().unwrap());
    command
        .args(["safety", "--model", "slow", "--cases", "cases.jsonl"])
        .args([
            "--json",
            "safety.json",
            "--html",
            "safety.html",
            "--url",
            url,
        ])
        // A machine that builds and tests meanwhile is late, which is not what this is about.
        .args(["--max-lag", "10s", "--timeout", "30s"])
        .args(more)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_is_proved_while_cases_run_in_batches_with_other_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (_backend, url) = slow(folder.path(), 3_000).await;
    let load = ["--load", "150", "--connections", "32"];
    let more = [&load[..], &["--min-batch", "2"]].concat();
    let output = safety(folder.path(), &url, &more).output().await.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("verdict: pass, below 0.1 %, at 150 requests/s beside, in batches of "),
        "{text}"
    );
    let json = std::fs::read(folder.path().join("safety.json")).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&report["misses"], &report["false_alarms"]),
        (&0.into(), &0.into()),
        "{text}"
    );
    let load = &report["load"];
    let mean = load["mean_batch_size"].as_f64().unwrap();
    assert!((2.0..=32.0).contains(&mean), "{load}");
    assert!(load["requests"].as_u64().unwrap() > 100, "{load}");
    assert_eq!(load["failed"], 0, "{load}");
    let page = std::fs::read_to_string(folder.path().join("safety.html")).unwrap();
    assert_eq!(report["repeats"], 0, "{text}");
    for part in [
        "Load beside",
        "150",
        &format!("{mean:.2}"),
        "at 150 requests/s beside",
    ] {
        assert!(page.contains(part), "{part}");
    }

    // Batches that cannot be as large as was asked for are no proof, however few were missed.
    let more = ["--load", "20", "--connections", "1", "--min-batch", "33"];
    let cases = std::fs::read_to_string(folder.path().join("cases.jsonl")).unwrap();
    let few: Vec<_> = cases.lines().take(320).collect();
    std::fs::write(folder.path().join("cases.jsonl"), few.join("\n")).unwrap();
    let more = [&more[..], &["--bound", "0.01"]].concat();
    let output = safety(folder.path(), &url, &more).output().await.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("invalid: batches had "), "{text}");
    assert!(
        text.contains("verdict: not shown to be below 1 %"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_reports_the_cases_that_were_sent_and_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, url) = slow(folder.path(), 20_000).await;
    let child = safety(folder.path(), &url, &["--bound", "0.5"])
        .spawn()
        .unwrap();
    until("cases are sent", async || {
        let metrics = backend.metrics().await?;
        let answered = metrics.sum("aegis_inference_requests_total", &[]);
        anyhow::ensure!(answered > 50.0, "{answered} are answered");
        Ok(())
    })
    .await
    .unwrap();
    let interrupt = format!("kill -INT {}", child.id().unwrap());
    let status = Command::new("sh").args(["-c", &interrupt]).status().await;
    assert!(status.unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("invalid: stopped by Ctrl-C, after "),
        "{text}"
    );
    assert!(text.contains("of 20020 cases"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_one_unsafe_request_many_times_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_backend, url) = slow(folder.path(), 1).await;
    let file = folder.path().join("cases.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let last = text.lines().last().unwrap();
    let again = [last, "\n"].concat().repeat(319);
    std::fs::write(&file, text.clone() + &again).unwrap();
    let more = ["--bound", "0.01", "--connections", "32"];
    let output = safety(folder.path(), &url, &more).output().await.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for says in [
        "false negatives: 0 of 1, ",
        "repeats: 319 cases asked what another one did",
        "verdict: too small, below 1 % takes at least 299 different cases",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}
