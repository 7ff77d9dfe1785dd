//! Every change that an operator makes leaves a line: when, by whom, what, and the difference.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use aegis_e2e::{STABLE, Scene, SceneSetup, Signal, until};
use anyhow::{Result, ensure};
use http::StatusCode;
use serde_json::Value;

/// A line of the audit log, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    by: String,
    action: String,
    outcome: String,
    subject: String,
    generation: Option<u64>,
    facts: String,
}

/// A proxy that logs as machines read it.
async fn scene() -> Scene {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set("log_format", "json"));
    setup.start().await.unwrap()
}

/// Every line of the audit so far.
fn entries(scene: &Scene) -> Vec<Entry> {
    let log = scene.proxy.process.stderr();
    let lines = log.lines().filter_map(|line| line.parse::<Value>().ok());
    let audit = lines.filter(|line| line["target"] == "audit");
    let entries = audit.map(|line| {
        assert!(line["timestamp"].is_string() && line["level"] == "INFO");
        let text = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
        Entry {
            by: text("by"),
            action: text("action"),
            outcome: text("outcome"),
            subject: text("subject"),
            generation: line["fields"]["generation"].as_u64(),
            facts: text("facts"),
        }
    });
    entries.collect()
}

/// Waits for the line at this place, which has to be the last.
async fn entry(scene: &Scene, count: usize) -> Result<Entry> {
    until(&format!("line {count} of the audit"), async || {
        let mut entries = entries(scene);
        ensure!(entries.len() == count, "there are {entries:?}");
        Ok(entries.remove(count - 1))
    })
    .await
}

#[tokio::test]
async fn whoever_changes_the_configuration_is_named_with_what_is_different() {
    let mut scene = scene().await;
    let origin = scene.proxy.file.path().display().to_string();
    scene.proxy.set_model("versions.2.weight", 50);
    let generation = scene.proxy.apply().await.unwrap();
    let by_file = entry(&scene, 1).await.unwrap();
    assert_eq!((&*by_file.by, &*by_file.action), ("file", "reload"));
    assert_eq!(by_file.outcome, "applied");
    assert_eq!(
        (&by_file.subject, by_file.generation),
        (&origin, Some(generation))
    );
    assert!(
        by_file
            .facts
            .contains("models.m.versions.2.weight: 10 -> 50"),
        "{by_file:?}"
    );

    scene.proxy.process.signal(Signal::HUP).unwrap();
    let by_signal = entry(&scene, 2).await.unwrap();
    assert_eq!(
        (&*by_signal.by, &*by_signal.outcome),
        ("SIGHUP", "unchanged")
    );

    let back = scene.proxy.tell_admin("/rollback").await.unwrap();
    assert_eq!(back.status, StatusCode::OK, "{back:?}");
    let by_admin = entry(&scene, 3).await.unwrap();
    assert!(by_admin.by.starts_with("admin 127.0.0.1:"), "{by_admin:?}");
    assert_eq!(
        (&*by_admin.action, &*by_admin.outcome),
        ("rollback", "applied")
    );
    assert_eq!(by_admin.generation, Some(generation + 1));
    assert!(!by_admin.facts.is_empty(), "{by_admin:?}");

    let nothing = scene.proxy.tell_admin("/rollback").await.unwrap();
    assert_eq!(nothing.status, StatusCode::CONFLICT);
    let refused = entry(&scene, 4).await.unwrap();
    assert_eq!(
        (&*refused.action, &*refused.outcome),
        ("rollback", "refused")
    );
    assert!(
        refused.facts.contains("no configuration to go back to"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_refused_leaves_its_faults() {
    let mut scene = scene().await;
    scene.proxy.set_model("versions.2.weight", -1);
    scene.proxy.file.save().unwrap();
    let refused = entry(&scene, 1).await.unwrap();
    assert_eq!((&*refused.by, &*refused.outcome), ("file", "refused"));
    assert_eq!(refused.generation, None);
    let fault = "models.m.versions.2.weight: expected a number";
    assert!(refused.facts.contains(fault), "{refused:?}");
}

#[tokio::test]
async fn whoever_drains_an_endpoint_is_named_also_when_there_is_none() {
    let scene = scene().await;
    let address = scene.stable[0].address().to_string();
    let tell = async |address: &str, word: &str| {
        let path = format!("/models/m/versions/{STABLE}/endpoints/{address}/{word}");
        scene.proxy.tell_admin(&path).await.unwrap()
    };
    for (count, word, outcome, at, facts) in [
        (1, "drain", "applied", &*address, "drained = true"),
        (2, "undrain", "applied", &*address, "drained = false"),
        (
            3,
            "drain",
            "refused",
            "10.9.9.9:1",
            "there is no such endpoint",
        ),
        (4, "drain", "refused", "nonsense", "that is no address"),
    ] {
        tell(at, word).await;
        let entry = entry(&scene, count).await.unwrap();
        assert!(entry.by.starts_with("admin 127.0.0.1:"), "{entry:?}");
        assert_eq!((&*entry.action, &*entry.outcome), (word, outcome));
        assert_eq!(entry.subject, format!("m/{STABLE}/{at}"));
        assert_eq!((entry.generation, &*entry.facts), (None, facts));
    }
}
