//! Two upstreams that cost next to nothing: nginx, answering from its configuration.
//!
//! Each is one process, so that ending it ends all of it. They say in `x-seen-timeout` what they were
//! told of the deadline.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};

use super::OTHER_CORE;
use crate::contender::{Running, free_port, program};

/// Both of them; one can be taken down.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) addresses: [SocketAddr; 2],
    pub(super) running: Vec<Running>,
}

// === impl Upstreams ===

impl Upstreams {
    pub(super) async fn start() -> Result<Self> {
        let nginx = program("nginx", &[]).context("no program `nginx` in PATH")?;
        let mut running = Vec::new();
        for _ in 0..2 {
            let folder = tempfile::tempdir()?;
            let port = free_port()?;
            let file = folder.path().join("nginx.conf");
            fs::write(
                &file,
                configuration(port, &folder.path().display().to_string()),
            )?;
            let mut command = Command::new("taskset");
            command
                .args(["-c", OTHER_CORE])
                .arg(&nginx)
                .arg("-p")
                .arg(folder.path());
            command.arg("-c").arg(file);
            running.push(Running::launch("upstream", command, port, folder).await?);
        }
        Ok(Self {
            addresses: [running[0].address, running[1].address],
            running,
        })
    }
}

fn configuration(port: u16, folder: &str) -> String {
    format!(
        r#"daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      default_type application/json;
      add_header x-seen-timeout $http_x_request_timeout_ms;
      return 200 '{{"model_name":"m","model_version":"1","outputs":[{{"name":"y","datatype":"FP32","shape":[1,10],"data":[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0]}}]}}';
    }}
  }}
}}
"#
    )
}
