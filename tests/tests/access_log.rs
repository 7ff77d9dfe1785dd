//! Every request leaves one line, and a name by which it is found again.

use std::path::Path;
use std::time::Duration;

use aegis_e2e::{
    Binaries, CANARY, Client, Play, Process, ProxySetup, STABLE, Scene, SceneSetup, Signal, until,
};
use aegis_protocol::{headers, path};
use anyhow::{Context, Result, ensure};
use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

const DROPPED: &str = "aegis_proxy_access_log_dropped_total";

/// A scene whose proxy writes its log into a folder.
async fn scene(stable: usize, canary: usize, sample: f64) -> Result<(Scene, TempDir)> {
    // An answer may be slow without being late.
    let patient = |proxy: ProxySetup| {
        proxy
            .set("access_log.slow_ms", 500)
            .set_model("timeouts.request_ms", 10_000)
            .set_model("retry.per_try_floor_ms", 4_000)
    };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("access.log").display().to_string();
    let setup = SceneSetup::new(stable, canary).await?.with(|proxy| {
        patient(proxy)
            .set("access_log.path", path)
            .set("access_log.sample", sample)
    });
    Ok((setup.start().await?, folder))
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    lines.collect()
}

/// Waits for the line of a request.
async fn line_of(folder: &TempDir, id: &str) -> Result<Value> {
    let path = folder.path().join("access.log");
    until(&format!("the line of {id}"), async || {
        let lines = lines(&path)?;
        let mut found = lines.into_iter().filter(|line| line["request_id"] == id);
        let line = found.next().context("it is not there")?;
        ensure!(found.next().is_none(), "it is there twice");
        Ok(line)
    })
    .await
}

#[tokio::test]
async fn a_line_says_who_asked_for_what_and_how_it_was_answered() {
    let (scene, folder) = scene(1, 1, 1.0).await.unwrap();
    let client = Client::new();
    let data = scene.proxy.data();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let named = [
        (headers::REQUEST_ID, "mine-1"),
        (headers::TRACEPARENT, &*parent),
    ];
    let asked = format!("{}?user=secret", path::infer("m", Some(CANARY)));
    let answer = client
        .post_with(data, &asked, "{\"a\": 1}", &named)
        .await
        .unwrap();
    assert_eq!(answer.header(&headers::REQUEST_ID), "mine-1");
    let seen = scene.canary[0].take_seen();
    assert_eq!(seen[0].headers[headers::REQUEST_ID], "mine-1");
    assert_eq!(seen[0].headers[headers::TRACEPARENT], parent);

    let line = line_of(&folder, "mine-1").await.unwrap();
    for (field, expected) in [
        ("client", Value::from("127.0.0.1")),
        ("trace_id", trace.into()),
        ("method", "POST".into()),
        ("path", path::infer("m", Some(CANARY)).into()),
        ("protocol", "HTTP/1.1".into()),
        ("model", "m".into()),
        ("version_asked", CANARY.into()),
        ("version_chosen", CANARY.into()),
        ("model_version", CANARY.into()),
        ("route", "pinned".into()),
        ("endpoint", scene.canary[0].address().to_string().into()),
        ("attempts", 1.into()),
        ("status", 200.into()),
        ("bytes_in", 8.into()),
        ("bytes_out", answer.body.len().into()),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    let (first_byte, whole) = (line["ttfb_ms"].as_f64(), line["duration_ms"].as_f64());
    assert!(first_byte > Some(0.0) && first_byte <= whole, "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    for absent in ["reason", "failure"] {
        assert!(line.get(absent).is_none(), "{absent} in {line}");
    }
}

#[tokio::test]
async fn with_a_sample_of_nothing_only_the_remarkable_is_written() {
    let (scene, folder) = scene(2, 1, 0.0).await.unwrap();
    let client = Client::new();
    let data = scene.proxy.data();
    let infer = scene.proxy.infer_path();
    for _ in 0..20 {
        let answer = scene.proxy.infer("{}").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    }
    // Retried: the first endpoint that is asked hangs up.
    for endpoint in &scene.stable {
        endpoint.play_first_attempts(Play::HangUp);
    }
    let by_version = |id: &'static str, version: &'static str| {
        [(headers::REQUEST_ID, id), (headers::MODEL_VERSION, version)]
    };
    let retried = by_version("retried", STABLE);
    let answer = client.post_with(data, &infer, "{}", &retried).await;
    assert_eq!(answer.unwrap().status, StatusCode::OK);
    // An error of the endpoint's.
    scene.canary[0].play(Play::Status(StatusCode::NOT_IMPLEMENTED));
    let failed = by_version("failed", CANARY);
    let answer = client.post_with(data, &infer, "{}", &failed).await;
    assert_eq!(answer.unwrap().status, StatusCode::NOT_IMPLEMENTED);
    // A refusal of our own.
    let refused = by_version("refused", "9");
    let answer = client.post_with(data, &infer, "{}", &refused).await;
    assert_eq!(answer.unwrap().status, StatusCode::NOT_FOUND);
    // Slow, which an answer is that takes longer than `access_log.slow_ms`.
    scene.canary[0].play(Play::AnswerAfter(Duration::from_millis(600)));
    let slow = by_version("slow", CANARY);
    let answer = client.post_with(data, &infer, "{}", &slow).await;
    assert_eq!(answer.unwrap().status, StatusCode::OK);

    let line = line_of(&folder, "retried").await.unwrap();
    assert_eq!(
        (&line["attempts"], &line["status"]),
        (&2.into(), &200.into())
    );
    assert!(line["failure"].is_string(), "{line}");
    let line = line_of(&folder, "failed").await.unwrap();
    assert_eq!(line["status"], 501, "{line}");
    let line = line_of(&folder, "refused").await.unwrap();
    assert_eq!(line["reason"], "unknown_version", "{line}");
    assert_eq!((&line["attempts"], line.get("endpoint")), (&0.into(), None));
    let line = line_of(&folder, "slow").await.unwrap();
    assert!(line["duration_ms"].as_f64() > Some(500.0), "{line}");
    let mut quick = lines(&folder.path().join("access.log")).unwrap();
    // On a machine that is busy, others may be slow too.
    quick.retain(|line| line["duration_ms"].as_f64() < Some(500.0));
    assert!(quick.len() <= 3, "{quick:?}");
}

#[tokio::test]
async fn a_request_whose_client_leaves_has_its_line_too() {
    let (scene, folder) = scene(1, 0, 1.0).await.unwrap();
    scene.stable[0].play(Play::Hang);
    let client = Client::new();
    let infer = scene.proxy.infer_path();
    let named = [(headers::REQUEST_ID, "left")];
    let asking = client.post_with(scene.proxy.data(), &infer, "{}", &named);
    let arrived = until("the request to arrive", async || {
        ensure!(scene.stable[0].asked() == 1, "it has not");
        Ok(())
    });
    tokio::select! {
        answer = asking => panic!("nobody answered: {answer:?}"),
        arrived = arrived => arrived.unwrap(),
    }
    // Its connection goes with the client.
    drop(client);
    let line = line_of(&folder, "left").await.unwrap();
    assert_eq!(line["status"], 499, "{line}");
    assert_eq!(line["model"], "m", "{line}");
}

#[tokio::test]
async fn a_log_that_is_turned_over_goes_on_in_a_new_file_and_loses_nothing() {
    let (scene, folder) = scene(1, 0, 1.0).await.unwrap();
    let path = folder.path().join("access.log");
    let old = folder.path().join("access.log.1");
    for _ in 0..50 {
        scene.proxy.infer("{}").await.unwrap();
    }
    until("50 lines", async || {
        let found = lines(&path)?.len();
        ensure!(found == 50, "there are {found}");
        Ok(())
    })
    .await
    .unwrap();
    std::fs::rename(&path, &old).unwrap();
    for _ in 0..50 {
        scene.proxy.infer("{}").await.unwrap();
    }
    until("50 more lines", async || {
        let found = lines(&path)?.len();
        ensure!(found == 50, "there are {found}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(lines(&old).unwrap().len(), 50);
    let metrics = scene.proxy.metrics().await.unwrap();
    for reason in ["full", "write_failed"] {
        assert_eq!(metrics.count(DROPPED, &[("reason", reason)]).unwrap(), 0);
    }
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_process_ends() {
    let (mut scene, folder) = scene(1, 0, 1.0).await.unwrap();
    for _ in 0..10 {
        scene.proxy.infer("{}").await.unwrap();
    }
    scene.proxy.process.signal(Signal::TERM).unwrap();
    let exit = scene.proxy.process.exited().await.unwrap();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let lines = lines(&folder.path().join("access.log")).unwrap();
    assert_eq!(lines.len(), 10, "{lines:?}");
}

#[tokio::test]
async fn requests_of_two_clients_with_no_or_senseless_names_get_different_ones() {
    let scene = Scene::start(1, 0).await.unwrap();
    let client = Client::new();
    let long = "x".repeat(129);
    let mut names = Vec::new();
    for given in [None, Some("a b"), Some(&*long), Some("")] {
        let header: Vec<_> = given
            .map(|id| (headers::REQUEST_ID, id))
            .into_iter()
            .collect();
        let infer = scene.proxy.infer_path();
        let answer = client
            .post_with(scene.proxy.data(), &infer, "{}", &header)
            .await
            .unwrap();
        names.push(answer.header(&headers::REQUEST_ID).to_owned());
    }
    let seen = scene.stable[0].take_seen();
    for (at, seen) in seen.iter().enumerate() {
        let upstream: Vec<_> = seen.headers.get_all(headers::REQUEST_ID).iter().collect();
        assert_eq!(upstream, [names[at].as_str()]);
        assert_eq!(names[at].len(), 32, "{names:?}");
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4, "{names:?}");
    // A refusal and an answer of our own carry one, too.
    for path in ["/v2/nothing", "/v2"] {
        let answer = client.get(scene.proxy.data(), path).await.unwrap();
        assert_eq!(answer.header(&headers::REQUEST_ID).len(), 32, "{answer:?}");
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_ends_the_start_with_its_key() {
    let programs = Binaries::built().unwrap();
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let text = setup
        .proxy
        .set("access_log.path", "/no/such/folder/access.log")
        .text();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, text).unwrap();
    let arguments = ["serve".as_ref(), "--config".as_ref(), file.as_os_str()];
    let finished = Process::run(&programs.proxy, arguments).await;
    let finished = finished.unwrap();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert!(finished.stderr.contains("access_log.path"), "{finished:?}");
}
