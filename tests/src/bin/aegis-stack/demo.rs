//! `aegis-stack demo`: what Aegis is for, in about a minute.
//!
//! One load runs at a steady rate from beginning to end, as an open loop, so that whatever is done
//! to the stack shows in its latencies. At each step something is done, and then a row says what
//! the clients saw from that moment on. Every figure in it was measured: by the load generator, or
//! by the proxy's own counters.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{CANARY, STABLE, Signal, clock};
use aegis_loadtest::{Dataset, Handle, Load, Plan, Rate, Summary, Target};
use anyhow::{Context, Result};

use self::row::{Counters, Row};
use crate::keeper::{Keeper, told_to_stop};
use crate::screen::{Screen, say};

mod row;

/// What the load may last beyond the steps; it is stopped when the story ends.
const MARGIN: Duration = Duration::from_mins(5);

/// The story while it is told.
struct Story {
    screen: Screen,
    keeper: Keeper,
    load: Handle,
    /// How long each step lasts.
    step: Duration,
    counters: Counters,
    /// The canary's share at each step.
    shares: Vec<f64>,
}

/// Tells the story; fails when a request did.
pub(crate) async fn demo(folder: Option<PathBuf>, rate: f64, step: Duration) -> Result<ExitCode> {
    let screen = Screen::new();
    let keeper = Keeper::start(screen, folder).await?;
    let data = Arc::new(Dataset::from_csv(&digits::held_out_path())?);
    let target = Target::new(&format!("http://{}", keeper.stack.proxy.data()), MODEL)?;
    let counters = Counters::read(&keeper.stack.proxy).await?;
    let at_most = step * 4 + MARGIN;
    let load = Load::new(Plan::open(target, data, Rate::new(rate)?, at_most))?.start();
    let mut story = Story {
        screen,
        keeper,
        load,
        step,
        counters,
        shares: Vec::new(),
    };
    say(format_args!(
        "Load: {rate} requests a second, held-out digits, for {} s a step.\n",
        step.as_secs()
    ));
    say(screen.dim(Row::head()));
    tokio::select! {
        told = story.tell() => told?,
        () = told_to_stop() => say("Stopped before the end of the story."),
    }
    let Story {
        keeper,
        load,
        shares,
        ..
    } = story;
    let total = load.stop().await.summary;
    let good = total.failed == 0 && total.client.dropped == 0 && shares.len() == 4;
    say(format_args!(
        "\n{}",
        screen.verdict(good, verdict(good, &total, &shares))
    ));
    for failure in &total.failures {
        say(format_args!("  {} × {}", failure.count, failure.text));
    }
    keeper.drain().await?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn verdict(good: bool, total: &Summary, shares: &[f64]) -> String {
    let shares: Vec<String> = shares
        .iter()
        .map(|share| format!("{:.1} %", share * 100.0))
        .collect();
    format!(
        "{}: {} requests in {:.0} s, {} answered, {} failed, {} not sent in time.\n\
         The canary's share went {}.",
        if good {
            "No request was lost"
        } else {
            "Not as it should be"
        },
        total.finished,
        total.elapsed_seconds,
        total.ok,
        total.failed,
        total.client.dropped,
        shares.join(" → "),
    )
}

// === impl Story ===

impl Story {
    async fn tell(&mut self) -> Result<()> {
        self.step("weights 90 to 10, as configured").await?;
        let done = self.edit_weights().await?;
        self.step(&done).await?;
        let done = self.kill_a_stable_backend().await?;
        self.step(&done).await?;
        let done = self.stop_the_canary().await?;
        self.step(&done).await
    }

    /// Says what was done, lets the load run for a while, and shows what came of it since the last
    /// step.
    async fn step(&mut self, done: &str) -> Result<()> {
        let number = self.shares.len() + 1;
        say(self.screen.bold(format_args!("{number}. {done}")));
        tokio::time::sleep(self.step).await;
        self.keeper.speak_of_the_dead();
        let now = Counters::read(&self.keeper.stack.proxy).await?;
        let counters = now.since(&self.counters);
        self.counters = now;
        let window = self.load.window();
        self.shares.push(window.share(CANARY));
        say(Row {
            window: &window,
            counters,
        });
        Ok(())
    }

    async fn edit_weights(&mut self) -> Result<String> {
        let begun = clock::now();
        let proxy = &mut self.keeper.stack.proxy;
        proxy.set_model(&format!("versions.{STABLE}.weight"), 50);
        proxy.set_model(&format!("versions.{CANARY}.weight"), 50);
        let generation = proxy.apply().await?;
        let took = clock::now().duration_since(begun);
        Ok(format!(
            "weights edited to 50 and 50 in the TOML; generation {generation} after {} ms",
            took.as_millis()
        ))
    }

    async fn kill_a_stable_backend(&mut self) -> Result<String> {
        let backend = self
            .keeper
            .stack
            .stable
            .first_mut()
            .context("no stable backend")?;
        let (name, process) = (backend.process.name().to_owned(), backend.process.id());
        backend.process.kill().await?;
        self.keeper.expect_end(process);
        Ok(format!("{name} killed with SIGKILL"))
    }

    async fn stop_the_canary(&mut self) -> Result<String> {
        let backend = self.keeper.stack.canary.first_mut().context("no canary")?;
        let (name, process) = (backend.process.name().to_owned(), backend.process.id());
        backend.process.signal(Signal::TERM)?;
        let exit = backend.process.exited().await?;
        self.keeper.expect_end(process);
        Ok(format!(
            "{name}, the canary, stopped with SIGTERM; {exit} after {} ms",
            exit.after.as_millis()
        ))
    }
}
