//! Every decision of the proxy, and nothing else.
//!
//! Which version serves a request, which of its endpoints, whether that
//! endpoint may be used at all, how long it gets, and what its answer teaches:
//! all of it is decided here, by plain `&mut self` methods that take `now` and a
//! random source as arguments. No clock, no lock, no socket. The same types run
//! in the proxy, in its tests and in a simulation, and a failure reproduces from
//! its seed.
//!
//! ```text
//!  Ask ──▶ ModelPolicy::start ──▶ Attempt { version, address, permit, first_byte_within }
//!              │ split, pin, sticky       │
//!              │ fallback                 ▼ the shell sends the request
//!              │ pool: P2C            Outcome
//!              │ breaker                  │
//!              ├──── judge(&permit, outcome), release(permit) ◀┘
//!              └──── tick: requests that have been out for too long
//! ```
//!
//! One [`ModelPolicy`] holds all that is known of one model. It hands out a
//! [`Permit`] with every attempt and takes it back with the [`Outcome`]; a
//! permit that is stale (its endpoint is gone, its breaker has moved on)
//! changes nothing.

pub mod backoff;
mod bad_answer;
pub mod breaker;
mod budget;
pub mod config;
mod endpoint;
mod fetch;
pub mod health;
mod latency;
pub mod model;
pub mod outcome;
mod peers;
mod pool;
mod queue;
mod running;
pub mod split;
pub mod status;
pub mod sticky;
#[cfg(test)]
mod tests;
mod tripped;
mod window;

pub use bad_answer::BadAnswer;
pub use breaker::{Breaker, BreakerState, TripReason};
pub use budget::BudgetConfig;
pub use config::{
    BalanceBy, BalanceConfig, BreakerConfig, ConfigError, HealthConfig, ModelConfig, RetryConfig,
    Rules, VersionConfig,
};
pub use endpoint::LoadReport;
pub use health::{CheckResult, Health};
pub use model::{
    Admitted, Again, Ask, Attempt, ChosenBy, EndpointKey, FallbackReason, ModelPolicy, Observed,
    Permit, Purpose, Refusal, Refused, RouteKind, StandIn, Suspect, Transition,
};
pub use outcome::{Excuse, Outcome};
pub use queue::Waiter;
pub use window::Counts;
