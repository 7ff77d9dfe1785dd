//! The edge: weighted versions, a breaker per endpoint, fallback, and a
//! configuration that changes while it runs.
//!
//! Every decision is made by `aegis-policy`. Here is what surrounds it:
//! [`shell`] is pingora's view of a request and [`exchange`] its state,
//! [`state`] and [`model`] hold what runs, [`accept`] owns the data port, and
//! [`config`], [`reload`], [`metrics`] and [`status`] face the operator.

pub mod accept;
pub mod access_log;
pub mod admin;
pub mod answer;
pub mod audit;
pub mod body;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dns;
pub mod exchange;
pub mod follow;
pub mod forwarded;
pub mod grpc;
pub mod health;
pub mod kubernetes;
pub mod lease;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod own;
pub mod pools;
pub mod reload;
pub mod request;
pub mod request_id;
pub mod rescue;
pub mod serve;
pub mod shadow;
pub mod shell;
pub mod simulate;
pub mod state;
pub mod status;
pub mod sticky;
pub mod supervise;
pub mod text;
pub mod trace;
pub mod uncased;
