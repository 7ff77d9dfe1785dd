//! The program: flags, streams, files and exit codes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use aegis_loadtest::Report;

use crate::server::{Server, label, right};
use crate::{DIGITS, closed_port, until};

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-loadtest"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs against `url` for a moment, with ten digits as data.
pub(crate) fn run_command(folder: &Path, url: &str, more: &[&str]) -> Command {
    let mut command = load_command(folder, url, &["--rate", "200"]);
    command.args(more);
    command
}

/// The same with a load of its own.
pub(crate) fn load_command(folder: &Path, url: &str, load: &[&str]) -> Command {
    let data = folder.join("digits.csv");
    std::fs::write(&data, DIGITS).expect("a file in a folder of our own");
    let data = data.to_str().expect("a plain path");
    let mut command = command(&["run", "--url", url, "--model", "digits", "--data", data]);
    // A machine that builds meanwhile is late, which is not what these tests are about.
    command
        .args(["--warmup", "0s", "--max-lag", "10s"])
        .args(load);
    command
}

pub(crate) async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("the program starts"))
        .await
        .expect("no panic")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_prints_a_table_and_writes_json() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let more = ["--duration", "300ms", "--json", json.to_str().unwrap()];
    let output = output(run_command(folder.path(), &server.url, &more)).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stderr),
        "",
        "no progress where there is no terminal"
    );
    let table = text(&output.stdout);
    assert!(table.contains("version        answers    share"), "{table}");
    assert!(
        table.contains("errors    connect: 0, reset: 0, timeout: 0, bad_answer: 0"),
        "{table}"
    );
    let report: Report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report.summary.requests, server.requests());
    assert_eq!(report.summary.right, server.requests());
    assert_eq!(
        report.to_string(),
        table,
        "the file says what the table says"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_fails_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (_socket, url) = closed_port();
    let output = output(run_command(folder.path(), &url, &["--duration", "100ms"])).await;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    let sentence = format!("aegis-loadtest: {url} answered no request: connect: ");
    assert!(error.starts_with(&sentence), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_never_right_fails_with_a_sentence() {
    let server = Server::start(async |_| Some(label(-1))).await;
    let folder = tempfile::tempdir().unwrap();
    let output = output(run_command(
        folder.path(),
        &server.url,
        &["--duration", "100ms"],
    ))
    .await;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.ends_with("answers had the right label\n"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_early_and_still_reports() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let child = run_command(folder.path(), &server.url, &["--duration", "1h"])
        .spawn()
        .unwrap();
    until("it sends", || server.requests() > 10).await;
    let interrupt = format!("kill -INT {}", child.id());
    let kill = Command::new("sh")
        .args(["-c", &interrupt])
        .status()
        .unwrap();
    assert!(kill.success());
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("(partial: stopped by Ctrl-C, after "),
        "{}",
        text(&output.stdout)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_earlier_run_stay_when_there_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let (_socket, url) = closed_port();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (page, json) = (path("old.html"), path("old.json"));
    for subcommand in ["run", "safety"] {
        for file in [&page, &json] {
            std::fs::write(file, "of an earlier run").unwrap();
        }
        let files = ["--html", &page, "--json", &json];
        let output = if subcommand == "run" {
            output(run_command(folder.path(), &url, &files)).await
        } else {
            let cases = path("cases.jsonl");
            std::fs::write(&cases, "{\"expect\":\"safe\",\"request\":{}}\n").unwrap();
            let args = ["safety", "--url", &url, "--model", "m", "--cases", &cases];
            // Refused as it begins: the load beside would be of no request.
            let more = ["--load", "10", "--max-lag", "1s"];
            output(command(&[&args[..], &more, &files].concat())).await
        };
        assert_ne!(output.status.code(), Some(0), "{subcommand}");
        for file in [&page, &json] {
            let left = std::fs::read_to_string(file).unwrap();
            assert_eq!(
                left,
                "of an earlier run",
                "{subcommand}: {}",
                text(&output.stderr)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_of_a_mix_and_a_deadline_of_nothing_are_refused_and_not_ignored() {
    let mix = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/mix.toml");
    for (more, error) in [
        (
            &["--mix", mix, "--output", "label"][..],
            "'--mix <FILE>' cannot be used with '--output <OUTPUT>'",
        ),
        (
            &["--model", "m", "--deadline", "0s"][..],
            "expected more than nothing, got `0s`",
        ),
        (
            &["--model", "m", "--pixels", "1..x"][..],
            "expected two numbers as 0..255, got `1..x`",
        ),
    ] {
        let args = [&["run", "--url", "http://h"], more].concat();
        let output = output(command(&args)).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        assert!(stderr.contains(error), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_told_from_failure() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["--version"][..], 0),
        (&[][..], 64),
        (&["run"][..], 64),
        (
            &[
                "run", "--url", "x", "--model", "m", "--data", "d", "--rate", "0",
            ][..],
            64,
        ),
        (
            &[
                "run",
                "--url",
                "x",
                "--model",
                "m",
                "--data",
                "d",
                "--duration",
                "5",
            ][..],
            64,
        ),
        (
            &["run", "--url", "x", "--model", "m", "--data", "d"][..],
            64,
        ),
        (
            &[
                "run", "--url", "http://h", "--model", "m", "--data", "no/such",
            ][..],
            64,
        ),
    ] {
        let output = output(command(args)).await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    let folder = tempfile::tempdir().unwrap();
    for (flag, value, error) in [
        (
            "--connections",
            "0",
            "connections: expected 1 to 524288, got 0",
        ),
        (
            "--timeout",
            "0s",
            "timeout: expected more than 0ns and at most 3600s, got 0ns",
        ),
        (
            "--json",
            "no/such/folder/report.json",
            "--json: no/such/folder/report.json: ",
        ),
    ] {
        let output = output(run_command(folder.path(), "http://h", &[flag, value])).await;
        assert_eq!(output.status.code(), Some(64), "{flag}");
        let text = text(&output.stderr);
        assert!(
            text.starts_with(&format!("aegis-loadtest: {error}")),
            "{text}"
        );
    }
}
