//! Endpoints by name: a host name stands for every address that it has at the
//! time, and the pools follow.
//!
//! ```text
//! Lookups   a task a name: ask, tell, wait for the TTL ──▶ Book   what each name was answered
//!                                                           │
//! Config ───────────────────────────────────────────────────┴──▶ Pools   where each version runs
//!                                                                  │
//!                             policies, active checks, metrics ◀───┘
//! ```
//!
//! Three rules keep traffic flowing whatever the name server does:
//!
//! - **A failure changes nothing.** No answer, SERVFAIL, NXDOMAIN, an empty answer:
//!   the last known addresses stay, and active checks and breakers go on judging
//!   them. A name server that is down for an hour costs nothing but news.
//! - **One answer takes nothing away.** An address goes after `forget_after` answers
//!   in a row without it, since a name server may answer with a part of the
//!   addresses, another one each time. What is dead meanwhile, the checks find in
//!   a second.
//! - **A name that was never answered replaces nothing.** A version that a reload
//!   moves from addresses to a name keeps its old endpoints until the first answer.
//!
//! What stays in a pool keeps its health, breaker and estimates
//! ([`ModelPolicy::reconfigure`](aegis_policy::ModelPolicy::reconfigure)). An answer
//! makes no new generation of the configuration; it leaves an audit line.

mod book;
mod lookups;
mod resolver;

pub use book::{Answer, Book, HostStatus, LookupError};
pub use lookups::{LookupSink, Lookups, Resolve};
pub use resolver::SystemResolver;
