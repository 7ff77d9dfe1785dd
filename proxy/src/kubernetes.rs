//! Endpoints from Kubernetes: a version names a service, and its pods are the endpoints,
//! as the `EndpointSlice`s of the service tell them.
//!
//! ```text
//! Watches   a task a service: list, watch, renew, wait ──▶ Book   the slices of each service
//!                │                                           │
//!             Cluster (the API server)                       ├──▶ Pools ──▶ policies, checks,
//! Config ────────────────────────────────────────────────────┘               metrics
//! ```
//!
//! Five rules keep traffic flowing whatever the API server does:
//!
//! - **A failure changes nothing.** While the API server is away, or answers 403 or 500, the
//!   last known pods stay, and active checks and breakers go on judging them. `/status` and
//!   `aegis_proxy_kubernetes_stale_seconds` say since when.
//! - **A list replaces what is known in one step.** Where a watch has expired (410), what is
//!   listed anew and was there before stays untouched in the pools.
//! - **A service replaces nothing before it has given a pod that serves.** A version that a
//!   reload moves from addresses to a service keeps its old endpoints until then: also where
//!   there is no such service, or none of its pods has the port.
//! - **A pod that is terminating gets no new request**, unless there is no pod that is ready
//!   and it still serves.
//! - **Pods that are not ready are used when there are no others.** A probe that fails
//!   everywhere must not take everybody out; the proxy's own checks judge them.
//!
//! A pod that stays keeps its health, breaker and estimates, as an address of a name does
//! ([`crate::dns`]). Here an empty list of a service that had pods is an answer, though: it was
//! scaled to 0.
//!
//! A watch that has died in silence looks like one in which nothing happens. So every watch
//! ends after a while (`kubernetes.renew_after_ms`) and goes on from the last version that was
//! seen; one that does not end is given up.

mod book;
mod slices;
mod watches;

#[cfg(feature = "kubernetes")]
mod api_server;
#[cfg(feature = "kubernetes")]
mod object;
#[cfg(feature = "kubernetes")]
mod stream;

#[cfg(feature = "kubernetes")]
pub use api_server::ApiServer;
pub use book::{Book, ServiceStatus};
pub use slices::{Condition, Member, Pod, Port, Slice, pods, problem};
pub use watches::{Cluster, Event, Events, Listing, News, WatchError, WatchSink, Watches};
