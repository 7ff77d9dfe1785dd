//! No run counts twice, whatever its log is called.

use std::path::Path;

use aegis_loadtest::merge::Merged;

use crate::cli::{command, output, run_command, text};
use crate::server::{Server, right};

/// Writes the log of a short run.
async fn run(folder: &Path, url: &str, log: &str, seed: &str) {
    let more = ["--duration", "300ms", "--hdr", log, "--seed", seed];
    let output = output(run_command(folder, url, &more)).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_log_is_not_merged_and_a_seed_that_came_twice_is_named() {
    let server = Server::start(async |asked| Some(right(&asked))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [a, b, c, copy, cut, both, json] = ["a", "b", "c", "copy", "cut", "both", "json"].map(path);
    for (log, seed) in [(&a, "7"), (&b, "7"), (&c, "8")] {
        run(folder.path(), &server.url, log, seed).await;
    }
    std::fs::copy(&a, &copy).unwrap();
    // What was copied while the run went on.
    let whole = std::fs::read_to_string(&a).unwrap();
    let (begun, _) = whole.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(&cut, format!("{begun}\n")).unwrap();
    let merge = async |args: &[&str]| {
        let args = [&["merge", "--max-lag", "10s", "--json", &json], args].concat();
        output(command(&args)).await
    };

    let merged = merge(&[&a, &b, &c, "--hdr", &both]).await;
    assert_eq!(merged.status.code(), Some(0), "{}", text(&merged.stderr));
    let note = "note: 2 runs were sent with seed 7: the same requests";
    assert!(
        text(&merged.stdout).contains(note),
        "{}",
        text(&merged.stdout)
    );
    let report: Merged = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report.same_seeds, [(7, 2)].into());
    let apart = merge(&[&a, &c]).await;
    assert_eq!(apart.status.code(), Some(0), "{}", text(&apart.stderr));
    assert!(!text(&apart.stdout).contains("note: "));

    for (first, second) in [(&a, &copy), (&a, &cut), (&both, &a), (&b, &both)] {
        let refused = merge(&[first, second]).await;
        let error = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{error}");
        let says = format!(
            "{second}: is a copy of {first}, or of a part of it: both have the run of seed 7, began at 2"
        );
        assert!(error.contains(&says), "{error}");
    }
}
