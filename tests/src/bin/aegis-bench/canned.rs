//! A server that costs next to nothing: nginx, answering from its configuration.
//!
//! It is one process, so that ending or stopping it ends or stops all of it.

use std::path::Path;

use anyhow::Result;

use crate::args::installed;
use crate::contender::configure;
use crate::process::{Running, free_port, pinned};

/// What an inference is answered.
pub(crate) const ANSWER: &str = r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,10],"data":[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0]}]}"#;

/// Starts it on these cores, with these `location` blocks.
pub(crate) async fn start(cores: &str, locations: &str) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let at = folder.path();
    let mut command = pinned(cores, installed("nginx")?);
    configure(
        &mut command,
        "nginx",
        at,
        &configuration(port, at, locations),
    )?;
    Running::launch("nginx", command, port, folder).await
}

/// With room for more connections than any load opens.
fn configuration(port: u16, folder: &Path, locations: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    default_type application/json;
{locations}
  }}
}}
"
    )
}
