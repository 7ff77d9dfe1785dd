//! Open-loop load that counts latency from the intended send time, and scores the answers.
//!
//! A closed-loop generator waits for an answer before it sends the next
//! request, so a server that stalls for a second is asked once in that second
//! and looks almost fine. Users do not wait for each other. Here a schedule is
//! drawn first (Poisson, from a seed), every request is due when the schedule
//! says, and its latency runs from that instant whatever held it up: the server,
//! the network, a connection limit, or this program. The difference is called
//! coordinated omission; `tests/it/omission.rs` shows it.
//!
//! What this client itself could not do is said and never hidden: requests over
//! `max_in_flight` are counted as dropped, lateness of sending as lag. A run with too much of
//! either is called invalid, and passes no objective.
//!
//! Each module holds one idea:
//!
//! - pure: [`arrivals`](Arrivals), [`profile`](Profile) and [`trace`](Trace) (when), [`question`](Questions) and
//!   `order` (what), `transport` (how it is written), `score` (was the
//!   answer right), `tally` (what happened so far), [`report`](Report) (in figures,
//!   as a table and as a page), `timeline` (when it happened), [`measured`](Measured) (in histograms, and as an HDR log), [`slo`] (whether objectives
//!   are kept), [`merge`] (several runs as one), [`compare`] (whether one of two is worse), [`safety`] (what unsafe requests were let through, and what that proves),
//!   [`tune`] (which settings serve most, in few runs);
//! - shell: `clock` (the only reader of time), `pace` (waits for instants), `client` (HTTP/1.1 and gRPC), [`metadata`] (what a model takes), `shot` (one
//!   request), [`load`](Load) (all of them), `scrape` (what servers say of themselves meanwhile), [`cli`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//! use aegis_loadtest::{Dataset, Load, Plan, Rate, Target};
//!
//! let data = Arc::new(Dataset::from_csv("loadtest/data/digits/test.csv".as_ref())?);
//! let target = Target::new("http://127.0.0.1:8080", "digits")?;
//! let mut load = Load::new(Plan::open(target, data, Rate::new(500.0)?, Duration::from_secs(30)))?
//!     .start();
//! load.finished().await;
//! println!("{}", load.stop().await);
//! # Ok(())
//! # }
//! ```

mod arrivals;
mod client;
mod clock;
pub mod compare;
mod dataset;
mod load;
mod measured;
pub mod merge;
pub mod metadata;
mod order;
mod outcome;
mod pace;
mod plan;
mod profile;
mod question;
mod report;
pub mod safety;
mod schedule;
mod score;
mod scrape;
mod shot;
pub mod slo;
mod stop;
mod tally;
mod timeline;
mod trace;
mod transport;
pub mod tune;
mod words;

pub mod cli;

pub use crate::arrivals::{Arrivals, Rate, RateError, Spacing};
pub use crate::dataset::{Dataset, DatasetError, Example};
pub use crate::load::{Handle, Load, LoadError};
pub use crate::measured::{
    Examples, Latencies, LatenciesError, LineError, LogError, Measured, RunId,
};
pub use crate::outcome::ErrorKind;
pub use crate::plan::{Manner, Part, Pattern, Plan, Sticky, Target, TargetError};
pub use crate::profile::{Profile, ProfileError, Spike};
pub use crate::question::{Asked, Draw, LineProblem, Misfit, Question, QuestionError, Questions};
pub use crate::report::{
    Client, Failure, PartSummary, PlanSummary, Quantiles, Report, Summary, VersionSummary,
};
pub use crate::schedule::Schedule;
pub use crate::trace::{Trace, TraceError};
pub use crate::transport::Transport;
