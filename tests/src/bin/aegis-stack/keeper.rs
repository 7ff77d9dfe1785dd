//! Looks after a running stack: says when a part of it dies, and brings it to its end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use aegis_e2e::{Binaries, Process, Signal, Stack, StackSetup, clock};
use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::screen::{Screen, say};

/// How often the children are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// Lines of its log that are shown of a child that died.
const LAST_WORDS: usize = 12;

/// A running stack and the folder that goes away with it.
pub(crate) struct Keeper {
    pub(crate) stack: Stack,
    screen: Screen,
    /// Those that ended and were spoken of, or were ended on purpose.
    gone: BTreeSet<i32>,
    _folder: Option<TempDir>,
}

// === impl Keeper ===

impl Keeper {
    /// Starts the stack and says how long it took; a signal before its end stops it.
    pub(crate) async fn start(screen: Screen, folder: Option<PathBuf>) -> Result<Self> {
        let begun = clock::now();
        let (path, temporary) = if let Some(path) = folder {
            // The programs resolve paths against their configuration's folder.
            (std::path::absolute(path)?, None)
        } else {
            let folder = tempfile::Builder::new().prefix("aegis-stack-").tempdir()?;
            (folder.path().to_owned(), Some(folder))
        };
        let setup = StackSetup::new(Binaries::beside_this_program()?, path);
        say(format_args!(
            "Starting {} backends of version 1, {} of version 2, and the proxy …",
            setup.stable, setup.canary
        ));
        let stack = tokio::select! {
            stack = setup.start() => stack?,
            () = told_to_stop() => bail!("stopped before everything was ready"),
        };
        let took = clock::now().duration_since(begun);
        say(format_args!("Ready after {:.1} s.", took.as_secs_f64()));
        Ok(Self {
            stack,
            screen,
            gone: BTreeSet::new(),
            _folder: temporary,
        })
    }

    /// Waits for a signal, and meanwhile speaks of every part that dies.
    pub(crate) async fn until_told_to_stop(&mut self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = told_to_stop();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = ticks.tick() => self.speak_of_the_dead(),
            }
        }
    }

    /// Lets a part end without a word about it: it was meant to.
    pub(crate) fn expect_end(&mut self, process: i32) {
        self.gone.insert(process);
    }

    /// Says which parts ended that were not meant to, with the end of their logs.
    pub(crate) fn speak_of_the_dead(&mut self) {
        let screen = self.screen;
        for process in processes(&mut self.stack) {
            let Some(status) = process
                .ended()
                .filter(|_| !self.gone.contains(&process.id()))
            else {
                continue;
            };
            self.gone.insert(process.id());
            let what = format!(
                "{} died ({status}); the rest keeps running.",
                process.name()
            );
            say(screen.verdict(false, what));
            for line in process.last_words(LAST_WORDS) {
                say(screen.dim(format_args!("  {line}")));
            }
        }
    }

    /// Drains the proxy, then the backends; a second signal ends them at once.
    pub(crate) async fn drain(mut self) -> Result<()> {
        let begun = clock::now();
        say("\nDraining the proxy, then the backends …");
        tokio::select! {
            drained = drain(&mut self.stack) => drained?,
            () = told_to_stop() => bail!("stopped at once, without draining to the end"),
        }
        let took = clock::now().duration_since(begun);
        say(format_args!(
            "Everything drained and ended after {:.1} s.",
            took.as_secs_f64()
        ));
        Ok(())
    }
}

/// Ends the proxy first, since it is what sends requests to the backends.
async fn drain(stack: &mut Stack) -> Result<()> {
    let mut unclean = Vec::new();
    for process in processes(stack) {
        if process.ended().is_some() {
            continue;
        }
        process.signal(Signal::TERM)?;
        let exit = process.exited().await?;
        if exit.code != Some(0) {
            unclean.push(format!("{} ended with {exit}", process.name()));
        }
    }
    if unclean.is_empty() {
        Ok(())
    } else {
        bail!("{}", unclean.join(", "))
    }
}

/// The proxy, then the backends.
fn processes(stack: &mut Stack) -> impl Iterator<Item = &mut Process> {
    let Stack {
        proxy,
        stable,
        canary,
    } = stack;
    let backends = stable
        .iter_mut()
        .chain(canary)
        .map(|backend| &mut backend.process);
    std::iter::once(&mut proxy.process).chain(backends)
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn told_to_stop() {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    match (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
    ) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Then the default action of the signal ends this process, and the kernel its children.
        _ => std::future::pending().await,
    }
}
