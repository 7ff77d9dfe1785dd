//! The configuration changes while the proxy runs.
//!
//! One task owns the file. It reads it again when the folder says that
//! something happened to it, every few seconds in case the folder says nothing
//! (network file systems), on SIGHUP, and when the admin port asks. What it read
//! goes to [`Apply`], which takes it whole or refuses it whole.
//!
//! Three things are easy to get wrong here:
//!
//! - **A file that is still being written.** A truncated TOML file is often
//!   valid. So a change that nobody announced is taken only when two readings,
//!   [`Timing::settle`] apart, are the same.
//! - **A file that is swapped, not written.** Editors rename a new file over
//!   the old one, and Kubernetes swaps the symlink `..data` in the folder above.
//!   So the folder is watched, and never the file.
//! - **A bad file that stays.** It is reported once, and not at every look.
//! - **A file that is away for a moment.** Back again, it says nothing new, so that
//!   it does not end a rollback; that it is back is reported.
//!
//! Every reading that found something new, or that was asked for, leaves a
//! [`Report`], an audit line with the difference, and a count.

mod watch;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aegis_config::{Fault, Rejected};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    audit::{self, By},
    metrics::{Metrics, ReloadResult},
    supervise::aside,
};
use watch::Watch;

/// Requests to reload that may wait; more are told to come again.
const WAITING: usize = 16;
/// A file that never settles is taken as it is after so many readings.
const MAX_READINGS: usize = 50;

/// Takes a new text whole, or refuses it whole.
pub trait Apply: Send + 'static {
    /// Takes `text`, whose origin is `origin`.
    ///
    /// # Errors
    ///
    /// Every fault of the text; what ran still runs.
    fn apply(&mut self, origin: &str, text: &str) -> Result<Applied, Rejected>;
}

/// A text that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The number of the configuration that runs now.
    pub generation: u64,
    /// What changed, one line a fact; empty when the text says what ran already.
    pub changes: Vec<String>,
}

/// How often and how carefully the file is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From one unprompted look to the next.
    pub poll: Duration,
    /// Between the two readings that must agree.
    pub settle: Duration,
}

/// What made the file be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// It changed.
    File,
    /// SIGHUP.
    Signal,
    /// `POST /reload`.
    Admin,
    /// `POST /rollback`: not the file, but what ran before.
    Rollback,
}

/// What made the file be read, and who.
#[derive(Clone, Copy, Debug)]
struct Cause {
    trigger: Trigger,
    by: By,
}

/// How a reading ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Applied, refused or unchanged.
    pub result: ReloadResult,
    /// What made the file be read.
    pub trigger: Trigger,
    /// How long ago.
    pub seconds_ago: f64,
    /// The number of the configuration that was made; none when refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// Asks for reloads, and knows how the last one ended. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReloadHandle {
    origin: Arc<str>,
    requests: mpsc::Sender<Request>,
    last: Arc<Mutex<Option<(Instant, Report)>>>,
}

/// What somebody asks for, and where the answer goes; none when there is
/// nothing to go back to.
#[derive(Debug)]
struct Request {
    wish: Wish,
    by: SocketAddr,
    reply: oneshot::Sender<Option<Report>>,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Reload,
    Rollback,
}

/// Why a reload could not be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Too many wait already; a later try may be heard.
    #[error("too many reloads wait already")]
    Busy,
    /// The proxy is going away.
    #[error("the proxy is going away")]
    Gone,
    /// No other configuration ran before, or it has been gone back to.
    #[error("there is no configuration to go back to")]
    NothingBefore,
}

/// Owns the file; [`Reloader::run`] is its task.
pub struct Reloader<A> {
    path: PathBuf,
    timing: Timing,
    apply: Arc<Mutex<A>>,
    metrics: Arc<Metrics>,
    handle: ReloadHandle,
    requests: mpsc::Receiver<Request>,
    hangup: Signal,
    watch: Watch,
    /// The text that was read last, good or bad.
    seen: String,
    /// Why there was none at the last reading.
    fault: Option<Rejected>,
    /// Whether a rollback holds against what was seen.
    held: bool,
    /// The text that runs.
    running: String,
    /// The text that ran before it.
    before: Option<String>,
}

/// A text, or why there is none.
type Reading = Result<String, Rejected>;

// === impl Timing ===

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(5),
            settle: Duration::from_millis(50),
        }
    }
}

// === impl ReloadHandle ===

impl ReloadHandle {
    /// The file, as the user named it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Reads the file now and takes it, for `by`, and says how that ended.
    ///
    /// # Errors
    ///
    /// See [`AskError`].
    pub async fn reload(&self, by: SocketAddr) -> Result<Report, AskError> {
        self.ask(Wish::Reload, by).await
    }

    /// Goes back to the configuration that ran before, for `by`, and says how that ended.
    /// It stays until the file says something new, or a reload is asked for.
    ///
    /// # Errors
    ///
    /// See [`AskError`].
    pub async fn rollback(&self, by: SocketAddr) -> Result<Report, AskError> {
        self.ask(Wish::Rollback, by).await
    }

    async fn ask(&self, wish: Wish, by: SocketAddr) -> Result<Report, AskError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { wish, by, reply };
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => AskError::Busy,
                mpsc::error::TrySendError::Closed(_) => AskError::Gone,
            })?;
        let report = answer.await.map_err(|_| AskError::Gone)?;
        report.ok_or(AskError::NothingBefore)
    }

    /// How the last reading ended that found something new, or was asked for.
    #[must_use]
    pub fn last(&self) -> Option<Report> {
        let last = self.last.lock();
        last.as_ref().map(|(at, report)| Report {
            seconds_ago: at.elapsed().as_secs_f64(),
            ..report.clone()
        })
    }
}

// === impl Reloader ===

impl<A: Apply> Reloader<A> {
    /// Prepares to follow `path`, of which `running` is the text that runs.
    ///
    /// From here on SIGHUP no longer ends the process. Call it within a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// When the signal cannot be caught. A folder that cannot be watched is no
    /// error: the file is still looked at now and then.
    pub fn new(
        path: &Path,
        running: String,
        timing: Timing,
        apply: A,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (sender, requests) = mpsc::channel(WAITING);
        Ok(Self {
            path: path.to_owned(),
            timing,
            apply: Arc::new(Mutex::new(apply)),
            metrics,
            handle: ReloadHandle {
                origin: path.display().to_string().into(),
                requests: sender,
                last: Arc::default(),
            },
            requests,
            hangup: signal(SignalKind::hangup())?,
            watch: Watch::new(path),
            seen: running.clone(),
            fault: None,
            held: false,
            running,
            before: None,
        })
    }

    /// A handle for the admin port.
    #[must_use]
    pub fn handle(&self) -> ReloadHandle {
        self.handle.clone()
    }

    /// Follows the file until it is dropped. Where that ends by a panic, it may be called again.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no configuration that was taken: a text that is being applied is
    /// applied to its end, though nobody reports it.
    pub async fn run(&mut self) {
        // The file may have changed since the running text was read.
        self.look().await;
        let period = self.timing.poll;
        let mut poll = tokio::time::interval_at(Instant::now() + period, period);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.watch.changed() => self.look().await,
                _ = poll.tick() => self.look().await,
                Some(()) = self.hangup.recv() => {
                    self.read_now(Cause::SIGNAL).await;
                }
                Some(Request { wish, by, reply }) = self.requests.recv() => {
                    let by = By::Admin(by);
                    let report = match wish {
                        Wish::Reload => {
                            let trigger = Trigger::Admin;
                            Some(self.read_now(Cause { trigger, by }).await)
                        }
                        Wish::Rollback => self.roll_back(by).await,
                    };
                    // Whoever asked may have gone.
                    let _ = reply.send(report);
                }
            }
        }
    }

    /// Takes the file if it is another than the last one, once it has settled.
    async fn look(&mut self) {
        let mut reading = self.read().await;
        for _ in 0..MAX_READINGS {
            if !self.is_news(&reading) {
                return;
            }
            tokio::time::sleep(self.timing.settle).await;
            let again = self.read().await;
            if again == reading {
                break;
            }
            reading = again;
        }
        self.take(reading, Cause::FILE).await;
    }

    /// Takes the file as it is.
    async fn read_now(&mut self, cause: Cause) -> Report {
        let reading = self.read().await;
        self.take(reading, cause).await
    }

    async fn read(&self) -> Reading {
        let (path, origin) = (self.path.clone(), Arc::clone(&self.handle.origin));
        let read = move || aegis_config::read_file(&path).map_err(|error| error.rejected(&origin));
        aside(read).await
    }

    /// Whether it is another than the last one.
    fn is_news(&self, reading: &Reading) -> bool {
        match reading {
            Ok(text) => self.fault.is_some() || *text != self.seen,
            Err(fault) => self.fault.as_ref() != Some(fault),
        }
    }

    async fn take(&mut self, reading: Reading, cause: Cause) -> Report {
        let text = match reading {
            Ok(text) => text,
            Err(fault) => {
                self.fault = Some(fault.clone());
                return self.apply(Err(fault), cause).await;
            }
        };
        self.fault = None;
        if self.held && cause.trigger == Trigger::File && text == self.seen {
            // It was only away.
            let running = self.running.clone();
            return self.apply(Ok(running), cause).await;
        }
        self.held = false;
        self.seen.clone_from(&text);
        let report = self.apply(Ok(text.clone()), cause).await;
        if report.result == ReloadResult::Applied {
            self.before = Some(std::mem::replace(&mut self.running, text));
        }
        report
    }

    /// Takes what ran before. The file stays as it was seen, so that only
    /// another one ends this.
    async fn roll_back(&mut self, by: By) -> Option<Report> {
        let text = self.before.take()?;
        let trigger = Trigger::Rollback;
        let report = self.apply(Ok(text.clone()), Cause { trigger, by }).await;
        if report.result == ReloadResult::Refused {
            self.before = Some(text);
        } else {
            self.running = text;
            self.held = true;
        }
        Some(report)
    }

    async fn apply(&mut self, reading: Reading, cause: Cause) -> Report {
        let origin = Arc::clone(&self.handle.origin);
        let (apply, of) = (Arc::clone(&self.apply), Arc::clone(&origin));
        let apply = move |text: String| apply.lock().apply(&of, &text);
        let result = match reading {
            Ok(text) => aside(move || apply(text)).await,
            Err(fault) => Err(fault),
        };
        let report = Report::of(result, cause.trigger);
        report.log(&origin, cause.by);
        self.metrics.reloaded(report.result);
        *self.handle.last.lock() = Some((Instant::now(), report.clone()));
        report
    }
}

// === impl Cause ===

impl Cause {
    const FILE: Self = Self {
        trigger: Trigger::File,
        by: By::File,
    };
    const SIGNAL: Self = Self {
        trigger: Trigger::Signal,
        by: By::Signal,
    };
}

// === impl Report ===

impl Report {
    fn of(result: Result<Applied, Rejected>, trigger: Trigger) -> Self {
        let (result, generation, changes, faults) = match result {
            Ok(applied) if applied.changes.is_empty() => (
                ReloadResult::Unchanged,
                Some(applied.generation),
                Vec::new(),
                Vec::new(),
            ),
            Ok(applied) => {
                let Applied {
                    generation,
                    changes,
                } = applied;
                (ReloadResult::Applied, Some(generation), changes, Vec::new())
            }
            Err(rejected) => (ReloadResult::Refused, None, Vec::new(), rejected.faults),
        };
        Self {
            result,
            trigger,
            seconds_ago: 0.0,
            generation,
            changes,
            faults,
        }
    }

    /// Leaves the audit line. Faults are told one by one too, as `check` tells them.
    fn log(&self, origin: &str, by: By) {
        let outcome = match self.result {
            ReloadResult::Applied => audit::Outcome::Applied,
            ReloadResult::Unchanged => audit::Outcome::Unchanged,
            ReloadResult::Refused => audit::Outcome::Refused,
        };
        let action = match self.trigger {
            Trigger::Rollback => audit::Action::Rollback,
            Trigger::File | Trigger::Signal | Trigger::Admin => audit::Action::Reload,
        };
        let faults = self.faults.iter();
        let faults: Vec<_> = faults
            .map(|fault| format!("{}: {}", fault.path, fault.message))
            .collect();
        let facts = match self.result {
            ReloadResult::Refused => &faults,
            ReloadResult::Applied | ReloadResult::Unchanged => &self.changes,
        };
        audit::Entry {
            by,
            action,
            subject: origin,
            outcome,
            generation: self.generation,
            facts,
        }
        .write();
        if self.result == ReloadResult::Refused {
            tracing::error!(
                origin,
                faults = self.faults.len(),
                "configuration refused; the running one stays"
            );
            for fault in &self.faults {
                tracing::error!(line = fault.line, path = %fault.path, "{}", fault.message);
            }
        }
    }
}
