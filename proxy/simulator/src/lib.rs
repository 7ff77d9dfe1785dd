//! Tries a configuration before it ships.
//!
//! The proxy's own decisions ([`aegis_policy::ModelPolicy`], the very type) are put
//! before simulated pods, in virtual time: a minute of traffic takes seconds,
//! faults come on cue, and a seed repeats every bit of it.
//!
//! ```text
//!  Setup (from the proxy's TOML) ─┐
//!  Scenario (TOML: load, faults) ─┼─▶ run ──▶ Report ──▶ table, JSON, plot
//!  seed ──────────────────────────┘
//! ```
//!
//! What is real: which version and endpoint a request gets, how long an attempt
//! may take, what its answer teaches, when a breaker moves, whether a retry may
//! follow. The shell's part (`proxy/src/exchange/attempt.rs`) is mirrored
//! in `world/attempt.rs`, call by call. What is simulated: pods, as a few slots with a queue and a
//! distribution of service times (`pod.rs`); the network, as a constant delay; and
//! clients, who come at random and wait for as long as they are told.
//!
//! No clock is read here and nothing is waited for: virtual time is an instant
//! that the caller gives, plus an offset.

mod events;
pub mod plot;
mod pod;
pub mod report;
mod rng;
pub mod scenario;
pub mod setup;
mod tally;
mod time;
mod world;

pub use report::Report;
pub use scenario::Scenario;
pub use setup::Setup;
pub use world::{RunError, run};
