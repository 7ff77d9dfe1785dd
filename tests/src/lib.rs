//! Starts the real binaries as processes, for the tests of the wiring and for `aegis-stack`.
//!
//! What a unit test cannot see is proved here: signals, sockets, exit codes, two programs that
//! must agree. A test of this crate holds these kinds of things:
//!
//! - [`Proxy`] and [`Backend`], the real programs, each a [`Process`] in a process group of its
//!   own that is killed when it is dropped and whose log is printed when the test fails;
//! - [`Upstream`], a scripted server inside the test, where a backend should misbehave on cue;
//! - [`NameServer`] and [`Cluster`], who tell where endpoints are, in what mood a test wants;
//! - [`Client`] and [`Hammer`], which ask, and [`Scrape`], which reads what `/metrics` says.
//!
//! Nothing here sleeps: [`until`] asks again until a condition holds, and says what was missing
//! when it never does. Every port is 0 until a program says which one it got.

mod backend;
mod binaries;
mod client;
pub mod clock;
mod cluster;
pub mod digits;
pub mod frames;
mod hammer;
pub mod metrics;
mod names;
mod process;
mod proxy;
mod raw;
mod recorder;
mod scene;
mod stack;
mod toml_file;
mod upstream;
mod wait;

pub use backend::{Backend, BackendSetup};
pub use binaries::{Binaries, workspace_root};
pub use client::{Answer, Client};
pub use cluster::{Asked, Cluster, Mood, PodState};
pub use frames::FrameClient;
pub use hammer::{Hammer, Tally};
pub use metrics::Scrape;
pub use names::{NameServer, Zone};
pub use process::{Bound, Exit, Finished, Process, Signal};
pub use proxy::{Proxy, ProxySetup};
pub use raw::{RawAnswer, raw_exchange};
pub use recorder::{Heard, Recorder};
pub use scene::{Scene, SceneSetup};
pub use stack::{CANARY, STABLE, Stack, StackSetup};
pub use toml_file::TomlFile;
pub use upstream::{Health, Play, Seen, Upstream};
pub use wait::{PATIENCE, until};
