//! Asks for models to be loaded and unloaded at run time.
//!
//! Requests become jobs in a bounded queue that the [loader](crate::loader)'s one thread works off,
//! one after the other. So two loads of one model cannot meet, a load and an unload end in the order
//! in which they came, and memory holds at most one set of models that is not served yet. Who asks
//! waits for the outcome; who leaves meanwhile changes nothing about it.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tokio::sync::oneshot;

use crate::config::{self, ModelControl};

/// Jobs that may wait.
const MAX_WAITING: usize = 16;

/// The most versions that one load may name.
const MAX_VERSIONS: usize = 64;

/// The queue of jobs.
#[derive(Debug)]
pub struct Control {
    mode: ModelControl,
    state: Mutex<State>,
    work: Condvar,
    counted: Counted,
}

/// How often models were loaded and unloaded at run time, and how often that failed.
#[derive(Clone, Debug)]
pub struct Counted(pub(crate) [[IntCounter; 2]; 2]);

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// Something to do, and who waits for it.
#[derive(Debug)]
pub struct Job {
    /// What to do.
    pub action: Action,
    reply: oneshot::Sender<Result<(), ControlError>>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Load a model, anew if it is served already.
    Load {
        /// The model.
        model: String,
        /// Its versions; when not given, those that are served, or configured, or the latest.
        versions: Option<Vec<String>>,
    },
    /// Serve a model no more.
    Unload {
        /// The model.
        model: String,
    },
}

/// A model was not loaded or unloaded. What was served before is served still.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The operator does not want it.
    #[error(
        "models are not loaded or unloaded here: model_control is \"none\" in the configuration"
    )]
    Forbidden,
    /// The repository has no such model, or it has no version.
    #[error("the repository holds no model `{model}`")]
    NoModel {
        /// The name.
        model: String,
    },
    /// The model is not served.
    #[error("model `{model}` is not loaded")]
    NotLoaded {
        /// The name.
        model: String,
    },
    /// The versions make no sense. The client's fault.
    #[error(
        "parameters.versions: expected up to {MAX_VERSIONS} different ones, each {}, got `{got}`",
        config::NAME
    )]
    Versions {
        /// What was named.
        got: String,
    },
    /// It cannot be loaded.
    #[error("model `{model}` version `{version}` was not loaded: {reason}")]
    Failed {
        /// The model.
        model: String,
        /// The version that failed.
        version: String,
        /// Why.
        reason: String,
    },
    /// Too many wait already; a retry may help later.
    #[error("{MAX_WAITING} models wait to be loaded or unloaded already")]
    Full,
    /// The process ends.
    #[error("the server stops")]
    Stopped,
}

// === impl Control ===

impl Control {
    /// An empty queue.
    #[must_use]
    pub fn new(mode: ModelControl, counted: Counted) -> Self {
        Self {
            mode,
            state: Mutex::default(),
            work: Condvar::new(),
            counted,
        }
    }

    /// Whether models may be loaded and unloaded at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode == ModelControl::Explicit
    }

    /// Checks whether models may be loaded and unloaded at all.
    ///
    /// # Errors
    ///
    /// When they may not.
    pub fn check(&self) -> Result<(), ControlError> {
        if self.is_on() {
            Ok(())
        } else {
            Err(ControlError::Forbidden)
        }
    }

    /// Has something done, and waits until it is.
    ///
    /// # Errors
    ///
    /// Why it was not done.
    ///
    /// # Cancel safety
    ///
    /// What was asked for is done all the same.
    pub async fn ask(&self, action: Action) -> Result<(), ControlError> {
        self.check()?;
        action.check()?;
        let (reply, done) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(ControlError::Stopped);
            }
            if state.jobs.len() == MAX_WAITING {
                return Err(ControlError::Full);
            }
            state.jobs.push_back(Job { action, reply });
        }
        self.work.notify_all();
        done.await.unwrap_or(Err(ControlError::Stopped))
    }

    /// The next job; none once it is closed, or when nothing came in that time.
    pub(crate) fn next(&self, patience: Option<Duration>) -> Next {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Next::Closed;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Next::Job(job);
            }
            let Some(patience) = patience else {
                self.work.wait(&mut state);
                continue;
            };
            if self.work.wait_for(&mut state, patience).timed_out() {
                return Next::Nothing;
            }
        }
    }

    /// Counts and tells what came of a job.
    pub(crate) fn done(&self, job: Job, outcome: Result<(), ControlError>) {
        let action = usize::from(matches!(job.action, Action::Unload { .. }));
        self.counted.0[action][usize::from(outcome.is_err())].inc();
        // Who asked may have left.
        let _ = job.reply.send(outcome);
    }

    /// Waits so long; says whether it is still open then.
    pub(crate) fn stays_open(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        let is_open = |state: &mut State| !state.closed;
        self.work.wait_while_for(&mut state, is_open, time);
        !state.closed
    }

    /// Takes no more jobs, and forgets those that wait.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.work.notify_all();
    }
}

/// What there is to do.
pub(crate) enum Next {
    /// This.
    Job(Job),
    /// Nothing came.
    Nothing,
    /// Nothing, ever.
    Closed,
}

// === impl Action ===

impl Action {
    /// Names become folders, so they are checked before anything else.
    fn check(&self) -> Result<(), ControlError> {
        let (Self::Load { model, .. } | Self::Unload { model }) = self;
        if !config::is_name(model) {
            let model = aegis_protocol::excerpt(model).to_string();
            return Err(ControlError::NoModel { model });
        }
        let Self::Load {
            versions: Some(versions),
            ..
        } = self
        else {
            return Ok(());
        };
        let is_good = |(at, version): (usize, &String)| {
            config::is_name(version) && !versions[..at].contains(version)
        };
        let all = !versions.is_empty() && versions.len() <= MAX_VERSIONS;
        if all && versions.iter().enumerate().all(is_good) {
            return Ok(());
        }
        let got = aegis_protocol::excerpt(&versions.join(",")).to_string();
        Err(ControlError::Versions { got })
    }
}

// === impl Counted ===

impl Counted {
    /// The values of the label `action`.
    pub(crate) const ACTIONS: [&str; 2] = ["load", "unload"];
    /// The values of the label `result`.
    pub(crate) const RESULTS: [&str; 2] = ["done", "failed"];
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use prometheus::IntCounter;

    use super::*;

    fn control() -> Control {
        let zero = || IntCounter::new("n", "n").expect("a counter");
        let counted = Counted([[zero(), zero()], [zero(), zero()]]);
        Control::new(ModelControl::Explicit, counted)
    }

    fn load(model: usize) -> Action {
        Action::Load {
            model: format!("m{model}"),
            versions: None,
        }
    }

    fn taken(control: &Control) -> Job {
        match control.next(Some(Duration::ZERO)) {
            Next::Job(job) => job,
            Next::Nothing | Next::Closed => panic!("no job waits"),
        }
    }

    #[test]
    fn as_many_wait_as_may_and_each_is_done_in_its_turn() {
        let control = control();
        let mut asked: Vec<_> = (0..MAX_WAITING)
            .map(|model| Box::pin(control.ask(load(model))))
            .collect();
        for ask in &mut asked {
            assert_eq!(ask.now_or_never(), None, "it waits for its turn");
        }
        assert_eq!(
            control.ask(load(MAX_WAITING)).now_or_never(),
            Some(Err(ControlError::Full))
        );
        let first = taken(&control);
        assert_eq!(first.action, load(0));
        let mut last = Box::pin(control.ask(load(MAX_WAITING)));
        assert_eq!((&mut last).now_or_never(), None, "there is room again");
        assert_eq!(
            control.ask(load(99)).now_or_never(),
            Some(Err(ControlError::Full))
        );
        control.done(first, Ok(()));
        assert_eq!((&mut asked[0]).now_or_never(), Some(Ok(())));
        for model in 1..=MAX_WAITING {
            let job = taken(&control);
            assert_eq!(job.action, load(model));
            control.done(job, Err(ControlError::Stopped));
        }
        assert!(matches!(control.next(Some(Duration::ZERO)), Next::Nothing));
        assert_eq!(last.now_or_never(), Some(Err(ControlError::Stopped)));
        let [[loads, failed], unloads] = &control.counted.0;
        assert_eq!((loads.get(), failed.get()), (1, 16));
        assert!(unloads.iter().all(|count| count.get() == 0));
    }

    #[test]
    fn who_left_has_it_done_all_the_same() {
        let control = control();
        assert_eq!(control.ask(load(1)).now_or_never(), None);
        assert_eq!(taken(&control).action, load(1));
    }

    #[test]
    fn what_is_closed_forgets_who_waits() {
        let control = control();
        let mut ask = Box::pin(control.ask(load(1)));
        assert_eq!((&mut ask).now_or_never(), None);
        control.close();
        assert_eq!(ask.now_or_never(), Some(Err(ControlError::Stopped)));
        assert!(matches!(control.next(None), Next::Closed));
        assert_eq!(
            control.ask(load(2)).now_or_never(),
            Some(Err(ControlError::Stopped))
        );
    }
}
