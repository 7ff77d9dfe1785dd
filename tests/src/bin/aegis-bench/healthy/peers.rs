//! The contenders of this bench, each with one worker, kept connections to both upstreams, and a
//! line in an access log for each request.
//!
//! The peers forward to one pool. Aegis has everything on: two versions at 90/10 with a fallback,
//! clients that stay with their version, breakers, health checks, retries in a budget, deadlines.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::OWN_CORE;
use super::upstream::Upstreams;
use crate::contender::{Contender, configure};
use crate::process::{Running, free_port, local, pinned, quoted};

/// By name, with the program that it runs.
pub(super) const ALL: [(&str, &str); 5] = [
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("envoy", "envoy"),
    ("bare", "bare"),
    ("aegis", "aegis-proxy"),
];

/// Starts one on its own core before the upstreams, and waits until it listens.
pub(super) async fn start(peer: &Contender, upstreams: &Upstreams) -> Result<Running> {
    let folder = tempfile::tempdir()?;
    let (port, admin) = (free_port()?, free_port()?);
    let at = folder.path();
    let pods = &upstreams.addresses;
    let mut command = pinned(OWN_CORE, &peer.program);
    let text = match peer.name {
        "nginx" => Some(nginx(port, pods, at)),
        "haproxy" => Some(haproxy(port, pods)),
        "envoy" => Some(envoy(port, admin, pods, at)),
        "bare" => None,
        _ => Some(aegis(port, admin, pods, at)),
    };
    if let Some(text) = text {
        configure(&mut command, peer.name, at, &text)?;
    } else {
        // It reads no file.
        command.arg(local(port).to_string());
        command.args(pods.map(|pod| pod.to_string()));
        command.arg(at.join("access.log"));
    }
    let mut running = Running::launch(peer.name, command, port, folder).await?;
    running.admin = Some(local(admin));
    Ok(running)
}

fn aegis(port: u16, admin: u16, pods: &[SocketAddr], folder: &Path) -> String {
    let list = quoted(pods);
    format!(
        "[listen]\ndata = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         [access_log]\npath = \"{}/access.log\"\n\
         [models.m]\nfallback = [\"1\"]\n\
         [models.m.sticky]\nheader = \"x-user-id\"\n\
         [models.m.versions.1]\nweight = 90\nendpoints = [{list}]\n\
         [models.m.versions.2]\nweight = 10\nendpoints = [{list}]\n",
        folder.display()
    )
}

fn nginx(port: u16, pods: &[SocketAddr], folder: &Path) -> String {
    let mut servers = String::new();
    for pod in pods {
        let _ = writeln!(servers, "server {pod};");
    }
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/access.log combined buffer=64k flush=1s;
  keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream pods {{ least_conn; {servers} keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://pods; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_connect_timeout 250ms; proxy_read_timeout 1s;
    }}
  }}
}}
"
    )
}

fn haproxy(port: u16, pods: &[SocketAddr]) -> String {
    let mut servers = String::new();
    for (i, pod) in pods.iter().enumerate() {
        let _ = writeln!(servers, "  server p{i} {pod} check inter 1s");
    }
    format!(
        "global
  nbthread 1
  maxconn 8192
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 250ms
  timeout client 600s
  timeout server 1s
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  balance leastconn
  option httpchk GET /health
{servers}"
    )
}

fn envoy(port: u16, admin: u16, pods: &[SocketAddr], folder: &Path) -> String {
    let mut endpoints = String::new();
    for pod in pods {
        let _ = writeln!(
            endpoints,
            "        - endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}",
            pod.ip(),
            pod.port()
        );
    }
    let folder = folder.display();
    format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: f
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {folder}/access.log
          route_config:
            virtual_hosts:
            - name: v
              domains: ['*']
              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: pods, timeout: 3s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: pods
    connect_timeout: 0.25s
    type: STATIC
    lb_policy: LEAST_REQUEST
    circuit_breakers:
      thresholds: [{{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096, max_retries: 256 }}]
    health_checks:
    - {{ timeout: 0.5s, interval: 1s, unhealthy_threshold: 2, healthy_threshold: 2, http_health_check: {{ path: /health }} }}
    load_assignment:
      cluster_name: pods
      endpoints:
      - lb_endpoints:
{endpoints}"
    )
}
