//! SIGTERM: what was accepted is answered, and then the process ends, no later than it must.

use std::time::Duration;

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{
    BackendSetup, Binaries, Client, Exit, Hammer, Play, ProxySetup, STABLE, SceneSetup, Signal,
    until,
};
use anyhow::ensure;
use http::StatusCode;
use tokio::net::TcpStream;

/// Far below the grace of 25 s: a process that is idle has no reason to stay.
const SOON: Duration = Duration::from_secs(10);

fn assert_clean(exit: Exit) {
    assert_eq!(exit.code, Some(0), "{exit}");
    assert!(exit.after < SOON, "it stayed for {:?}", exit.after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_ends_under_load_and_clients_of_the_proxy_notice_nothing() {
    let programs = Binaries::built().unwrap();
    let setup = || BackendSetup::new(MODEL, &[STABLE]);
    let mut leaving = setup().named("leaving").set("drain_delay_ms", 500);
    leaving = leaving.set("grace_ms", 25_000);
    let mut leaving = leaving.start(programs).await.unwrap();
    let staying = setup().named("staying").start(programs).await.unwrap();
    leaving.ready().await.unwrap();
    staying.ready().await.unwrap();
    let pool = [leaving.address(), staying.address()];
    let proxy = ProxySetup::new(MODEL)
        .pool(STABLE, 1, &pool)
        .start(programs)
        .await
        .unwrap();

    let body = digits::request(&digits::held_out().unwrap()[..1]);
    let load = Hammer::start(proxy.data(), &proxy.infer_path(), body, 8);
    load.ask(300).await.unwrap();
    leaving.process.signal(Signal::TERM).unwrap();
    let exit = leaving.process.exited().await.unwrap();
    load.ask(300).await.unwrap();
    load.stop().await.all_ok().unwrap();
    assert_clean(exit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_loses_no_request_that_it_accepted() {
    let programs = Binaries::built().unwrap();
    let setup = BackendSetup::new(MODEL, &[STABLE]).set("drain_delay_ms", 300);
    let mut backend = setup.start(programs).await.unwrap();
    backend.ready().await.unwrap();

    let body = digits::request(&digits::held_out().unwrap()[..1]);
    let path = aegis_protocol::path::infer(MODEL, None);
    let load = Hammer::until_refused(backend.address(), &path, body, 8);
    load.ask(300).await.unwrap();
    backend.process.signal(Signal::TERM).unwrap();
    let ready = aegis_protocol::path::READY;
    until("not ready", async || {
        // Once it has ended there is nothing to ask any more, which will do as well.
        let Ok(answer) = backend.get(ready).await else {
            return Ok(());
        };
        ensure!(
            answer.status == StatusCode::SERVICE_UNAVAILABLE,
            "{answer:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    assert_clean(backend.process.exited().await.unwrap());
    let tally = load.refused().await;
    assert_eq!(tally.lost, 0, "{tally:#?}");
    // Those that came after the delay were told to go elsewhere.
    assert!(
        tally
            .statuses
            .keys()
            .all(|status| [200, 503].contains(status)),
        "{tally:#?}"
    );
    assert!(
        tally.failures.iter().all(|failure| failure.contains("503")),
        "{tally:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_loses_no_request_that_it_accepted() {
    let setup = SceneSetup::new(2, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set("drain.delay_ms", 300)
            .set("drain.grace_ms", 25_000)
    });
    let mut scene = setup.start().await.unwrap();
    for endpoint in &scene.stable {
        endpoint.play(Play::AnswerAfter(Duration::from_millis(20)));
    }
    let load = Hammer::until_refused(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 16);
    load.ask(300).await.unwrap();
    scene.proxy.process.signal(Signal::TERM).unwrap();
    assert_clean(scene.proxy.process.exited().await.unwrap());
    let tally = load.refused().await;
    assert_eq!(
        (tally.lost, tally.ok() + tally.unconnected),
        (0, tally.asked),
        "{tally:#?}"
    );
    assert!(TcpStream::connect(scene.proxy.data()).await.is_err());
}

#[tokio::test]
async fn a_proxy_waits_for_what_runs_and_no_longer() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    // The slow request has all the time that it needs.
    let setup = setup.with(|proxy| {
        proxy
            .set("drain.grace_ms", 25_000)
            .set_model("timeouts.request_ms", 20_000)
    });
    let mut scene = setup.start().await.unwrap();
    scene.stable[0].play(Play::AnswerAfter(Duration::from_millis(1_500)));
    // An idle connection must not hold it up.
    let idle = TcpStream::connect(scene.proxy.data()).await.unwrap();
    let client = Client::new();
    let (data, path) = (scene.proxy.data(), scene.proxy.infer_path());
    let slow = tokio::spawn(async move { client.post(data, &path, "{}").await });
    until("the slow request at its endpoint", async || {
        ensure!(scene.stable[0].asked() == 1);
        Ok(())
    })
    .await
    .unwrap();
    scene.proxy.process.signal(Signal::TERM).unwrap();
    let exit = scene.proxy.process.exited().await.unwrap();
    assert_eq!(slow.await.unwrap().unwrap().status, StatusCode::OK);
    assert_clean(exit);
    drop(idle);
}

#[tokio::test]
async fn what_runs_when_the_grace_is_over_is_cut_off() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set("drain.delay_ms", 100)
            .set("drain.grace_ms", 1_000)
            .set_model("timeouts.request_ms", 60_000)
    });
    let mut scene = setup.start().await.unwrap();
    scene.stable[0].play(Play::Hang);
    let client = Client::new();
    let (data, path) = (scene.proxy.data(), scene.proxy.infer_path());
    let hangs = tokio::spawn(async move { client.post(data, &path, "{}").await });
    until("the request at its endpoint", async || {
        ensure!(scene.stable[0].asked() == 1);
        Ok(())
    })
    .await
    .unwrap();
    scene.proxy.process.signal(Signal::TERM).unwrap();
    let exit = scene.proxy.process.exited().await.unwrap();
    let grace = Duration::from_millis(900)..Duration::from_secs(20);
    assert!(grace.contains(&exit.after), "{exit}");
    assert!(hangs.await.unwrap().is_err(), "it had no answer");
}

#[tokio::test]
async fn a_proxy_that_drains_is_not_ready_and_still_accepts() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set("drain.delay_ms", 2_000));
    let mut scene = setup.start().await.unwrap();
    assert_eq!(
        scene.proxy.ask_admin("/readyz").await.unwrap().status,
        StatusCode::OK
    );
    scene.proxy.process.signal(Signal::TERM).unwrap();
    until("not ready", async || {
        let answer = scene.proxy.ask_admin("/readyz").await?;
        ensure!(
            answer.status == StatusCode::SERVICE_UNAVAILABLE,
            "{answer:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    // Balancers take a moment to hear of it; until then requests come, on new connections too.
    let answer = Client::new()
        .post(scene.proxy.data(), &scene.proxy.infer_path(), "{}")
        .await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.header(&http::header::CONNECTION).to_lowercase(),
        "close"
    );
    assert_clean(scene.proxy.process.exited().await.unwrap());
}

#[tokio::test]
async fn an_idle_backend_ends_at_once() {
    let programs = Binaries::built().unwrap();
    let setup = BackendSetup::new(MODEL, &[STABLE]).set("drain_delay_ms", 0);
    let mut backend = setup.start(programs).await.unwrap();
    backend.ready().await.unwrap();
    let idle = TcpStream::connect(backend.address()).await.unwrap();
    backend.process.signal(Signal::TERM).unwrap();
    assert_clean(backend.process.exited().await.unwrap());
    drop(idle);
}
