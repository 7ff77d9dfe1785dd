//! The load tester as a program, against the real backend and the real proxy.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use aegis_e2e::digits::{MODEL, held_out_path};
use aegis_e2e::{Backend, BackendSetup, Binaries, STABLE, Stack, StackSetup, workspace_root};
use aegis_loadtest::slo::Verdict;
use aegis_loadtest::{Dataset, Report};
use tempfile::TempDir;
use tokio::process::Command;

/// A machine that builds and tests meanwhile is late, which is not what these tests are about.
const LENIENT: [&str; 4] = ["--max-lag", "10s", "--timeout", "20s"];

/// Objectives that the shortest run can show, and a slow machine keeps.
const SLO: &str =
    "availability = 0.9\naccuracy = 0.8\n[[latency]]\nquantile = 0.5\nbelow_ms = 15000\n";

struct Tester {
    program: PathBuf,
    folder: TempDir,
}

impl Tester {
    fn new() -> Self {
        Self {
            program: Binaries::loadtest().unwrap().to_owned(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    async fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        let command = command.args(args).current_dir(workspace_root());
        command.stdin(Stdio::null()).output().await.unwrap()
    }

    /// Runs half a second at 200 requests a second, and reads its report.
    async fn run(&self, url: &str, more: &[&str]) -> (Option<i32>, Report, String) {
        let json = self.path("report.json");
        let load = [
            "run",
            "--url",
            url,
            "--rate",
            "200",
            "--warmup",
            "0s",
            "--duration",
            "500ms",
        ];
        let args = [&load[..], &LENIENT, &["--json", &json], more].concat();
        let output = self.output(&args).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        let report = std::fs::read(&json).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        let report =
            serde_json::from_slice(&report).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        (output.status.code(), report, stderr)
    }
}

async fn backend() -> (Backend, String) {
    let setup = BackendSetup::new(MODEL, &[STABLE]);
    let backend = setup.start(Binaries::built().unwrap()).await.unwrap();
    backend.ready().await.unwrap();
    let url = format!("http://{}", backend.address());
    (backend, url)
}

async fn stack(folder: &Path) -> (Stack, String) {
    let setup = StackSetup::new(Binaries::built().unwrap().clone(), folder.to_owned());
    let stack = setup.start().await.unwrap();
    let url = format!("http://{}", stack.proxy.data());
    (stack, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_is_answered_and_right() {
    let (_backend, url) = backend().await;
    let tester = Tester::new();
    let slo = tester.path("slo.toml");
    std::fs::write(&slo, SLO).unwrap();
    let data = held_out_path();
    let data = [
        "--model",
        MODEL,
        "--data",
        data.to_str().unwrap(),
        "--slo",
        &slo,
    ];
    for transport in ["json", "binary", "grpc"] {
        let args = [&data[..], &["--transport", transport]].concat();
        let (code, report, stderr) = tester.run(&url, &args).await;
        assert_eq!(code, Some(0), "{transport}: {stderr}\n{report}");
        let summary = &report.summary;
        assert!(summary.requests > 50, "{transport}: {report}");
        assert_eq!(
            (summary.ok, summary.scored),
            (summary.requests, summary.requests)
        );
        assert_eq!(
            summary.versions.keys().collect::<Vec<_>>(),
            [STABLE],
            "{report}"
        );
        assert_eq!(report.slo.unwrap().verdict, Verdict::Pass);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_asked_with_no_file_at_hand() {
    let (_backend, url) = backend().await;
    let tester = Tester::new();
    for transport in ["json", "binary", "grpc"] {
        let args = [
            "--model",
            MODEL,
            "--transport",
            transport,
            "--rows",
            "2",
            "--draw",
            "0..16",
        ];
        let (code, report, stderr) = tester.run(&url, &args).await;
        assert_eq!(code, Some(0), "{transport}: {stderr}\n{report}");
        assert_eq!(report.summary.ok, report.summary.requests, "{report}");
        assert_eq!(report.summary.scored, 0, "nobody knows what is right");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mix_that_ships_goes_through_the_proxy_and_is_reported_by_kind() {
    let tester = Tester::new();
    let (_stack, url) = stack(&tester.folder.path().join("stack")).await;
    for transport in ["json", "grpc"] {
        let args = ["--mix", "config/mix.toml", "--transport", transport];
        let (code, report, stderr) = tester.run(&url, &args).await;
        assert_eq!(code, Some(0), "{stderr}\n{report}");
        let parts = &report.summary.parts;
        let (interactive, background) = (&parts["interactive"], &parts["background"]);
        let all = interactive.finished + background.finished;
        assert_eq!(all, report.summary.finished, "{report}");
        assert!(interactive.finished > background.finished, "{report}");
        assert!(
            background.ok > 0 && background.accuracy.is_none(),
            "{report}"
        );
        assert!(interactive.accuracy.unwrap() > 0.8, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_have_or_take_is_said_before_anything_is_sent() {
    let (backend, url) = backend().await;
    let tester = Tester::new();
    let wrong = tester.path("wrong.csv");
    std::fs::write(&wrong, "1,2,3,7\n").unwrap();
    for (args, code, says) in [
        (&["--model", "nobody"][..], 64, "has no model `nobody`: "),
        (
            &["--model", "nobody", "--transport", "grpc"],
            64,
            "has no model `nobody`: grpc-status 5: ",
        ),
        (
            &["--model", MODEL, "--version", "9"],
            64,
            "has no model `digits` version 9: ",
        ),
        (
            &["--model", MODEL, "--data", &wrong],
            64,
            "input `image`: expected FP32 [-1,64], got 3 numbers",
        ),
        (
            &["--model", MODEL, "--data", "README.md"],
            64,
            "expected a folder of PNGs, or a name that ends in .csv, .jsonl, .npy or .png",
        ),
        (
            &[
                "--model",
                MODEL,
                "--slo",
                "config/slo.toml",
                "--duration",
                "1s",
            ],
            2,
            "the run is too small",
        ),
    ] {
        let load = ["run", "--url", &url, "--rate", "100", "--warmup", "0s"];
        let output = tester.output(&[&load[..], args].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    let metrics = backend.metrics().await.unwrap();
    let answered = metrics.sum("aegis_inference_requests_total", &[]);
    assert!(answered.abs() < f64::EPSILON, "{answered} were sent");
}

/// The examples of `--help`, as they are printed.
async fn examples(tester: &Tester, subcommand: &str) -> Vec<String> {
    let output = tester.output(&[subcommand, "--help"]).await;
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, examples) = help
        .split_once("\nExample")
        .unwrap_or_else(|| panic!("no example: {help}"));
    let joined = examples.replace("\\\n", " ");
    let commands = joined
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("aegis-loadtest "));
    commands.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_help_work_as_printed() {
    let tester = Tester::new();
    let (stack, url) = stack(&tester.folder.path().join("stack")).await;
    let program = tester.program.to_str().unwrap();
    // Two logs for `merge`, where its example looks for them.
    for name in ["one.hlog", "two.hlog"] {
        let log = tester.path(name);
        let args = [
            "--model",
            MODEL,
            "--rate",
            "150",
            "--duration",
            "4s",
            "--hdr",
            &log,
        ];
        let (code, _, stderr) = tester.run(&url, &args).await;
        assert_eq!(code, Some(0), "{stderr}");
    }
    let mut ran = 0;
    let backend = format!("http://{}", stack.stable[0].address());
    for subcommand in ["run", "merge", "safety", "compare"] {
        for example in examples(&tester, subcommand).await {
            // Other addresses, the logs' folder, and lateness of a busy machine; nothing else.
            let lenient = " --max-lag 10s";
            let command = example
                .replacen("aegis-loadtest", program, 1)
                .replace("http://127.0.0.1:8080", &url)
                .replace("http://127.0.0.1:8000", &backend)
                .replace("one.hlog", &tester.path("one.hlog"))
                .replace("two.hlog", &tester.path("two.hlog"))
                .replace("run.html", &tester.path("run.html"))
                .replace("safety.html", &tester.path("safety.html"));
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{command}{lenient}")]);
            let output = shell.current_dir(workspace_root()).output().await.unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            let stdout = String::from_utf8_lossy(&output.stdout);
            // Which of two versions is slower is the machine's to say; that they were compared is not.
            let is_well = if subcommand == "compare" {
                output.status.code().is_some_and(|code| code <= 2)
                    && stdout.contains("6 pairs of 100 requests/s")
                    && stdout.contains("\nerrors ")
            } else {
                output.status.success()
            };
            assert!(is_well, "{example}: {:?} {stderr}\n{stdout}", output.status);
            ran += 1;
        }
    }
    assert!(ran >= 7, "{ran}");
}

/// A grey picture of the bundled model's size.
fn picture(pixels: &[f32]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "pixels are from 0 to 16"
    )]
    let bytes: Vec<u8> = pixels
        .iter()
        .map(|pixel| (pixel * 255.0 / 16.0) as u8)
        .collect();
    writer.write_image_data(&bytes).unwrap();
    writer.finish().unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_in_folders_of_their_labels_are_asked_and_answered_rightly() {
    let (_backend, url) = backend().await;
    let tester = Tester::new();
    let data = Dataset::from_csv(&held_out_path()).unwrap();
    for (number, example) in data.examples().iter().enumerate().take(100) {
        let folder = tester.path(&format!("digits/{}", example.label));
        std::fs::create_dir_all(&folder).unwrap();
        let path = format!("{folder}/{number}.png");
        std::fs::write(path, picture(&example.input)).unwrap();
    }
    let folder = tester.path("digits");
    for transport in ["json", "grpc"] {
        let args = ["--model", MODEL, "--data", &folder, "--pixels", "0..16"];
        let args = [&args[..], &["--transport", transport]].concat();
        let (code, report, stderr) = tester.run(&url, &args).await;
        assert_eq!(code, Some(0), "{stderr}\n{report}");
        assert!(report.summary.accuracy.unwrap() > 0.9, "{report}");
        assert_eq!(report.summary.scored, report.summary.requests, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_are_compared_over_every_transport_and_with_a_mix() {
    let (_one, a) = backend().await;
    let (_other, b) = backend().await;
    let tester = Tester::new();
    let json = tester.path("compare.json");
    let short = [
        "--pairs",
        "6",
        "--rate",
        "60",
        "--duration",
        "300ms",
        "--warmup",
        "0s",
    ];
    let lenient = [
        "--max-lag",
        "10s",
        "--timeout",
        "20s",
        "--quiet",
        "--json",
        &json,
    ];
    let drawn = ["--model", MODEL, "--draw", "0..16", "--version", STABLE];
    for (what, transport, said, models) in [
        (&drawn[..], "binary", " in binary", MODEL),
        (&drawn[..], "grpc", " over gRPC", MODEL),
        (&["--mix", "config/mix.toml"], "grpc", " over gRPC", MODEL),
    ] {
        let sides = ["compare", &a, &b, "--transport", transport];
        let output = tester
            .output(&[&sides[..], what, &short, &lenient].concat())
            .await;
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        // Which is faster is the machine's to say; that nothing failed is ours.
        assert!(
            output.status.code().is_some_and(|code| code <= 2),
            "{stderr}"
        );
        assert!(
            stdout.contains(&format!("6 pairs of 60 requests/s for 0.3 s{said}")),
            "{stdout}{stderr}"
        );
        let text = std::fs::read(&json).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(report["transport"], transport);
        assert_eq!(report["a"]["model"], models);
        let pairs = report["pairs"].as_array().unwrap();
        for pair in pairs {
            let of = |side: &str, key: &str| pair[side][key].as_u64().unwrap();
            assert_eq!((of("a", "failed"), of("b", "failed")), (0, 0), "{report}");
            assert_eq!(of("a", "due"), of("b", "due"), "pairs share their seeds");
        }
    }
    for (args, says) in [
        (
            &["--mix", "config/mix.toml", "--version-a", "1"][..],
            "cannot be used with",
        ),
        (&["--model", "nobody"], "has no model `nobody`"),
    ] {
        let output = tester.output(&[&["compare", &a, &b], args].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}
