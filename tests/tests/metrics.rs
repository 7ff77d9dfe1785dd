//! What both programs expose can be scraped, and has the names that dashboards and alerts rely on.
//!
//! That the document names every metric is for each program's own tests to say.

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{BackendSetup, Binaries, CANARY, ProxySetup, STABLE, Scrape};
use anyhow::Result;

/// Names that must not change: autoscaling, alerts and dashboards are built on them.
const FIXED: [&str; 3] = [
    "aegis_inference_requests_total",
    "aegis_inference_latency_seconds",
    "aegis_inference_queue_depth",
];
const SAFETY: &str = "aegis_safety_flags_total";

/// Those that only the proxy can know.
const OF_THE_PROXY: [&str; 5] = [
    "aegis_proxy_requests_total",
    "aegis_proxy_request_duration_seconds",
    "aegis_proxy_breaker_state",
    "aegis_proxy_version_available_ratio",
    "aegis_proxy_split_weight",
];

/// One backend of both versions behind a proxy, after some traffic of every kind.
async fn scrape_both() -> Result<(Scrape, Scrape)> {
    let programs = Binaries::built()?;
    let backend = BackendSetup::new(MODEL, &[STABLE, CANARY])
        .start(programs)
        .await?;
    backend.ready().await?;
    let at = [backend.address()];
    let setup = ProxySetup::new(MODEL).fallback(&[STABLE]);
    let setup = setup.pool(STABLE, 90, &at).pool(CANARY, 10, &at);
    let proxy = setup.start(programs).await?;
    for digit in &digits::held_out()?[..20] {
        proxy.infer(digits::request(&[*digit])).await?;
    }
    proxy.infer_pinned(CANARY, "no JSON").await?;
    Ok((proxy.metrics_when(0).await?, backend.metrics().await?))
}

#[tokio::test]
async fn both_parse_and_carry_the_fixed_names_with_the_version() {
    let (proxy, backend) = scrape_both().await.unwrap();
    for version in [STABLE, CANARY] {
        let labels = [("model", MODEL), ("model_version", version)];
        for (scrape, names) in [
            (&backend, &FIXED[..]),
            (&proxy, &FIXED[..]),
            (&proxy, &OF_THE_PROXY[..]),
        ] {
            for name in names {
                let family = scrape
                    .families()
                    .get(*name)
                    .unwrap_or_else(|| panic!("no {name}"));
                let found = family.samples.iter().any(|sample| sample.has(&labels));
                assert!(found, "{name} without version {version}");
                assert!(!family.help.is_empty(), "{name} without help");
            }
        }
        let flags = backend
            .samples(SAFETY, &[("model_version", version)])
            .count();
        assert!(flags > 0, "{SAFETY} exists at 0 from the start");
    }
    let answered = backend
        .count("aegis_inference_requests_total", &[("code", "200")])
        .unwrap();
    assert_eq!(answered, 20);
    let latencies = backend
        .count("aegis_inference_latency_seconds_count", &[])
        .unwrap();
    assert!(latencies >= 20);
    for bound in ["0.2", "1.5"] {
        let labels = [("le", bound)];
        assert!(
            backend
                .samples("aegis_inference_latency_seconds_bucket", &labels)
                .count()
                > 0
        );
    }
    assert_eq!(
        proxy
            .count("aegis_proxy_requests_total", &[("code", "200")])
            .unwrap(),
        20
    );
    assert_eq!(
        proxy
            .count("aegis_proxy_requests_total", &[("code", "400")])
            .unwrap(),
        1
    );
    assert_eq!(proxy.value("aegis_proxy_config_generation", &[]), Some(1.0));
}
