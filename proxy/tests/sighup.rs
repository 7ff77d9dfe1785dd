//! SIGHUP reads the configuration again. In a process of its own, because a
//! signal reaches every reloader of a process.

use std::{fs, os::unix::fs::symlink, process::Command, sync::Arc, time::Duration};

use aegis_config::Rejected;
use aegis_proxy::{
    metrics::{Metrics, ReloadResult},
    reload::{Applied, Reloader, Timing, Trigger},
};

/// Calls every text a change.
struct TakeAll;

impl aegis_proxy::reload::Apply for TakeAll {
    fn apply(&mut self, _: &str, text: &str) -> Result<Applied, Rejected> {
        Ok(Applied {
            generation: 2,
            changes: vec![text.to_owned()],
        })
    }
}

#[tokio::test]
async fn a_hangup_takes_the_file_whether_or_not_it_changed() {
    // Behind a link into another folder, which the watcher does not hear.
    let (folder, watched) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (real, path) = (
        folder.path().join("real.toml"),
        watched.path().join("proxy.toml"),
    );
    fs::write(&real, "one").unwrap();
    symlink(&real, &path).unwrap();
    let timing = Timing {
        poll: Duration::from_hours(1),
        ..Timing::default()
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut reloader = Reloader::new(&path, "one".into(), timing, TakeAll, metrics).unwrap();
    let handle = reloader.handle();
    // The signal is caught from `new` on; before, it would end this process.
    tokio::spawn(async move { reloader.run().await });

    for text in ["one", "two"] {
        fs::write(&real, text).unwrap();
        let id = std::process::id().to_string();
        assert!(
            Command::new("kill")
                .args(["-HUP", &id])
                .status()
                .unwrap()
                .success()
        );
        let waiting = async {
            loop {
                match handle.last() {
                    Some(last) if last.changes == [text] => return last,
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        let report = tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .unwrap();
        assert_eq!(report.trigger, Trigger::Signal);
        assert_eq!(report.result, ReloadResult::Applied);
    }
}
