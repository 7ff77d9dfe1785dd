//! The proxies that are compared, each configured by somebody who knows it: least requests, active
//! checks every second, its own way to take endpoints out, one retry (ours: its defaults), one
//! worker.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::args::{Programs, asks_for};
use crate::process::{Running, free_port, quoted, serve, write};

/// Where inferences go.
pub(crate) const PATH: &str = "/v2/models/m/infer";

/// One proxy.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
}

/// By name, with the program that it runs.
pub(crate) const ALL: [(&str, &str); 5] = [
    ("aegis", "aegis-proxy"),
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("envoy", "envoy"),
    ("traefik", "traefik"),
];

/// Of the contenders `all`, by name and program, those of `only` (or all) that are there.
pub(crate) fn found(
    all: &[(&'static str, &str)],
    only: &[String],
    programs: &Programs,
) -> Result<Vec<Contender>> {
    let is_known = |name: &String| all.iter().any(|(known, _)| known == name);
    if let Some(unknown) = only.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        bail!("no contender `{unknown}`; known: {}", known.join(", "));
    }
    let mut found = Vec::new();
    for &(name, file) in all.iter().filter(|(name, _)| asks_for(only, name)) {
        match programs.look_for(file)? {
            Some(program) => found.push(Contender { name, program }),
            None if only.is_empty() => eprintln!("{name}: no program `{file}`, left out"),
            None => bail!("{name}: no program `{file}` in PATH or --bin"),
        }
    }
    Ok(found)
}

/// Writes the configuration of the contender of that name, and lets its command read it.
pub(crate) fn configure(command: &mut Command, name: &str, at: &Path, text: &str) -> Result<()> {
    match name {
        "nginx" => {
            let file = write(at, "nginx.conf", text)?;
            command.arg("-p").arg(at).arg("-c").arg(file);
        }
        "haproxy" => {
            let file = write(at, "haproxy.cfg", text)?;
            command.args(["-db", "-f"]).arg(file);
        }
        "envoy" => {
            let file = write(at, "envoy.yaml", text)?;
            command.args(["--concurrency", "1", "--log-level", "error"]);
            command.arg("--disable-hot-restart").arg("-c").arg(file);
        }
        "traefik" => {
            let file = write(at, "traefik.yaml", text)?;
            command.env("GOMAXPROCS", "1");
            command.arg(format!("--configFile={}", file.display()));
        }
        _ => {
            serve(command, at, "proxy.toml", text)?;
        }
    }
    Ok(())
}

// === impl Contender ===

impl Contender {
    /// Ours.
    pub(crate) fn aegis(programs: &Programs) -> Result<Self> {
        Ok(Self {
            name: "aegis",
            program: programs.find("aegis-proxy")?,
        })
    }

    /// Starts it before these pods, and waits until it listens.
    pub(crate) async fn start(&self, pods: &[SocketAddr]) -> Result<Running> {
        let folder = tempfile::tempdir()?;
        let (port, admin) = (free_port()?, free_port()?);
        let at = folder.path();
        let text = match self.name {
            "nginx" => nginx(port, pods, at),
            "haproxy" => haproxy(port, pods),
            "envoy" => envoy(port, admin, pods),
            "traefik" => traefik(port, &write(at, "dynamic.yaml", &traefik_dynamic(pods))?),
            _ => aegis(port, admin, pods),
        };
        let mut command = Command::new(&self.program);
        configure(&mut command, self.name, at, &text)?;
        Running::launch(self.name, command, port, folder).await
    }
}

pub(crate) fn aegis(port: u16, admin: u16, pods: &[SocketAddr]) -> String {
    format!(
        "[listen]\ndata = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         [models.m.versions.1]\nweight = 1\nendpoints = [{}]\n",
        quoted(pods)
    )
}

fn nginx(port: u16, pods: &[SocketAddr], folder: &Path) -> String {
    let mut servers = String::new();
    for pod in pods {
        let _ = writeln!(servers, "server {pod} max_fails=1 fail_timeout=10s;");
    }
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream pods {{ least_conn; {servers} keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://pods; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_connect_timeout 250ms; proxy_read_timeout 1s;
      proxy_next_upstream error timeout http_500 http_502 http_503 http_504 http_429 non_idempotent;
      proxy_next_upstream_tries 2;
    }}
  }}
}}
"
    )
}

fn haproxy(port: u16, pods: &[SocketAddr]) -> String {
    let mut servers = String::new();
    for (i, pod) in pods.iter().enumerate() {
        let _ = writeln!(servers, "  server p{i} {pod}");
    }
    format!(
        "global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 250ms
  timeout client 30s
  timeout server 1s
  timeout queue 1s
  retries 1
  retry-on all-retryable-errors
  option redispatch 1
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  balance leastconn
  option httpchk GET /health
  default-server check inter 1s fall 2 rise 2 observe layer7 error-limit 10 on-error mark-down
{servers}"
    )
}

fn envoy(port: u16, admin: u16, pods: &[SocketAddr]) -> String {
    let mut endpoints = String::new();
    for pod in pods {
        let _ = writeln!(
            endpoints,
            "        - endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}",
            pod.ip(),
            pod.port()
        );
    }
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
          route_config:
            virtual_hosts:
            - name: v
              domains: ['*']
              routes:
              - match: {{ prefix: / }}
                route:
                  cluster: pods
                  timeout: 3s
                  retry_policy:
                    retry_on: 5xx,reset,connect-failure,refused-stream,retriable-status-codes
                    retriable_status_codes: [429]
                    num_retries: 1
                    per_try_timeout: 1s
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate }}
                    host_selection_retry_max_attempts: 5
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
    outlier_detection:
      {{ consecutive_5xx: 5, consecutive_gateway_failure: 5, interval: 1s, base_ejection_time: 5s, max_ejection_percent: 50,
         success_rate_minimum_hosts: 3, success_rate_request_volume: 20, failure_percentage_threshold: 50,
         enforcing_failure_percentage: 100, failure_percentage_minimum_hosts: 3, failure_percentage_request_volume: 20 }}
    load_assignment:
      cluster_name: pods
      endpoints:
      - lb_endpoints:
{endpoints}"
    )
}

fn traefik(port: u16, dynamic: &Path) -> String {
    format!(
        "global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
log: {{ level: ERROR }}
entryPoints: {{ f: {{ address: '127.0.0.1:{port}' }} }}
providers: {{ file: {{ filename: '{}' }} }}
",
        dynamic.display()
    )
}

fn traefik_dynamic(pods: &[SocketAddr]) -> String {
    let mut servers = String::new();
    for pod in pods {
        let _ = writeln!(servers, "        - url: 'http://{pod}'");
    }
    format!(
        "http:
  routers:
    r: {{ entryPoints: [f], rule: 'PathPrefix(`/`)', service: pods, middlewares: [again] }}
  middlewares:
    again: {{ retry: {{ attempts: 2, initialInterval: 1ms }} }}
  services:
    pods:
      loadBalancer:
        strategy: p2c
        passHostHeader: true
        healthCheck: {{ path: /health, interval: 1s, timeout: 500ms }}
        passiveHealthCheck: {{ failureWindow: 5s, maxFailedAttempts: 5 }}
        serversTransport: t
        servers:
{servers}  serversTransports:
    t: {{ maxIdleConnsPerHost: 256, forwardingTimeouts: {{ dialTimeout: 250ms, responseHeaderTimeout: 1s }} }}
"
    )
}
