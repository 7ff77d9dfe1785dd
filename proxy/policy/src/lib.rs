//! Every decision of the proxy, and nothing else.
//!
//! Which version serves a request, which of its endpoints, whether that
//! endpoint may be used at all, and what its answer teaches: all of it is
//! decided here, by plain `&mut self` methods that take `now` and a random
//! source as arguments. No clock, no lock, no socket. The same types run in the
//! proxy, in its tests and in a simulation, and a failure reproduces from its
//! seed.
//!
//! ```text
//!  Ask ──▶ ModelPolicy::start ──▶ Attempt { version, address, permit }
//!              │ split, pin            │
//!              │ fallback              ▼ the shell sends the request
//!              │ pool: P2C         Outcome
//!              │ breaker               │
//!              └──── ModelPolicy::record(permit, outcome) ◀┘
//! ```
//!
//! One [`ModelPolicy`] holds all that is known of one model. It hands out a
//! [`Permit`] with every attempt and takes it back with the [`Outcome`]; a
//! permit that is stale (its endpoint is gone, its breaker has moved on)
//! changes nothing.

pub mod backoff;
pub mod breaker;
pub mod config;
pub mod health;
pub mod model;
pub mod outcome;
mod pool;
pub mod split;
pub mod status;

pub use breaker::{Breaker, BreakerState, TripReason};
pub use config::{BreakerConfig, ConfigError, HealthConfig, ModelConfig, VersionConfig};
pub use health::{CheckResult, Health};
pub use model::{
    Ask, Attempt, EndpointKey, FallbackReason, ModelPolicy, Permit, Refusal, RouteKind, Transition,
};
pub use outcome::Outcome;
