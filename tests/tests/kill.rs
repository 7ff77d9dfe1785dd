//! A backend that is killed takes no request with it.

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{BackendSetup, Binaries, Hammer, ProxySetup, STABLE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_backends_is_killed_under_load_and_every_request_is_answered() {
    let programs = Binaries::built().unwrap();
    let setup = || BackendSetup::new(MODEL, &[STABLE]);
    let mut victim = setup().named("victim").start(programs).await.unwrap();
    let survivor = setup().named("survivor").start(programs).await.unwrap();
    victim.ready().await.unwrap();
    survivor.ready().await.unwrap();
    let pool = [victim.address(), survivor.address()];
    let proxy = ProxySetup::new(MODEL)
        .pool(STABLE, 1, &pool)
        .start(programs)
        .await
        .unwrap();

    let body = digits::request(&digits::held_out().unwrap()[..1]);
    let load = Hammer::start(proxy.data(), &proxy.infer_path(), body, 8);
    load.ask(300).await.unwrap();
    victim.process.kill().await.unwrap();
    // Long enough for the breaker to open and for the checks to find out.
    load.ask(300).await.unwrap();
    proxy.until_available(STABLE, 0.5).await.unwrap();
    load.ask(300).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();

    let metrics = proxy.metrics().await.unwrap();
    let retries = metrics
        .count("aegis_proxy_retries_total", &[("result", "made")])
        .unwrap();
    assert!(
        retries > 0,
        "the requests that were out when it died were sent again"
    );
}
