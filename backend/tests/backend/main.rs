//! The server through real sockets, one file a concern.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod support;

mod bad_input;
mod batching;
mod binary;
mod cli;
mod compression;
mod control;
#[cfg(feature = "torch")]
mod deep;
#[cfg(feature = "torch")]
mod digits;
mod documents;
mod drain;
mod faults;
mod fetch;
mod grpc;
mod health;
mod infer;
mod integrity;
mod limits;
mod load_report;
mod metrics;
mod names;
mod openapi;
mod safety;
mod tls;
#[cfg(feature = "torch")]
mod zoo;
