//! The server beneath the load: nginx, which answers from its configuration, and can be stopped.

use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::SERVER_CORE;
use crate::contender::{PATH, Running, free_port, program, write};

/// Answers on a core of its own until it is dropped.
#[derive(Debug)]
pub(super) struct Server(Running);

// === impl Server ===

impl Server {
    pub(super) async fn start() -> Result<Self> {
        let nginx = program("nginx", &[]).context("no program `nginx` in PATH")?;
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let at = folder.path();
        let file = write(
            at,
            "nginx.conf",
            &configuration(port, &at.display().to_string()),
        )?;
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]).arg(nginx);
        command.arg("-p").arg(at).arg("-c").arg(file);
        Ok(Self(Running::launch("nginx", command, port, folder).await?))
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

fn configuration(port: u16, folder: &str) -> String {
    format!(
        r#"daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    default_type application/json;
    location = /v2/models/m {{
      return 200 '{{"name":"m","platform":"bench","inputs":[{{"name":"x","datatype":"FP32","shape":[-1,64]}}],"outputs":[{{"name":"y","datatype":"FP32","shape":[-1,10]}}]}}';
    }}
    location / {{
      add_header x-aegis-model-version 1;
      add_header x-aegis-route split;
      return 200 '{{"model_name":"m","model_version":"1","outputs":[{{"name":"y","datatype":"FP32","shape":[1,10],"data":[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0]}}]}}';
    }}
  }}
}}
"#
    )
}
