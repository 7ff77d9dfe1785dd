//! Tasks that the proxy cannot do without begin anew when they panic.
//!
//! A panic ends the task that it happens in and nothing else, and nobody hears of it who
//! does not wait for the task. Without the sweep, for one, hung endpoints would hold their
//! requests for ever while `/readyz` says 200. So each of these tasks is waited for, and
//! begins anew, which it can: what it works on outlives it. It does so after a pause,
//! so that one that panics each time leaves a line in the log now and then, and not a
//! full disk.
//!
//! What takes them long they do [aside]: the threads that run tasks carry the traffic too.

use std::{future::pending, panic::resume_unwind, time::Duration};

use tokio::task::{JoinSet, spawn_blocking};

/// From a panic to the new beginning.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs what `begin` makes until it ends, and anew where it panics. `task` says in the log
/// what it does.
///
/// # Cancel safety
/// What runs ends with it.
pub async fn keep_up<T>(task: &'static str, begin: impl Fn() -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut running = JoinSet::new();
        running.spawn(begin());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(task, %error, "it panicked, and begins anew: please report this");
            }
            // It has ended, or the runtime has.
            _ => return,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Does something that takes a while on a thread that carries no traffic. A panic in it goes
/// on in whoever waits for it.
///
/// # Cancel safety
/// What has begun is done to its end, though nobody waits for it.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is going away, and whoever waits with it.
            Err(_) => pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_anew_and_one_that_ends_does_not() {
        let begun = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&begun);
        keep_up("panics twice", move || {
            let before = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(before == 2, "the test says so") }
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn what_is_done_aside_holds_up_nobody_and_panics_where_it_is_waited_for() {
        // There is one thread for tasks here, and it is free to send.
        let (go, is_to_go) = std::sync::mpsc::channel();
        let done = aside(move || is_to_go.recv());
        let sent = async move { go.send(()).map_err(drop) };
        let (done, sent) = tokio::join!(done, sent);
        assert_eq!((done, sent), (Ok(()), Ok(())));
        let panics = tokio::spawn(aside::<()>(|| panic!("the test says so")));
        assert!(panics.await.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn what_runs_ends_with_whoever_keeps_it_up() {
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let (begun, mut has_begun) = mpsc::channel(1);
        let kept = tokio::spawn(keep_up("runs for ever", move || {
            let (alive, begun) = (alive.clone(), begun.clone());
            async move {
                let _alive = alive;
                let _ = begun.send(()).await;
                pending::<()>().await;
            }
        }));
        has_begun.recv().await.unwrap();
        kept.abort();
        assert!(ended.recv().await.is_none());
    }
}
