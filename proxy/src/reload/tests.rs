//! On real files, watched by the real watcher; every test waits for what it
//! expects, and never for a time.

use std::{
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aegis_config::{Fault, Rejected};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Applied, Apply, AskError, ReloadHandle, Reloader, Report, Timing, Trigger};
use crate::metrics::{Metrics, ReloadResult};

/// Longer than any test: only the watcher can notice.
const NEVER: Duration = Duration::from_hours(1);

/// Who asks on the admin port.
const OPERATOR: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// Takes every text but those that contain "bad", and remembers them.
#[derive(Clone, Default)]
struct Recorder {
    texts: Arc<Mutex<Vec<String>>>,
    generation: Arc<AtomicU64>,
}

impl Apply for Recorder {
    fn apply(&mut self, origin: &str, text: &str) -> Result<Applied, Rejected> {
        let mut texts = self.texts.lock();
        let running = texts.iter().rfind(|text| !text.contains("bad"));
        let changes = match running {
            Some(running) if running == text => Vec::new(),
            _ => vec![format!("now {text}")],
        };
        texts.push(text.to_owned());
        if text.contains("bad") {
            let fault = Fault {
                path: "a".into(),
                line: Some(1),
                message: "bad".into(),
            };
            return Err(Rejected {
                origin: origin.to_owned(),
                faults: vec![fault],
            });
        }
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 2;
        Ok(Applied {
            generation,
            changes,
        })
    }
}

/// A file, its reloader, and what it took.
struct Rig {
    folder: TempDir,
    path: PathBuf,
    taken: Recorder,
    metrics: Arc<Metrics>,
    handle: ReloadHandle,
    task: JoinHandle<()>,
}

impl Rig {
    /// With a file that says `one`.
    fn new(poll: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.toml");
        fs::write(&path, "one").unwrap();
        Self::following(folder, path, poll)
    }

    /// With a file behind a link into another folder, of which the watcher hears
    /// nothing; and that folder, to be kept.
    fn unheard(poll: Duration) -> (Self, TempDir) {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("proxy.toml");
        let real = elsewhere.path().join("real.toml");
        fs::write(&real, "one").unwrap();
        symlink(&real, &path).unwrap();
        (Self::following(folder, path, poll), elsewhere)
    }

    fn following(folder: TempDir, path: PathBuf, poll: Duration) -> Self {
        let taken = Recorder::default();
        let metrics = Arc::new(Metrics::new().unwrap());
        let timing = Timing {
            poll,
            settle: Duration::from_millis(5),
        };
        let running = fs::read_to_string(&path).unwrap();
        let mut reloader =
            Reloader::new(&path, running, timing, taken.clone(), Arc::clone(&metrics)).unwrap();
        let handle = reloader.handle();
        let task = tokio::spawn(async move { reloader.run().await });
        Self {
            folder,
            path,
            taken,
            metrics,
            handle,
            task,
        }
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    fn texts(&self) -> Vec<String> {
        self.taken.texts.lock().clone()
    }

    /// Waits until the last report satisfies `wanted`.
    async fn report(&self, wanted: impl Fn(&Report) -> bool) -> Report {
        let waiting = async {
            loop {
                if let Some(report) = self.handle.last()
                    && wanted(&report)
                {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .unwrap_or_else(|_| panic!("last: {:?}", self.handle.last()))
    }

    async fn applied(&self, text: &str) -> Report {
        let change = format!("now {text}");
        self.report(|report| report.changes == [change.as_str()])
            .await
    }

    fn count(&self, result: ReloadResult) -> String {
        let text = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        let name = format!(
            "aegis_proxy_config_reloads_total{{result=\"{}\"}} ",
            result.label()
        );
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_default().to_owned()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_rollback_holds_until_the_file_says_something_new() {
    let rig = Rig::new(Duration::from_millis(10));
    assert_eq!(
        rig.handle.rollback(OPERATOR).await,
        Err(AskError::NothingBefore)
    );
    rig.write("two");
    rig.applied("two").await;
    let report = rig.handle.rollback(OPERATOR).await.unwrap();
    assert_eq!(
        (report.trigger, report.result),
        (Trigger::Rollback, ReloadResult::Applied)
    );
    assert_eq!(rig.texts(), ["two", "one"]);
    assert_eq!(
        rig.handle.rollback(OPERATOR).await,
        Err(AskError::NothingBefore)
    );
    // A bad file is refused, and changes nothing about that.
    rig.write("bad");
    rig.report(|report| report.result == ReloadResult::Refused)
        .await;
    rig.write("three");
    rig.applied("three").await;
    assert_eq!(rig.texts(), ["two", "one", "bad", "three"]);
    let report = rig.handle.rollback(OPERATOR).await.unwrap();
    assert_eq!(
        report.changes,
        ["now one"],
        "what ran before, not what the file said"
    );
}

#[tokio::test]
async fn a_rollback_holds_also_while_the_file_is_away_and_back() {
    let rig = Rig::new(Duration::from_millis(10));
    rig.write("two");
    rig.applied("two").await;
    rig.handle.rollback(OPERATOR).await.unwrap();
    let away = rig.folder.path().join("away");
    for _ in 0..2 {
        fs::rename(&rig.path, &away).unwrap();
        rig.report(|report| report.result == ReloadResult::Refused)
            .await;
        fs::rename(&away, &rig.path).unwrap();
        let back = |report: &Report| report.result != ReloadResult::Refused;
        let report = rig.report(back).await;
        assert_eq!(
            (report.trigger, report.result),
            (Trigger::File, ReloadResult::Unchanged)
        );
    }
    assert_eq!(rig.texts(), ["two", "one", "one", "one"]);
    assert_eq!(rig.count(ReloadResult::Refused), "2", "once each time");
    // Who asks for what the file says gets it.
    rig.handle.reload(OPERATOR).await.unwrap();
    assert_eq!(rig.texts().last().map(String::as_str), Some("two"));
    fs::rename(&rig.path, &away).unwrap();
    rig.report(|report| report.result == ReloadResult::Refused)
        .await;
    rig.write("three");
    rig.applied("three").await;
}

#[tokio::test]
async fn a_file_that_is_written_anew_is_taken() {
    let rig = Rig::new(NEVER);
    rig.write("two");
    let report = rig.applied("two").await;
    assert_eq!(report.trigger, Trigger::File);
    assert_eq!(report.generation, Some(2));
    assert_eq!(rig.texts(), ["two"]);
    assert_eq!(rig.count(ReloadResult::Applied), "1");
}

#[tokio::test]
async fn a_file_that_is_renamed_over_the_old_one_is_taken() {
    let rig = Rig::new(NEVER);
    for text in ["two", "three"] {
        let beside = rig.folder.path().join("proxy.toml.new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &rig.path).unwrap();
        rig.applied(text).await;
    }
    assert_eq!(rig.texts(), ["two", "three"]);
}

#[tokio::test]
async fn the_symlink_swap_of_a_mounted_config_map_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let version = |name: &str, text: &str| {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("proxy.toml"), text).unwrap();
    };
    version("..1", "one");
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/proxy.toml", root.join("proxy.toml")).unwrap();
    let rig = Rig::following(folder, root.join("proxy.toml"), NEVER);

    for (name, text) in [("..2", "two"), ("..3", "three")] {
        version(name, text);
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        rig.applied(text).await;
    }
    assert_eq!(rig.texts(), ["two", "three"]);
}

#[tokio::test]
async fn half_a_file_is_never_taken() {
    let rig = Rig::new(NEVER);
    let mut file = File::create(&rig.path).unwrap();
    file.write_all(b"ha").unwrap();
    file.sync_all().unwrap();
    file.write_all(b"lf").unwrap();
    drop(file);
    rig.applied("half").await;
    assert_eq!(rig.texts(), ["half"]);
}

#[tokio::test]
async fn a_bad_file_between_two_good_ones_changes_nothing() {
    let rig = Rig::new(NEVER);
    rig.write("two");
    rig.applied("two").await;
    rig.write("bad");
    let report = rig
        .report(|report| report.result == ReloadResult::Refused)
        .await;
    assert_eq!(report.faults[0].message, "bad");
    assert_eq!(report.generation, None);
    rig.write("three");
    rig.applied("three").await;
    assert_eq!(rig.texts(), ["two", "bad", "three"]);
    assert_eq!(rig.count(ReloadResult::Applied), "2");
    assert_eq!(rig.count(ReloadResult::Refused), "1");
}

#[tokio::test]
async fn a_bad_file_that_stays_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    fs::write(&path, "bad").unwrap();
    let (taken, metrics) = (Recorder::default(), Arc::new(Metrics::new().unwrap()));
    let timing = Timing::default();
    let mut reloader = Reloader::new(&path, "one".into(), timing, taken.clone(), metrics).unwrap();
    for _ in 0..3 {
        reloader.look().await;
    }
    assert_eq!(*taken.texts.lock(), ["bad"]);
}

#[tokio::test]
async fn back_to_what_runs_is_no_change() {
    let rig = Rig::new(NEVER);
    rig.write("two");
    rig.applied("two").await;
    rig.write("bad");
    rig.report(|report| report.result == ReloadResult::Refused)
        .await;
    rig.write("two");
    let report = rig
        .report(|report| report.result == ReloadResult::Unchanged)
        .await;
    assert!(report.changes.is_empty());
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_and_taken_again_when_it_is_back() {
    let rig = Rig::new(NEVER);
    fs::remove_file(&rig.path).unwrap();
    let report = rig
        .report(|report| report.result == ReloadResult::Refused)
        .await;
    assert!(
        report.faults[0].message.contains("No such file"),
        "{report:?}"
    );
    assert!(rig.texts().is_empty());
    rig.write("two");
    rig.applied("two").await;
}

#[tokio::test]
async fn without_a_watcher_the_file_is_still_looked_at() {
    let (rig, _elsewhere) = Rig::unheard(Duration::from_millis(10));
    rig.write("two");
    rig.applied("two").await;
}

#[tokio::test]
async fn whoever_asks_is_answered_also_when_nothing_is_new() {
    let (rig, _elsewhere) = Rig::unheard(NEVER);
    let report = rig.handle.reload(OPERATOR).await.unwrap();
    assert_eq!(report.trigger, Trigger::Admin);
    assert_eq!(report.result, ReloadResult::Applied);
    let report = rig.handle.reload(OPERATOR).await.unwrap();
    assert_eq!(report.result, ReloadResult::Unchanged);
    rig.write("bad");
    let report = rig.handle.reload(OPERATOR).await.unwrap();
    assert_eq!(report.result, ReloadResult::Refused);
    assert_eq!(rig.texts(), ["one", "one", "bad"]);
}

#[tokio::test]
async fn other_files_in_the_folder_are_none_of_its_business() {
    let rig = Rig::new(NEVER);
    fs::write(rig.folder.path().join("other.toml"), "x").unwrap();
    rig.write("two");
    rig.applied("two").await;
    assert_eq!(rig.texts(), ["two"]);
}

#[tokio::test]
async fn a_proxy_that_goes_away_says_so() {
    let rig = Rig::new(NEVER);
    rig.task.abort();
    let handle = rig.handle.clone();
    while !rig.task.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(handle.reload(OPERATOR).await, Err(AskError::Gone));
}
