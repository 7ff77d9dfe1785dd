//! Endpoints that hang, crawl, fail and refuse: what clients see of it, and what operators do.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use aegis_e2e::{CANARY, Client, Hammer, Play, Proxy, STABLE, Scene, SceneSetup, Seen, until};
use aegis_protocol::{Reason, headers};
use anyhow::ensure;
use http::{HeaderName, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TRANSITIONS: &str = "aegis_proxy_breaker_transitions_total";
const RETRIES: &str = "aegis_proxy_retries_total";
const CLIENTS: usize = 4;

/// So many endpoints of version 1, whose latency the proxy knows.
async fn warm(stable: usize) -> Scene {
    let setup = SceneSetup::new(stable, 0).await.unwrap();
    // At their full share from the start, so that all of them are asked.
    let setup = setup.with(|proxy| proxy.set_model("balance.slow_start_ms", 0));
    let scene = setup.start().await.unwrap();
    let load = hammer(&scene.proxy);
    load.ask(400).await.unwrap();
    load.stop().await.all_ok().unwrap();
    scene
}

fn hammer(proxy: &Proxy) -> Hammer {
    Hammer::start(proxy.data(), &proxy.infer_path(), "{}", CLIENTS)
}

async fn endpoint_status(proxy: &Proxy, version: &str, index: usize) -> Value {
    let status = proxy.ask_admin("/status").await.unwrap().json().unwrap();
    status["models"]["m"]["versions"][version]["endpoints"][index].clone()
}

/// How often breakers opened.
async fn opened(proxy: &Proxy) -> u64 {
    let metrics = proxy.metrics().await.unwrap();
    metrics.count(TRANSITIONS, &[("to", "open")]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_endpoint_is_rescued_from_and_taken_out() {
    let scene = warm(4).await;
    let hung = scene.stable[0].address().to_string();
    scene.stable[0].play(Play::Hang);
    let load = hammer(&scene.proxy);
    scene.proxy.until_available(STABLE, 0.75).await.unwrap();
    load.ask(100).await.unwrap();
    load.stop().await.all_ok().unwrap();
    let metrics = scene.proxy.metrics().await.unwrap();
    let made = [("reason", "timeout"), ("result", "made")];
    assert!(metrics.count(RETRIES, &made).unwrap() > 0);
    let state = metrics.value("aegis_proxy_breaker_state", &[("endpoint", &hung)]);
    assert_eq!(state, Some(2.0), "open");
    // And the reason can be read.
    let status = scene
        .proxy
        .ask_admin("/status")
        .await
        .unwrap()
        .json()
        .unwrap();
    let endpoints = status["models"]["m"]["versions"][STABLE]["endpoints"]
        .as_array()
        .unwrap();
    let open = endpoints
        .iter()
        .find(|e| e["address"] == hung.as_str())
        .unwrap();
    assert!(
        open["tripped_by"]["detail"]
            .as_str()
            .is_some_and(|d| !d.is_empty()),
        "{open}"
    );
    assert!(open["open_for_seconds"].as_f64().unwrap() > 0.0, "{open}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_keeps_no_client_waiting() {
    let scene = warm(4).await;
    scene.stable[0].play(Play::AnswerAfter(Duration::from_millis(1_200)));
    let load = hammer(&scene.proxy);
    scene.proxy.until_available(STABLE, 0.75).await.unwrap();
    load.ask(100).await.unwrap();
    load.stop().await.all_ok().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_is_never_seen_by_a_client() {
    for status in [500, 502, 503, 504] {
        let scene = warm(4).await;
        scene.stable[0].play(Play::Status(StatusCode::from_u16(status).unwrap()));
        let load = hammer(&scene.proxy);
        scene.proxy.until_available(STABLE, 0.75).await.unwrap();
        load.ask(100).await.unwrap();
        load.stop().await.all_ok().unwrap();
    }
}

#[tokio::test]
async fn a_poisonous_input_trips_nothing() {
    let setup = SceneSetup::new(3, 1).await.unwrap();
    // So that no retry is refused for its price.
    let setup = setup.with(|proxy| proxy.set_model("retry.budget_per_second", 1_000));
    let scene = setup.start().await.unwrap();
    for endpoint in scene.stable.iter().chain(&scene.canary) {
        endpoint.play(Play::Status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    for _ in 0..60 {
        let answer = scene.proxy.infer("{}").await.unwrap();
        assert_eq!(
            answer.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer is passed on"
        );
    }
    assert_eq!(opened(&scene.proxy).await, 0);
}

#[tokio::test]
async fn a_500_is_charged_when_another_endpoint_answers_the_same_request() {
    let scene = warm(2).await;
    for _ in 0..20 {
        scene.stable[0].play_once(Play::Status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    until("the breaker to open", async || {
        ensure!(scene.proxy.infer("{}").await?.status == StatusCode::OK);
        ensure!(opened(&scene.proxy).await == 1);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_left_alone_and_charged_nothing() {
    let setup = SceneSetup::new(2, 0).await.unwrap();
    // By latency, one that a busy machine made slow while it warmed up would never be asked.
    let setup = setup.with(|proxy| {
        proxy
            .set_model("balance.slow_start_ms", 0)
            .set_model("balance.by", "least_request")
    });
    let scene = setup.start().await.unwrap();
    scene.stable[0].play(Play::Refuse(Reason::QueueFull));
    for _ in 0..200 {
        assert_eq!(
            scene.proxy.infer("{}").await.unwrap().status,
            StatusCode::OK
        );
    }
    assert_eq!(opened(&scene.proxy).await, 0);
    let metrics = scene.proxy.metrics().await.unwrap();
    let made = [("reason", "pushback"), ("result", "made")];
    let retried = metrics.count(RETRIES, &made).unwrap();
    assert!((1..20).contains(&retried), "{retried} of 200 went there");
}

#[tokio::test]
async fn a_refusal_by_everybody_is_passed_on_with_its_reason() {
    let scene = warm(1).await;
    scene.stable[0].play(Play::Refuse(Reason::QueueFull));
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::TOO_MANY_REQUESTS, "queue_full")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_crawls_is_left_while_stable_answers_for_it() {
    let setup = SceneSetup::new(2, 1).await.unwrap();
    let setup = setup.with(|proxy| {
        let proxy = proxy.set_model("breaker.latency_threshold_ms", 100);
        proxy.set_model("breaker.open_base_ms", 120_000)
    });
    let scene = setup.start().await.unwrap();
    scene.canary[0].play(Play::AnswerAfter(Duration::from_secs(1)));
    let load = hammer(&scene.proxy);
    scene.proxy.until_available(CANARY, 0.0).await.unwrap();
    load.ask(200).await.unwrap();
    load.stop().await.all_ok().unwrap();
    let asked = scene.canary[0].asked();
    let load = hammer(&scene.proxy);
    load.ask(400).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert_eq!(tally.by_version(STABLE), tally.asked);
    assert_eq!(
        scene.canary[0].asked(),
        asked,
        "an open breaker lets nothing through"
    );
    let status = endpoint_status(&scene.proxy, CANARY, 0).await;
    let rule = status["tripped_by"]["rule"].as_str().unwrap();
    assert!(
        ["consecutive_slow", "slow_ratio"].contains(&rule),
        "{status}"
    );
}

#[tokio::test]
async fn a_client_with_no_patience_is_told_so_and_charges_nobody() {
    let scene = warm(2).await;
    for endpoint in &scene.stable {
        endpoint.play(Play::AnswerAfter(Duration::from_millis(20)));
    }
    let client = Client::new();
    let path = scene.proxy.infer_path();
    let hurry = [(headers::REQUEST_TIMEOUT_MS, "1")];
    for _ in 0..60 {
        let answer = client
            .post_with(scene.proxy.data(), &path, "{}", &hurry)
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::GATEWAY_TIMEOUT, "deadline")
        );
    }
    assert_eq!(opened(&scene.proxy).await, 0);
    for index in 0..2 {
        let status = endpoint_status(&scene.proxy, STABLE, index).await;
        assert_eq!(status["failures"], 0, "{status}");
    }
}

/// A backend is told how long it has, and says 504 when that is over.
#[tokio::test]
async fn an_endpoint_that_says_that_the_time_is_over_is_charged_nothing() {
    let scene = warm(2).await;
    for endpoint in &scene.stable {
        endpoint.play(Play::Refuse(Reason::Deadline));
    }
    for _ in 0..30 {
        let answer = scene.proxy.infer("{}").await.unwrap();
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::GATEWAY_TIMEOUT, "deadline")
        );
    }
    assert_eq!(opened(&scene.proxy).await, 0);
    for index in 0..2 {
        let status = endpoint_status(&scene.proxy, STABLE, index).await;
        assert_eq!(status["failures"], 0, "{status}");
    }
}

#[tokio::test]
async fn what_is_late_for_one_endpoint_is_tried_elsewhere_only_while_there_is_time() {
    let scene = warm(2).await;
    for endpoint in &scene.stable {
        endpoint.play_first_attempts(Play::Refuse(Reason::Deadline));
    }
    let made = async || {
        let metrics = scene.proxy.metrics_when(0).await.unwrap();
        let made = [("reason", "timeout"), ("result", "made")];
        metrics.count(RETRIES, &made).unwrap()
    };
    // What warmed them up may have been late by itself.
    let before = made().await;
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(made().await, before + 1);
    let hurry = [(headers::REQUEST_TIMEOUT_MS, "1")];
    for _ in 0..10 {
        let answer = scene.proxy.infer_with("{}", &hurry).await.unwrap();
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{answer:?}");
    }
    assert_eq!(made().await, before + 1, "no time was left");
}

#[tokio::test]
async fn what_is_left_of_the_deadline_is_passed_on() {
    let scene = warm(1).await;
    let _ = scene.stable[0].take_seen();
    let client = Client::new();
    let path = scene.proxy.infer_path();
    for (asked, most) in [(None, 1_500), (Some("400"), 400), (Some("9000"), 1_500)] {
        let header = asked.map(|asked| (headers::REQUEST_TIMEOUT_MS, asked));
        let header: Vec<_> = header.into_iter().collect();
        let answer = client
            .post_with(scene.proxy.data(), &path, "{}", &header)
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let seen = scene.stable[0].take_seen().pop().unwrap();
        let got: u64 = seen.headers[headers::REQUEST_TIMEOUT_MS]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=most).contains(&got), "{got} of {most}");
    }
    let nonsense = [(headers::REQUEST_TIMEOUT_MS, "soon")];
    let answer = client
        .post_with(scene.proxy.data(), &path, "{}", &nonsense)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::BAD_REQUEST, "bad_request")
    );
    assert!(
        answer.error().unwrap().contains("x-request-timeout-ms"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_time_that_a_body_asks_for_bounds_the_deadline_too() {
    let scene = warm(1).await;
    let _ = scene.stable[0].take_seen();
    // The second is too long for one piece, and is kept elsewhere.
    for padding in [0, 100_000] {
        let body = |timeout: &str| {
            let padding = " ".repeat(padding);
            format!(r#"{{"id":"7",{padding}"parameters":{{"timeout":{timeout}}}}}"#)
        };
        for (asked, header, most) in [
            ("400000", None, 400),
            ("400000", Some("300"), 300),
            ("300000", Some("400"), 300),
            ("9000000", None, 1_500),
            ("9223372036854775807", None, 1_500),
        ] {
            let header = header.map(|header| (headers::REQUEST_TIMEOUT_MS, header));
            let header: Vec<_> = header.into_iter().collect();
            let answer = scene.proxy.infer_with(body(asked), &header).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let seen = scene.stable[0].take_seen().pop().unwrap();
            let got = seen.headers[headers::REQUEST_TIMEOUT_MS].to_str().unwrap();
            let got: u64 = got.parse().unwrap();
            assert!((1..=most).contains(&got), "{got} of {most}");
            assert_eq!(seen.body, body(asked), "it arrives as it was");
        }
        for nonsense in ["0", "-5", "1.5", "true", "\"5\"", "18446744073709551615"] {
            let answer = scene.proxy.infer(body(nonsense)).await.unwrap();
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{nonsense}");
            assert_eq!(answer.reason(), "bad_request");
            let error = answer.error().unwrap();
            assert!(error.contains("parameters.timeout"), "{error}");
        }
    }
    scene.stable[0].play(Play::Hang);
    let hurried = r#"{"parameters":{"timeout":100000}}"#;
    let answer = scene.proxy.infer(hurried).await.unwrap();
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::GATEWAY_TIMEOUT, "deadline")
    );
}

#[tokio::test]
async fn a_version_that_hangs_alone_is_given_up_at_the_deadline() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("timeouts.request_ms", 200));
    let scene = setup.start().await.unwrap();
    scene.stable[0].play(Play::Hang);
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::GATEWAY_TIMEOUT, "deadline")
    );
    // And the next one is served.
    scene.stable[0].play(Play::Answer);
    assert_eq!(
        scene.proxy.infer("{}").await.unwrap().status,
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_an_endpoint_may_hold_is_refused_and_counted() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set_model("balance.max_in_flight", 1)
            .set_model("admission.max_queued", 0)
    });
    let scene = setup.start().await.unwrap();
    scene.stable[0].play(Play::Hang);
    let (data, path) = (scene.proxy.data(), scene.proxy.infer_path());
    let held = tokio::spawn(async move { Client::new().post(data, &path, "{}").await });
    until("the first request at its endpoint", async || {
        ensure!(scene.stable[0].asked() == 1);
        Ok(())
    })
    .await
    .unwrap();
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::TOO_MANY_REQUESTS, "queue_full")
    );
    assert!(answer.headers.contains_key(http::header::RETRY_AFTER));
    assert_eq!(
        held.await.unwrap().unwrap().status,
        StatusCode::GATEWAY_TIMEOUT
    );
}

#[tokio::test]
async fn a_sticky_client_stays_with_its_version() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| {
        let proxy = proxy.set_model("sticky.header", "x-user-id");
        proxy.set_model("versions.2.weight", 90)
    });
    let mut scene = setup.start().await.unwrap();
    let client = Client::new();
    let path = scene.proxy.infer_path();
    let mut before = Vec::new();
    for user in 0..40 {
        let user = user.to_string();
        let header = [(HeaderName::from_static("x-user-id"), user.as_str())];
        for _ in 0..3 {
            let answer = client
                .post_with(scene.proxy.data(), &path, "{}", &header)
                .await
                .unwrap();
            assert_eq!(answer.route(), "sticky");
            before.push(answer.version().to_owned());
        }
        let last = &before[before.len() - 3..];
        assert!(last.iter().all(|version| version == &last[0]), "{last:?}");
    }
    assert!(before.iter().any(|v| v == STABLE) && before.iter().any(|v| v == CANARY));
    // Nobody leaves a version whose weight grows.
    scene.proxy.set_model("versions.2.weight", 200);
    scene.proxy.apply().await.unwrap();
    for user in 0..40 {
        let header_value = user.to_string();
        let header = [(HeaderName::from_static("x-user-id"), header_value.as_str())];
        let answer = client
            .post_with(scene.proxy.data(), &path, "{}", &header)
            .await
            .unwrap();
        let was = &before[user * 3];
        assert!(answer.version() == was || answer.version() == CANARY);
    }
    assert_eq!(
        scene.proxy.infer("{}").await.unwrap().route(),
        "split",
        "it names nobody"
    );
}

#[tokio::test]
async fn the_load_report_is_asked_for() {
    let scene = warm(1).await;
    let name: HeaderName = headers::LOAD_REPORT_FORMAT;
    // With one request in ten milliseconds, and not with the others.
    until("a request that asks", async || {
        scene.proxy.infer("{}").await?;
        let seen = scene.stable[0].take_seen();
        let asks = |seen: &Seen| seen.headers.get(&name).is_some_and(|form| form == "text");
        ensure!(seen.iter().any(asks), "none of {} asks", seen.len());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_uploaders_trip_nothing() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set_model("retry.replay_limit_bytes", 1_000)
            .set_model("breaker.latency_threshold_ms", 200)
            .set_model("timeouts.request_ms", 10_000)
    });
    let scene = setup.start().await.unwrap();
    let (path, half) = (scene.proxy.infer_path(), vec![b' '; 100_000]);
    let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 200000\r\n\r\n");
    // Five that are slow in a row would open the breaker.
    for _ in 0..6 {
        let mut slow = TcpStream::connect(scene.proxy.data()).await.unwrap();
        slow.write_all(head.as_bytes()).await.unwrap();
        slow.write_all(&half).await.unwrap();
        // Its client dawdles for longer than an answer may take.
        until("the request to be under way", async || {
            let metrics = scene.proxy.metrics().await?;
            let busy = metrics.value("aegis_proxy_in_flight", &[]);
            ensure!(busy == Some(1.0), "{busy:?}");
            Ok(())
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        slow.write_all(&half).await.unwrap();
        let mut status = [0; 12];
        slow.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    assert_eq!(opened(&scene.proxy).await, 0);
    let endpoint = endpoint_status(&scene.proxy, STABLE, 0).await;
    assert_eq!(endpoint["breaker"], "closed", "{endpoint}");
    assert_eq!(endpoint["slow"], 0, "{endpoint}");
}
