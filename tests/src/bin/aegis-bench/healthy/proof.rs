//! Shows that the Aegis that was measured did its work: same configuration, same upstreams.
//!
//! A proxy that forwards blindly is fast. So the versions' shares, the clients that stayed, the
//! deadline that went upstream, the retries and the breakers are asked for, one of the upstreams
//! being taken down for the last two.

use std::time::Duration;

use aegis_e2e::metrics::Scrape;
use anyhow::{Context, Result, bail, ensure};
use http::Request;
use http_body_util::{BodyExt, Full};

use super::upstream::Upstreams;
use super::{load, peers};
use crate::client::{self, Http};
use crate::contender::{Contender, PATH};
use crate::process::Running;

/// How long the dead upstream may go unnoticed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What did not take part, in a sentence each.
pub(super) async fn run(aegis: &Contender, mut upstreams: Upstreams) -> Result<Vec<String>> {
    let proxy = peers::start(aegis, &upstreams).await?;
    let http = client::plain();
    let mut missing = Vec::new();
    load::run(&load::generator()?, &proxy, Duration::from_secs(2)).await?;
    let metrics = scrape(&http, &proxy).await?;
    let share = |version: &str| {
        let labels = [("kind", "split"), ("model_version", version)];
        metrics.sum("aegis_proxy_requests_total", &labels)
    };
    let canary = share("2") / (share("1") + share("2"));
    if !(0.08..0.12).contains(&canary) {
        missing.push(format!(
            "the canary had {canary:.3} of the split, and not a tenth"
        ));
    }
    if metrics.sum("aegis_proxy_requests_total", &[("kind", "sticky")]) <= 0.0 {
        missing.push("no client stayed with its version".to_owned());
    }
    match seen_timeout(&http, &proxy).await {
        Ok(left) if (1..=1_000).contains(&left) => {}
        Ok(left) => missing.push(format!("a deadline of 1000 ms went upstream as {left} ms")),
        Err(error) => missing.push(format!("no deadline went upstream: {error:#}")),
    }
    drop(upstreams.running.pop());
    let both = tokio::time::timeout(PATIENCE, until_noticed(&http, &proxy)).await;
    if both.is_err() {
        let metrics = scrape(&http, &proxy).await?;
        let retried = metrics.sum("aegis_proxy_retries_total", &[("result", "made")]);
        let moved = metrics.sum("aegis_proxy_breaker_transitions_total", &[]);
        missing.push(format!(
            "with an upstream down, {retried} retries were made and breakers moved {moved} times"
        ));
    }
    Ok(missing)
}

/// Sends requests until one was retried and a breaker has opened.
async fn until_noticed(http: &Http, proxy: &Running) -> Result<()> {
    loop {
        for _ in 0..20 {
            ask(http, proxy).await?;
        }
        let metrics = scrape(http, proxy).await?;
        let retried = metrics.sum("aegis_proxy_retries_total", &[("result", "made")]);
        let moved = metrics.sum("aegis_proxy_breaker_transitions_total", &[("to", "open")]);
        if retried > 0.0 && moved > 0.0 {
            return Ok(());
        }
    }
}

async fn seen_timeout(http: &Http, proxy: &Running) -> Result<u64> {
    let answer = ask(http, proxy).await?;
    let seen = answer.headers().get("x-seen-timeout");
    Ok(seen.context("the upstream saw none")?.to_str()?.parse()?)
}

async fn ask(http: &Http, proxy: &Running) -> Result<http::Response<()>> {
    let request = Request::post(format!("http://{}{PATH}", proxy.address))
        .header("x-request-timeout-ms", "1000")
        .body(Full::from("{}"))?;
    let answer = http.request(request).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let (head, body) = answer.into_parts();
    body.collect().await?;
    Ok(http::Response::from_parts(head, ()))
}

/// What the proxy counts.
pub(crate) async fn scrape(http: &Http, proxy: &Running) -> Result<Scrape> {
    let Some(admin) = proxy.admin else {
        bail!("the proxy has no admin port");
    };
    Ok(client::metrics(http, admin).await?.parse()?)
}
