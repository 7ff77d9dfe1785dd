//! Verdicts: exit codes, JSON, and runs that show nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aegis_loadtest::Report;
use aegis_loadtest::cli::mix_schema;
use aegis_loadtest::merge::Merged;
use aegis_loadtest::slo::{Slo, Verdict, schema};
use http::StatusCode;

use crate::cli::{command, output, run_command, text};
use crate::server::{Answer, Server, label, refusal, right};
use crate::until;

/// Decided by some tens of requests.
const SLO: &str = "availability = 0.9\n[[latency]]\nquantile = 0.5\nbelow_ms = 1000\n";

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file in a folder of our own");
    path
}

/// Runs for half a second at 400 requests a second.
async fn run(url: &str, slo: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let slo = file(folder.path(), "slo.toml", slo);
    let mut args = vec!["--rate", "400", "--duration", "500ms", "--slo"];
    args.push(slo.to_str().expect("a plain path"));
    args.extend(more);
    let output = output(run_command(folder.path(), url, &args)).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), stdout.to_owned(), stderr.to_owned())
}

/// Refuses every request whose number is a multiple of `of`.
fn refusing(number: u64, of: u64, answer: Answer) -> Answer {
    if number.is_multiple_of(of) {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Some(refusal(status, "no_endpoint", r#"{"error": "none"}"#));
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_keeps_its_objectives_exits_with_0() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let (code, stdout, stderr) = run(&server.url, SLO, &["--json", json.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.ends_with("SLO: pass\n"), "{stdout}");
    let report: Report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let judgement = report.slo.unwrap();
    assert_eq!(
        (judgement.verdict, judgement.objectives.len()),
        (Verdict::Pass, 2)
    );
    let availability = &judgement.objectives[0];
    assert_eq!(availability.measured, Some(1.0));
    assert!(availability.low.unwrap() > 0.9 && availability.high == Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_objective_exits_with_1() {
    let server = Server::start(async |asked| refusing(asked.number, 2, Some(right(&asked)))).await;
    let (code, stdout, stderr) = run(&server.url, SLO, &[]).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.ends_with("SLO: fail\n"), "{stdout}");
    let line = stdout.lines().find(|line| line.starts_with("availability"));
    assert!(line.unwrap().ends_with("missed"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_objective_that_the_run_cannot_decide_exits_with_2() {
    // As many failures as are allowed: no number of requests tells.
    let server = Server::start(async |asked| refusing(asked.number, 10, Some(right(&asked)))).await;
    let (code, stdout, stderr) = run(&server.url, SLO, &[]).await;
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    assert!(stdout.contains("undecided"), "{stdout}");
    assert!(
        stdout.ends_with("SLO: not shown, the run is too small\n"),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_could_show_nothing_is_not_begun() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let (code, stdout, stderr) = run(&server.url, "availability = 0.9999", &[]).await;
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    let sentence = "the run is too small: --slo cannot be shown to be kept with fewer than 36887 \
                    requests, and these are about 200";
    assert!(stderr.contains(sentence), "{stderr}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_sent_too_late_is_invalid_and_not_slow() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    // No client is never late at all: what no client keeps, this one does not keep.
    let (code, stdout, stderr) = run(&server.url, SLO, &["--max-lag", "0s"]).await;
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    assert!(
        stdout.ends_with("SLO: not judged, the run is invalid\n"),
        "{stdout}"
    );
    assert!(
        stderr.contains("invalid run: this client could not keep up: "),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_not_sent_make_a_run_invalid() {
    let server = Server::start(async |asked| {
        if asked.number > 0 {
            std::future::pending::<()>().await;
        }
        Some(right(&asked))
    })
    .await;
    let more = ["--max-in-flight", "3", "--timeout", "1s"];
    let (code, stdout, stderr) = run(&server.url, SLO, &more).await;
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    assert!(stderr.contains("requests were not sent"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objectives_that_make_no_sense_are_refused_before_anything_is_sent() {
    let server = Server::start(async |_| Some(label(0))).await;
    let (code, _, stderr) = run(
        &server.url,
        "availability = 99.5\n[latency]\np99 = 5\n",
        &[],
    )
    .await;
    assert_eq!(code, Some(64), "{stderr}");
    assert!(
        stderr.contains("slo.toml:1: availability: expected a share over 0"),
        "{stderr}"
    );
    assert!(stderr.contains("slo.toml:2: latency: "), "{stderr}");
    let (code, _, stderr) = run(&server.url, SLO, &["--timeout", "300ms"]).await;
    assert_eq!(code, Some(64), "{stderr}");
    assert!(
        stderr.contains("--timeout: expected at least 1s"),
        "{stderr}"
    );
    assert_eq!(server.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_ends_the_run_and_what_was_measured_is_reported() {
    let answered = Arc::new(AtomicU64::new(0));
    let server = {
        let answered = Arc::clone(&answered);
        Server::start(move |asked| {
            let n = answered.fetch_add(1, Ordering::SeqCst);
            async move { (n < 50).then(|| right(&asked)) }
        })
        .await
    };
    let more = ["--duration", "1h", "--give-up-after", "1s"];
    let (code, stdout, stderr) = run(&server.url, SLO, &more).await;
    assert!(
        stdout.contains("(partial: nobody has answered for 1."),
        "{stdout}{stderr}"
    );
    assert!(stdout.contains(" 50 answered, "), "{stdout}");
    assert_eq!(code, Some(1), "{stdout}{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_stopped_passes_nothing() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let slo = file(folder.path(), "slo.toml", SLO);
    let json = folder.path().join("report.json");
    let more = ["--duration", "1h", "--slo", slo.to_str().unwrap()];
    let more = [&more[..], &["--json", json.to_str().unwrap()]].concat();
    let child = run_command(folder.path(), &server.url, &more)
        .spawn()
        .unwrap();
    // Enough to meet every objective.
    until("it sends", || server.requests() > 200).await;
    let interrupt = format!("kill -INT {}", child.id());
    let kill = std::process::Command::new("sh")
        .args(["-c", &interrupt])
        .status();
    assert!(kill.unwrap().success());
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let output = ended.await.unwrap();
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{stdout}");
    assert!(
        stdout.ends_with("SLO: not shown, the run broke off\n"),
        "{stdout}"
    );
    let report: Report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report.slo.unwrap().verdict, Verdict::Partial);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_examples_prove_no_accuracy_however_often_they_are_sent() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let slo = "accuracy = 0.9\n";
    let (code, stdout, stderr) = run(&server.url, slo, &[]).await;
    assert_eq!(code, Some(2), "{stdout}{stderr}");
    let sentence = "accuracy: cannot be shown to be kept with fewer than 36 different examples, and --data has 10";
    assert!(stderr.contains(sentence), "{stderr}");
    assert_eq!(server.requests(), 0);
    let (code, stdout, stderr) = run(&server.url, "accuracy = 0.5\n", &[]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("(of 10 different examples)"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_without_labels_say_nothing_of_accuracy() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let slo = file(folder.path(), "slo.toml", "accuracy = 0.5\n");
    let log = folder.path().join("a.hlog");
    let (slo, log) = (slo.to_str().unwrap(), log.to_str().unwrap());
    let drawn = [
        "run",
        "--url",
        &server.url,
        "--model",
        "digits",
        "--rate",
        "100",
    ];
    let more = [
        "--duration",
        "300ms",
        "--warmup",
        "0s",
        "--max-lag",
        "10s",
        "--hdr",
        log,
    ];
    let run = output(command(&[&drawn[..], &more].concat())).await;
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let merged = output(command(&["merge", "--slo", slo, "--max-lag", "10s", log])).await;
    assert_eq!(merged.status.code(), Some(64), "{}", text(&merged.stdout));
    let error = text(&merged.stderr);
    assert!(
        error.contains("--slo: accuracy: expected logs of runs with labels"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_two_runs_are_judged_as_one() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut reports = Vec::new();
    for name in ["a", "b"] {
        let (json, hdr) = (path(&format!("{name}.json")), path(name));
        let more = [
            "--rate",
            "400",
            "--duration",
            "1300ms",
            "--json",
            &json,
            "--hdr",
            &hdr,
        ];
        let output = output(run_command(folder.path(), &server.url, &more)).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let report: Report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        reports.push(report.summary);
    }
    let slo = file(folder.path(), "slo.toml", SLO);
    let (one, both) = (path("one.json"), path("both.json"));
    let (a, b, hdr) = (path("a"), path("b"), path("both"));
    let merge = async |args: &[&str]| {
        let slo = ["merge", "--max-lag", "10s", "--slo", slo.to_str().unwrap()];
        let output = output(command(&[&slo, args].concat())).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with("SLO: pass\n"));
    };
    // One log alone says what its own run said.
    merge(&[&a, "--json", &one]).await;
    let merged: Merged = serde_json::from_slice(&std::fs::read(&one).unwrap()).unwrap();
    assert_eq!(
        (merged.requests, merged.ok),
        (reports[0].requests, reports[0].ok)
    );
    assert_eq!(merged.latency, reports[0].latency);
    // Both add up, and so does the log that is written of both.
    merge(&[&a, &b, "--hdr", &hdr, "--json", &both]).await;
    let merged: Merged = serde_json::from_slice(&std::fs::read(&both).unwrap()).unwrap();
    assert_eq!(merged.requests, reports[0].requests + reports[1].requests);
    merge(&[&hdr, "--json", &one]).await;
    let again: Merged = serde_json::from_slice(&std::fs::read(&one).unwrap()).unwrap();
    assert_eq!(again.latency, merged.latency);
    assert_eq!(again.client.lag, merged.client.lag);
    // By another name it is the same log, and one without its end is of a run that broke off.
    let also = folder.path().join(".").join("a");
    let twice = output(command(&["merge", &a, also.to_str().unwrap()])).await;
    assert_eq!(twice.status.code(), Some(64), "{}", text(&twice.stdout));
    let whole = std::fs::read_to_string(&a).unwrap();
    let (cut, _) = whole.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(&a, format!("{cut}\n")).unwrap();
    let args = [
        "merge",
        "--max-lag",
        "10s",
        "--slo",
        slo.to_str().unwrap(),
        &a,
    ];
    let partial = output(command(&args)).await;
    assert_eq!(partial.status.code(), Some(2));
    let said = text(&partial.stdout);
    assert!(said.contains("broke off"), "{said}");
    assert!(!said.contains("SLO: pass"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_log_is_not_merged() {
    let folder = tempfile::tempdir().unwrap();
    let json = file(folder.path(), "report.json", "{}\n");
    let json = json.to_str().unwrap();
    let none = folder.path().join("none");
    for (logs, error) in [
        (vec![json], "report.json: line 1: expected a comment, or "),
        (vec![none.to_str().unwrap()], "none: No such file"),
    ] {
        let output = output(command(&[&["merge"], &logs[..]].concat())).await;
        assert_eq!(output.status.code(), Some(64));
        assert!(
            text(&output.stderr).contains(error),
            "{}",
            text(&output.stderr)
        );
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../config")
        .join(name)
}

#[test]
fn the_files_that_ship_show_every_key() {
    for (name, schema) in [("slo", schema()), ("mix", mix_schema())] {
        let file = shipped(&format!("{name}.schema.json"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &schema).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap();
        assert_eq!(written, schema, "UPDATE=1 writes it");
        let text = std::fs::read_to_string(shipped(&format!("{name}.toml"))).unwrap();
        let keys = aegis_config::keys_mentioned(&text, &schema).unwrap();
        assert_eq!(keys, aegis_config::keys_of_schema(&schema).unwrap());
    }
}

#[test]
fn the_objectives_that_ship_are_those_of_the_mission() {
    let slo = Slo::read(&shipped("slo.toml")).unwrap();
    assert_eq!((slo.least(), slo.wants_accuracy()), (736, false));
    assert_eq!(slo.longest(), Some(Duration::from_millis(1500)));
    let text = std::fs::read_to_string(shipped("slo.toml")).unwrap();
    let everything_on = Slo::parse("slo.toml", &aegis_config::uncommented(&text)).unwrap();
    assert!(everything_on.wants_accuracy());
}
