//! The listener, and the way out.
//!
//! **Drain.** A signal starts three phases: *leaving* (not ready, still accepting and serving, with
//! `Connection: close` on HTTP/1 answers), *closing* (what has been accepted is finished, more is
//! refused), and the end, as soon as no connection is left, or when the grace is over. Connections
//! that the kernel completed before the listener closed are taken and answered; without that they
//! would be reset. The delay of *leaving* is waited in full even when nobody is connected, because
//! those for whom it is meant, proxies that still route here, are not always connected either.
//!
//! **Limit.** A connection holds a permit. When there is none, accepting pauses, and clients wait
//! in the kernel's queue: an accepted connection would have to be answered. All permits back also
//! means that no connection is left.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aegis_listener::LastCall;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, sleep_until};

use crate::app::{App, Phase};
use crate::clock;
use crate::config::DrainTimes;
use crate::seldom::Seldom;

mod activity;
mod connection;
#[cfg(test)]
mod tests;

/// How long accepting pauses after the system refused a connection, as without file descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// How late a run that hangs may be noticed.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// It may refuse for hours, and the log should still be readable.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// What listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    /// Another one beside it: what comes in is served the same.
    second: Option<TcpListener>,
    app: Arc<App>,
    permits: Arc<Semaphore>,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything was answered.
    Idle,
    /// The grace was over before everything was answered.
    GraceOver,
    /// A second signal came.
    Interrupted,
}

/// A connection that is open, however it ends.
struct Open {
    connections: IntGauge,
    _permit: OwnedSemaphorePermit,
}

// === impl Server ===

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    ///
    /// What the system says, such as that the port is taken.
    pub async fn bind(address: SocketAddr, app: Arc<App>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let permits = Arc::new(Semaphore::new(app.http.connections));
        Ok(Self {
            listener,
            second: None,
            app,
            permits,
        })
    }

    /// Binds a second address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn and(mut self, address: SocketAddr) -> io::Result<Self> {
        self.second = Some(TcpListener::bind(address).await?);
        Ok(self)
    }

    /// The address that is bound, with the port that was free.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The second address, where there is one.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn second_address(&self) -> io::Result<Option<SocketAddr>> {
        self.second
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()
    }

    /// Serves until a stop is received, and drains; a second stop ends it at once.
    pub async fn run(self, times: DrainTimes, mut stops: mpsc::Receiver<()>) -> Drained {
        tokio::spawn(watch(Arc::downgrade(&self.app)));
        tokio::select! {
            never = self.accept() => match never {},
            _ = stops.recv() => {}
        }
        let grace_over = clock::now() + times.grace;
        self.app.enter(Phase::Leaving);
        tokio::select! {
            never = self.accept() => match never {},
            () = sleep(times.delay) => {}
            _ = stops.recv() => return Drained::Interrupted,
        }
        let Self {
            listener,
            second,
            app,
            permits,
        } = self;
        let closed = async {
            // First, so that idle connections give their permits to those that wait for one.
            app.enter(Phase::Closing);
            let of_second = async {
                if let Some(second) = second {
                    take_waiting(second, &app, &permits).await;
                }
            };
            tokio::join!(take_waiting(listener, &app, &permits), of_second);
            all_closed(&app, &permits).await;
        };
        tokio::select! {
            () = closed => Drained::Idle,
            () = sleep_until(grace_over.into()) => Drained::GraceOver,
            _ = stops.recv() => Drained::Interrupted,
        }
    }

    async fn accept(&self) -> Infallible {
        let mut complaints = Seldom::new(COMPLAIN_EVERY);
        loop {
            let permit = self.permit().await;
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                accepted = accept(self.second.as_ref()) => accepted,
            };
            match accepted {
                Ok((stream, _)) => start(stream, permit, &self.app),
                Err(error) => {
                    if complaints.lets_through(clock::now()) {
                        tracing::warn!("cannot accept: {error}");
                    }
                    sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        self.app.metrics.accept_paused.inc();
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => permit,
            Err(_closed) => unreachable!("nobody closes the semaphore"),
        }
    }
}

/// Waits for a connection; for ever where nothing listens.
async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Gives up runs that take too long, for as long as the program is there.
async fn watch(app: Weak<App>) {
    while let Some(app) = app.upgrade() {
        app.models.give_up_hung(clock::now());
        drop(app);
        sleep(WATCH_EVERY).await;
    }
}

/// Takes the connections that the kernel has completed, however many those are: they were told
/// that they are connected. Over the limit, each waits for one that closes.
async fn take_waiting(listener: TcpListener, app: &Arc<App>, permits: &Arc<Semaphore>) {
    let mut last_call = LastCall::new(&listener);
    let mut complaints = Seldom::new(COMPLAIN_EVERY);
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            return;
        };
        match last_call.next().await {
            Ok(Some(stream)) => start(stream, permit, app),
            Ok(None) => return,
            // The client has left, or a file descriptor is free in a moment; the drain's grace
            // bounds the moments.
            Err(error) => {
                if complaints.lets_through(clock::now()) {
                    tracing::warn!("cannot take a waiting connection: {error}");
                }
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

fn start(stream: TcpStream, permit: OwnedSemaphorePermit, app: &Arc<App>) {
    let open = Open::new(permit, &app.metrics.connections);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        connection::serve(stream, &app).await;
        drop(open);
    });
}

async fn all_closed(app: &App, permits: &Semaphore) {
    let all = u32::try_from(app.http.connections).unwrap_or(u32::MAX);
    let _ = permits.acquire_many(all).await;
}

// === impl Open ===

impl Open {
    fn new(permit: OwnedSemaphorePermit, connections: &IntGauge) -> Self {
        connections.inc();
        Self {
            connections: connections.clone(),
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.dec();
    }
}
