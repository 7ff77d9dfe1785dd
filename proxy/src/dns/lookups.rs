//! Asks for every name, again and again: when its TTL is over, within bounds, and
//! more and more seldom while it fails.
//!
//! One task a name, as with active checks, so that a name that hangs delays no
//! other. Tasks of names that stay run on across a reload. Waits are jittered, or
//! names that were asked for together would be for ever.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rand::RngExt;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, LookupError};
use crate::config::{Dns, HostName};

/// Names that are asked for at once; more wait for their turn.
const MAX_AT_ONCE: usize = 16;
/// How far a wait strays to either side.
const JITTER: f64 = 0.1;

/// Asks a name server.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a name.
    ///
    /// # Errors
    /// See [`LookupError`].
    async fn look_up(&self, host: &HostName) -> Result<Answer, LookupError>;
}

/// Hears the answers.
pub trait LookupSink: Send + Sync + 'static {
    /// One lookup of `host` has ended. Returns how many failed in a row so far.
    fn looked_up(&self, host: &HostName, outcome: &Result<Answer, LookupError>) -> u32;
}

/// Looks names up for as long as they are followed; dropping it ends that.
pub struct Lookups {
    resolver: Arc<dyn Resolve>,
    sink: Arc<dyn LookupSink>,
    pace: Pace,
    slots: Arc<Semaphore>,
    tasks: HashMap<HostName, AbortOnDropHandle<()>>,
}

/// When a name is asked for again.
#[derive(Clone, Copy, Debug)]
struct Pace {
    min: Duration,
    max: Duration,
}

/// Asks for one name.
struct Asker {
    host: HostName,
    resolver: Arc<dyn Resolve>,
    sink: Arc<dyn LookupSink>,
    pace: Pace,
    slots: Arc<Semaphore>,
}

// === impl Lookups ===

impl Lookups {
    /// Will ask `resolver` and tell `sink`.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>, sink: Arc<dyn LookupSink>, dns: &Dns) -> Self {
        Self {
            resolver,
            sink,
            pace: Pace {
                min: dns.min_ttl,
                max: dns.max_ttl,
            },
            slots: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            tasks: HashMap::new(),
        }
    }

    /// Asks for exactly these names from now on; for new ones at once. Call it
    /// within a tokio runtime.
    pub fn follow(&mut self, hosts: &BTreeSet<&HostName>) {
        self.tasks.retain(|host, _| hosts.contains(host));
        for host in hosts {
            if !self.tasks.contains_key(*host) {
                let asker = Asker {
                    host: (*host).clone(),
                    resolver: Arc::clone(&self.resolver),
                    sink: Arc::clone(&self.sink),
                    pace: self.pace,
                    slots: Arc::clone(&self.slots),
                };
                let task = AbortOnDropHandle::new(tokio::spawn(asker.run()));
                self.tasks.insert((*host).clone(), task);
            }
        }
    }
}

// === impl Asker ===

impl Asker {
    async fn run(self) {
        loop {
            let outcome = {
                // Never closed, so there is always a permit in the end.
                let _slot = self.slots.acquire().await;
                self.resolver.look_up(&self.host).await
            };
            let failures = self.sink.looked_up(&self.host, &outcome);
            let wait = match outcome {
                Ok(answer) => self.pace.after_answer(answer.ttl),
                Err(_) => self.pace.after_failures(failures),
            };
            tokio::time::sleep(jittered(wait)).await;
        }
    }
}

// === impl Pace ===

impl Pace {
    fn after_answer(self, ttl: Duration) -> Duration {
        ttl.clamp(self.min, self.max)
    }

    fn after_failures(self, in_a_row: u32) -> Duration {
        let doublings = in_a_row.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::{sync::Notify, time::Instant};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers with a TTL, or fails.
    struct Scripted(Mutex<Option<Duration>>);

    #[async_trait]
    impl Resolve for Scripted {
        async fn look_up(&self, _: &HostName) -> Result<Answer, LookupError> {
            let ttl = *self.0.lock();
            ttl.map_or(Err(LookupError::Timeout), |ttl| {
                Ok(Answer {
                    ttl,
                    ..Answer::default()
                })
            })
        }
    }

    /// Notes who was asked for, and when.
    #[derive(Default)]
    struct Heard {
        asked: Mutex<Vec<(String, Instant)>>,
        failures: Mutex<u32>,
        news: Notify,
    }

    impl LookupSink for Heard {
        fn looked_up(&self, host: &HostName, outcome: &Result<Answer, LookupError>) -> u32 {
            self.asked.lock().push((host.to_string(), Instant::now()));
            self.news.notify_one();
            let mut failures = self.failures.lock();
            *failures = outcome.as_ref().map_or(*failures + 1, |_| 0);
            *failures
        }
    }

    impl Heard {
        async fn until(&self, count: usize) -> Vec<(String, Instant)> {
            while self.asked.lock().len() < count {
                self.news.notified().await;
            }
            self.asked.lock().clone()
        }
    }

    fn follower(ttl: Option<Duration>) -> (Lookups, Arc<Scripted>, Arc<Heard>) {
        let (script, heard) = (Arc::new(Scripted(Mutex::new(ttl))), Arc::<Heard>::default());
        let config = crate::config::parse(
            "test.toml",
            "[models.m.versions.1]\nweight = 1\nendpoints = [\"a:1\"]\n",
        );
        let dns = config.unwrap().dns;
        let lookups = Lookups::new(Arc::clone(&script) as _, Arc::clone(&heard) as _, &dns);
        (lookups, script, heard)
    }

    fn gaps(asked: &[(String, Instant)]) -> Vec<f64> {
        let pairs = asked.windows(2);
        pairs.map(|w| (w[1].1 - w[0].1).as_secs_f64()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_again_when_its_ttl_is_over() {
        let host = HostName::new("a").unwrap();
        for (ttl, expected) in [(0, 1.0), (7, 7.0), (3_600, 60.0)] {
            let (mut lookups, _script, heard) = follower(Some(ttl * SECOND));
            lookups.follow(&BTreeSet::from([&host]));
            for gap in gaps(&heard.until(20).await) {
                let allowed = 0.89 * expected..1.11 * expected + 0.01;
                assert!(allowed.contains(&gap), "TTL {ttl} s: {gap} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_fails_is_asked_for_more_and_more_seldom_until_it_answers() {
        let host = HostName::new("a").unwrap();
        let (mut lookups, script, heard) = follower(None);
        lookups.follow(&BTreeSet::from([&host]));
        let gaps = gaps(&heard.until(10).await);
        for (gap, expected) in gaps
            .iter()
            .zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0])
        {
            let allowed = 0.89 * expected..1.11 * expected + 0.01;
            assert!(allowed.contains(gap), "{gap} s, not {expected} s");
        }
        *script.0.lock() = Some(SECOND);
        let asked = heard.until(13).await;
        assert!((asked[12].1 - asked[11].1).as_secs_f64() < 1.2);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_stay_are_not_asked_for_anew_and_others_not_any_more() {
        let [a, b] = ["a", "b"].map(|host| HostName::new(host).unwrap());
        let (mut lookups, _script, heard) = follower(Some(10 * SECOND));
        lookups.follow(&BTreeSet::from([&a]));
        heard.until(1).await;
        lookups.follow(&BTreeSet::from([&a, &b]));
        let asked = heard.until(2).await;
        assert_eq!([&*asked[0].0, &*asked[1].0], ["a", "b"]);
        lookups.follow(&BTreeSet::from([&b]));
        let asked = heard.until(5).await;
        assert!(asked[2..].iter().all(|(host, _)| host == "b"), "{asked:?}");
    }
}
