//! `aegis-loadtest tune` as a program, which starts the real backend for each setting.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::{Output, Stdio};

use aegis_e2e::{Binaries, workspace_root};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// A batch takes 20 ms, whatever is in it: twice the batch is twice the rate.
const MODEL: &str = "\
    # of our own\n\
    platform = \"scripted\"\nmax_batch_size = 3\n\
    [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n\
    [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n\
    [scripted]\nanswer = \"sum\"\nbatch_ms = 20\n";

const CONFIG: &str = "listen = \"127.0.0.1:8000\"\n[models.slow]\nversions = [\"1\"]\n";

fn slo(below_ms: f64) -> String {
    format!("availability = 0.9\n[[latency]]\nquantile = 0.5\nbelow_ms = {below_ms}\n")
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("models/slow/1")).unwrap();
    std::fs::write(at("models/slow/model.toml"), MODEL).unwrap();
    std::fs::write(at("backend.toml"), CONFIG).unwrap();
    std::fs::write(at("slo.toml"), slo(1000.0)).unwrap();
    folder
}

fn command(folder: &Path, backend: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(Binaries::loadtest().unwrap());
    command
        .args(["tune", "--config", "backend.toml", "--slo", "slo.toml"])
        .args(["--batch", "1,4", "--instances", "1", "--measure", "400ms"])
        .args(["--max-lag", "10s", "--json", "tune.json"])
        .arg("--backend")
        .arg(backend)
        .args(more)
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

async fn tune(folder: &Path, backend: &Path, more: &[&str]) -> Output {
    command(folder, backend, more).output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_larger_batch_is_found_and_nothing_of_the_users_is_changed() {
    let folder = folder();
    let backend = &Binaries::built().unwrap().backend;
    let more = [
        "--model",
        "slow",
        "--target-rate",
        "1000",
        "--plot",
        "tune.svg",
    ];
    let output = tune(folder.path(), backend, &more).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}\n{stdout}");
    assert!(
        stdout.contains("\nmax_batch_size = 4\ninstances = 1\n"),
        "{stdout}"
    );
    let json = std::fs::read(folder.path().join("tune.json")).unwrap();
    let tuning: Value = serde_json::from_slice(&json).unwrap();
    let best = &tuning["best"];
    let per_pod = best["per_pod"].as_f64().unwrap();
    assert!(10.0 < per_pod && per_pod <= 200.0, "4 in 20 ms: {tuning}");
    let replicas = best["replicas"].as_f64().unwrap();
    assert!(
        (replicas - 1.0 - (1000.0 / per_pod).ceil()).abs() < 0.1,
        "{tuning}"
    );
    assert!(best["queue_depth"].as_f64().unwrap() >= 1.0, "{tuning}");
    // A batch of one can do 50/s at the most, which needs no run.
    assert_eq!(tuning["untried"], 1, "{tuning}");
    let svg = std::fs::read_to_string(folder.path().join("tune.svg")).unwrap();
    assert!(
        svg.contains("instances = 1") && svg.contains("<circle"),
        "{svg}"
    );
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("models/slow/model.toml"), MODEL);
    assert_eq!(read("backend.toml"), CONFIG);
}

#[tokio::test(flavor = "multi_thread")]
async fn objectives_that_no_setting_keeps_are_a_failure() {
    let folder = folder();
    std::fs::write(folder.path().join("slo.toml"), slo(5.0)).unwrap();
    let backend = &Binaries::built().unwrap().backend;
    let output = tune(folder.path(), backend, &["--model", "slow"]).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stderr}\n{stdout}");
    assert!(
        stdout.contains("no setting was seen to keep the objectives"),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_run_is_said_in_the_words_of_whoever_refused() {
    let backend = &Binaries::built().unwrap().backend;
    let slow = &["--model", "slow"][..];
    let nowhere = Path::new("nowhere/aegis-backend");
    for (file, broken, program, more, code, says) in [
        (
            "none",
            "",
            nowhere,
            slow,
            64,
            "--backend: nowhere/aegis-backend: No such file",
        ),
        (
            "none",
            "",
            backend.as_path(),
            &["--model", "nobody"],
            64,
            "expected [models.nobody], got slow",
        ),
        (
            "slo.toml",
            "availability = 2",
            backend,
            slow,
            64,
            "--slo: slo.toml",
        ),
        (
            "backend.toml",
            "max_connectons = 1\n[models.slow]\nversions = [\"1\"]\n",
            backend,
            slow,
            1,
            "max_connections",
        ),
        (
            "models/slow/model.toml",
            "platform = \"torchscript\"\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n\
             [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n",
            backend,
            slow,
            1,
            "did not load the model `slow` version 1: ",
        ),
    ] {
        let folder = folder();
        std::fs::write(folder.path().join(file), broken).unwrap();
        let output = tune(folder.path(), program, more).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{says}: {stderr}");
        assert!(stderr.contains(says), "{says}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_help_works_as_printed() {
    let program = Binaries::loadtest().unwrap();
    let help = Command::new(program)
        .args(["tune", "--help"])
        .output()
        .await;
    let help = help.unwrap().stdout;
    let (_, example) = text(&help).split_once("\n  aegis-loadtest tune ").unwrap();
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // Other programs, another place for the picture, and lateness of a busy machine; nothing else.
    let backend = &Binaries::built().unwrap().backend;
    let example = example
        .replace("target/release/aegis-backend", backend.to_str().unwrap())
        .replace("tune.svg", &at("tune.svg"));
    let command = format!(
        "{} tune {} --max-lag 10s",
        program.display(),
        example.trim()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).current_dir(workspace_root());
    let output = shell.output().await.unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{command}: {stderr}\n{stdout}"
    );
    assert!(stdout.contains("\nmax_batch_size = "), "{stdout}");
    assert!(Path::new(&at("tune.svg")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_too_small_to_tell_are_no_failure_of_the_settings() {
    let folder = folder();
    // It takes some 3,700 requests to show as much, and 50 are answered a second.
    let slo = "[[latency]]\nquantile = 0.999\nbelow_ms = 20000\n";
    std::fs::write(folder.path().join("slo.toml"), slo).unwrap();
    let backend = &Binaries::built().unwrap().backend;
    let more = ["--model", "slow", "--batch", "1", "--max-runs", "2"];
    let output = tune(folder.path(), backend, &more).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{stderr}\n{stdout}");
    assert!(stdout.contains("a run was too small"), "{stdout}");
    assert!(stdout.contains("no setting was seen to keep"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_backend_and_reports_what_was_tried() {
    let folder = folder();
    let backend = &Binaries::built().unwrap().backend;
    let mut command = command(
        folder.path(),
        backend,
        &["--model", "slow", "--measure", "1h"],
    );
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The backend runs when its first setting is measured.
    let first = loop {
        let line = lines.next_line().await.unwrap().expect("it goes on");
        if line.contains(": capacity") {
            break line;
        }
    };
    assert!(first.contains("max_batch_size 4"), "{first}");
    let children = format!("cat /proc/{}/task/*/children", child.id().unwrap());
    let started = Command::new("sh").args(["-c", &children]).output().await;
    let started = text(&started.unwrap().stdout).trim().to_owned();
    assert!(!started.is_empty(), "a backend is asked");
    let interrupt = format!("kill -INT {}", child.id().unwrap());
    let sent = Command::new("sh").args(["-c", &interrupt]).status().await;
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{stdout}");
    assert!(stdout.contains("partial: stopped by Ctrl-C"), "{stdout}");
    let json = std::fs::read(folder.path().join("tune.json")).unwrap();
    let tuning: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(tuning["partial"], "stopped by Ctrl-C");
    // It was killed; who inherits it may leave its entry until it is asked for.
    let gone = format!("! [ -e /proc/{started} ] || grep -q '^State:.Z' /proc/{started}/status");
    aegis_e2e::until("the backend is gone", async || {
        let status = Command::new("sh").args(["-c", &gone]).status().await?;
        anyhow::ensure!(status.success(), "{started} runs");
        Ok(())
    })
    .await
    .unwrap();
}
