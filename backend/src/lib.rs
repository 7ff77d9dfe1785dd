//! The model server: queue, batcher, Open Inference Protocol over REST, health and metrics.
//!
//! The life of a request:
//!
//! | step | where |
//! |---|---|
//! | accept, within limits of number and time | [`server`] |
//! | identify model and version, decode, encode | [`api`] |
//! | compare with the signature, check for what is unsafe, count | [`infer`], [`signature`], [`safety`] |
//! | refuse what would be late, queue in order of deadlines, within bounds | [`scheduler`], [`batcher`] |
//! | learn what batches cost, and tell how long a new request would wait | [`scheduler`] |
//! | run in a batch of equal shapes, on an instance's own thread | [`engine`], [`model`] |
//! | cut into rows, check, encode, record | [`engine`], [`api`], [`metrics`] |
//!
//! What is served, and how each model is, stands in [`served`]; [`loader`] gets it there from what
//! [`config`] and [`repository`] say, when [`integrity`] lets it. A row never sees its neighbours: one bad, late or cancelled
//! row changes nothing for the others.

pub mod api;
pub mod app;
pub mod batcher;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod engine;
pub mod fetch;
pub mod infer;
pub mod integrity;
pub mod loader;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod repository;
pub mod safety;
pub mod scheduler;
mod screen;
pub mod seldom;
pub mod served;
pub mod server;
pub mod signature;
