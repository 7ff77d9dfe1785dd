//! Turns of a watcher, on tokio's paused time, before a cluster that is scripted.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::config::Label;

const SECOND: Duration = Duration::from_secs(1);

/// What a cluster does when it is asked.
#[derive(Clone, Debug)]
enum Play {
    /// A list of this version.
    List(&'static str),
    /// A watch with these events, which then ends.
    Watch(Vec<Result<Event, WatchError>>),
    /// A watch with these events, which ends when it was asked to.
    Stand(Vec<Result<Event, WatchError>>),
    /// A watch that never ends.
    Hang,
    /// An error.
    Fail(WatchError),
}

/// What a cluster was asked, and when.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    List,
    Watch(String),
}

struct Scripted {
    plays: Mutex<VecDeque<Play>>,
    asked: Mutex<Vec<(Asked, Instant)>>,
    news: Notify,
    lacks: Mutex<bool>,
    heard: Mutex<Vec<News>>,
}

struct Script {
    events: VecDeque<Result<Event, WatchError>>,
    ends_at: Option<Instant>,
}

#[async_trait]
impl Events for Script {
    async fn next(&mut self) -> Option<Result<Event, WatchError>> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match self.ends_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        None
    }
}

impl Scripted {
    fn ask(&self, asked: Asked) -> Play {
        self.asked.lock().push((asked, Instant::now()));
        self.news.notify_one();
        // The last one is played again and again.
        let mut plays = self.plays.lock();
        let next = plays.front().cloned().unwrap();
        if plays.len() > 1 {
            plays.pop_front();
        }
        next
    }

    async fn until(&self, count: usize) -> Vec<(Asked, Instant)> {
        while self.asked.lock().len() < count {
            self.news.notified().await;
        }
        self.asked.lock().clone()
    }
}

#[async_trait]
impl Cluster for Scripted {
    async fn list(&self, _: &ServiceName) -> Result<Listing, WatchError> {
        match self.ask(Asked::List) {
            Play::List(version) => Ok(Listing {
                version: version.to_owned(),
                ..Listing::default()
            }),
            Play::Fail(error) => Err(error),
            other => panic!("listed, at {other:?}"),
        }
    }

    async fn watch(
        &self,
        _: &ServiceName,
        version: &str,
        lasting: Duration,
    ) -> Result<Box<dyn Events>, WatchError> {
        let now = Instant::now();
        let (events, ends_at) = match self.ask(Asked::Watch(version.to_owned())) {
            Play::Watch(events) => (events, Some(now)),
            Play::Stand(events) => (events, Some(now + lasting)),
            Play::Hang => (Vec::new(), None),
            Play::Fail(error) => return Err(error),
            other @ Play::List(_) => panic!("watched, at {other:?}"),
        };
        let events = events.into();
        Ok(Box::new(Script { events, ends_at }))
    }
}

impl WatchSink for Scripted {
    fn heard(&self, _: &ServiceName, news: News) {
        self.heard.lock().push(news);
    }

    fn lacks_some(&self, _: &ServiceName) -> bool {
        *self.lacks.lock()
    }
}

fn name(text: &str) -> ServiceName {
    ServiceName {
        namespace: None,
        name: Label::new(text).unwrap(),
    }
}

fn settings() -> Kubernetes {
    Kubernetes {
        kubeconfig: None,
        api_timeout: 10 * SECOND,
        renew_after: 60 * SECOND,
        retry_base: SECOND,
        retry_max: 30 * SECOND,
    }
}

/// A watcher of one service before a cluster with this script.
fn start(plays: impl IntoIterator<Item = Play>) -> (Watches, Arc<Scripted>) {
    let cluster = Arc::new(Scripted {
        plays: Mutex::new(plays.into_iter().collect()),
        asked: Mutex::default(),
        news: Notify::new(),
        lacks: Mutex::new(false),
        heard: Mutex::default(),
    });
    let sink = Arc::clone(&cluster) as _;
    let mut watches = Watches::new(Some(Arc::clone(&cluster) as _), sink, &settings());
    watches.follow(&BTreeSet::from([&name("a")]));
    (watches, cluster)
}

fn bookmark(version: &str) -> Event {
    Event {
        version: version.to_owned(),
        news: News::Watched,
    }
}

fn watch(version: &str) -> Asked {
    Asked::Watch(version.to_owned())
}

fn failed() -> WatchError {
    WatchError::Failed {
        status: 500,
        message: String::new(),
    }
}

fn what(asked: &[(Asked, Instant)]) -> Vec<Asked> {
    asked.iter().map(|(what, _)| what.clone()).collect()
}

fn gaps(asked: &[(Asked, Instant)]) -> Vec<f64> {
    let pairs = asked.windows(2);
    pairs.map(|w| (w[1].1 - w[0].1).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_from_the_last_version_that_was_seen() {
    let (_watches, cluster) = start([
        Play::List("5"),
        Play::Stand(vec![Ok(bookmark("8"))]),
        Play::Stand(vec![]),
    ]);
    let asked = cluster.until(4).await;
    let expected = [Asked::List, watch("5"), watch("8"), watch("8")];
    assert_eq!(what(&asked), expected);
    for gap in &gaps(&asked)[1..] {
        assert!((53.9..66.1).contains(gap), "renewed after {gap} s");
    }
    let heard = cluster.heard.lock();
    assert!(matches!(heard[0], News::Listed(_)));
    assert!(heard[1..].iter().all(|news| *news == News::Watched));
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_listed_at_once_but_not_again_and_again() {
    for expiry in [
        Play::Watch(vec![Err(WatchError::Expired)]),
        Play::Fail(WatchError::Expired),
    ] {
        let (_watches, cluster) = start([
            Play::List("5"),
            expiry.clone(),
            Play::List("9"),
            expiry,
            Play::List("11"),
            Play::Stand(vec![]),
        ]);
        let asked = cluster.until(6).await;
        let expected = [
            Asked::List,
            watch("5"),
            Asked::List,
            watch("9"),
            Asked::List,
            watch("11"),
        ];
        assert_eq!(what(&asked), expected);
        let gaps = gaps(&asked);
        assert!(gaps[1] < 0.01, "{gaps:?}");
        assert!(gaps[3] > 0.9, "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_grow_while_the_api_server_is_away_and_the_version_is_kept() {
    let away = WatchError::Unreachable(String::new());
    let (_watches, cluster) = start([
        Play::List("5"),
        Play::Stand(vec![Ok(bookmark("7"))]),
        Play::Fail(away),
    ]);
    let asked = cluster.until(12).await;
    assert!(asked[2..].iter().all(|(what, _)| *what == watch("7")));
    let waits = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0];
    for (gap, expected) in gaps(&asked)[2..].iter().zip(waits) {
        let allowed = 0.49 * expected..1.51 * expected + 0.01;
        assert!(allowed.contains(gap), "{gap} s, not {expected} s");
    }
    *cluster.plays.lock() = [Play::Stand(vec![])].into();
    cluster.until(13).await;
    assert_eq!(*cluster.heard.lock().last().unwrap(), News::Watched);
}

#[tokio::test(start_paused = true)]
async fn refusals_in_a_row_end_with_a_list() {
    let (_watches, cluster) = start([Play::List("5"), Play::Fail(failed())]);
    let asked = cluster.until(5).await;
    let expected = [Asked::List, watch("5"), watch("5"), watch("5"), Asked::List];
    assert_eq!(what(&asked), expected);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_given_up() {
    let (_watches, cluster) = start([Play::List("5"), Play::Hang, Play::Stand(vec![])]);
    let asked = cluster.until(3).await;
    assert_eq!(what(&asked), [Asked::List, watch("5"), watch("5")]);
    let gap = gaps(&asked)[1];
    assert!((63.9..77.6).contains(&gap), "found out after {gap} s");
    let heard = cluster.heard.lock();
    assert!(heard.contains(&News::Failed(WatchError::Silent)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_at_once_is_not_asked_at_full_speed() {
    let (_watches, cluster) = start([Play::List("5"), Play::Watch(vec![])]);
    let asked = cluster.until(8).await;
    let gaps = gaps(&asked);
    assert!(gaps[1..].iter().all(|gap| *gap > 0.4), "{gaps:?}");
    assert!(gaps[6] > 7.0, "they grow: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_kept_is_listed_with_every_renewal() {
    let plays = [Play::List("5"), Play::Stand(vec![]), Play::List("6")];
    let (_watches, cluster) = start(plays.into_iter().chain([Play::Stand(vec![])]));
    *cluster.lacks.lock() = true;
    let asked = cluster.until(4).await;
    let expected = [Asked::List, watch("5"), Asked::List, watch("6")];
    assert_eq!(what(&asked), expected);
}

#[tokio::test(start_paused = true)]
async fn services_that_stay_are_not_listed_anew_and_others_not_watched_any_more() {
    let plays = [Play::List("5"), Play::Stand(vec![]), Play::List("6")];
    let (mut watches, cluster) = start(plays.into_iter().chain([Play::Stand(vec![])]));
    cluster.until(2).await;
    let [a, b] = ["a", "b"].map(name);
    watches.follow(&BTreeSet::from([&a, &b]));
    let asked = cluster.until(4).await;
    assert_eq!(what(&asked[2..]), [Asked::List, watch("6")]);
    watches.follow(&BTreeSet::from([&b]));
    let asked = cluster.until(7).await;
    assert!(asked[4..].iter().all(|(what, _)| *what == watch("6")));
}

#[tokio::test]
async fn without_services_nobody_is_asked() {
    let (mut watches, _cluster) = start([Play::List("5"), Play::Hang]);
    assert_eq!(watches.tasks.len(), 1);
    watches.follow(&BTreeSet::new());
    assert_eq!(watches.tasks.len(), 0);
}
