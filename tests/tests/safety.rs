//! The safety checks of the bundled model, judged from outside: what gets through, and what that proves.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use aegis_e2e::digits::{MODEL, held_out_path};
use aegis_e2e::{Backend, BackendSetup, Binaries, STABLE};
use aegis_loadtest::Dataset;
use aegis_loadtest::safety::{Claim, Generator, SafetyReport, Sending, Verdict, evaluate};

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
    for (reason, row) in &report.by_reason {
        assert_eq!(row.as_expected, row.cases, "{reason}: {report}");
    }
    assert!(report.false_positive_rate < 0.05, "{report}");
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
        report.to_string().contains("at least 2995 cases"),
        "{report}"
    );
}
