//! The server beneath the load ([`canned`]), which can be stopped.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::SERVER_CORE;
use crate::canned::{self, ANSWER};
use crate::contender::PATH;
use crate::process::Running;

/// What the model takes and gives.
const METADATA: &str = r#"{"name":"m","platform":"bench","inputs":[{"name":"x","datatype":"FP32","shape":[-1,64]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,10]}]}"#;

/// Answers on a core of its own until it is dropped.
#[derive(Debug)]
pub(super) struct Server(Running);

// === impl Server ===

impl Server {
    pub(super) async fn start() -> Result<Self> {
        let locations = format!(
            "    location = /v2/models/m {{
      return 200 '{METADATA}';
    }}
    location / {{
      add_header x-aegis-model-version 1;
      add_header x-aegis-route split;
      return 200 '{ANSWER}';
    }}"
        );
        Ok(Self(canned::start(SERVER_CORE, &locations).await?))
    }

    /// Its address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// Where inferences go.
    pub(super) fn infer(&self) -> String {
        self.url() + PATH
    }

    /// Lets it stand still: connections are accepted by the system, and nobody answers.
    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.0.pid().cast_signed()).context("a process has a number")?;
        Ok(kill_process(pid, signal)?)
    }
}
