//! One child process: started, listened to, signalled, and never left behind.
//!
//! Each child leads a process group of its own, so that a Ctrl-C in the terminal reaches only the
//! parent, which then decides the order of the end. Three things keep children from outliving it:
//! the group is killed on drop (also while a failed test unwinds), tokio kills on drop as well, and
//! the kernel kills the child when the parent dies without dropping anything.
//!
//! Its standard output must hold nothing but the line of bound addresses ([`Bound`]); its log, on
//! standard error, is kept to be printed when the test that owns it fails.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::tail::Tail;
use crate::clock;
use crate::wait::PATIENCE;

mod tail;

/// A running child, killed with its whole group when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    /// Once reaped, the number may belong to somebody else and is not signalled.
    exited: Option<ExitStatus>,
    stdout: Tail,
    stderr: Tail,
    first_line: Option<oneshot::Receiver<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// The addresses that a program bound, by the name of the listener.
#[derive(Clone, Debug)]
pub struct Bound(BTreeMap<String, SocketAddr>);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How long the caller waited for the end.
    pub after: Duration,
}

/// A process that ran to its end by itself, with all that it wrote.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

// === impl Process ===

impl Process {
    /// Starts `program`, which `name` stands for in messages.
    ///
    /// Must be called inside a tokio runtime, on a thread that lives as long as the child should:
    /// the kernel counts the end of that thread as the end of the parent.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn(
        name: impl Into<String>,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn_command(name.into(), command)
            .with_context(|| format!("cannot start {}", program.display()))
    }

    fn spawn_command(name: String, mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        die_with_parent(&mut command);
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let pid = pid.context("a child without a number")?;
        let (first, first_line) = oneshot::channel();
        let (stdout, stderr) = (Tail::default(), Tail::default());
        let out = child.stdout.take().context("no standard output")?;
        let err = child.stderr.take().context("no standard error")?;
        let readers = vec![
            tokio::spawn(stdout.clone().read(out, Some(first))),
            tokio::spawn(stderr.clone().read(err, None)),
        ];
        let first_line = Some(first_line);
        Ok(Self {
            name,
            child,
            pid,
            exited: None,
            stdout,
            stderr,
            first_line,
            readers,
        })
    }

    /// Waits for the line that says which addresses were bound.
    ///
    /// # Errors
    ///
    /// When the process ends first, with its exit code and log, or writes something else.
    pub async fn bound(&mut self) -> Result<Bound> {
        let line = self.first_line.take().context("the line was read before")?;
        match timeout(PATIENCE, line).await {
            Ok(Ok(line)) => Bound::parse(&line).with_context(|| format!("{} wrote", self.name)),
            Ok(Err(_)) => {
                let exit = self.exited().await?;
                bail!(
                    "{} ended with {exit} before it listened:\n{}",
                    self.name,
                    self.stderr()
                )
            }
            Err(_) => bail!(
                "{} did not say where it listens:\n{}",
                self.name,
                self.stderr()
            ),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When the process is not there any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(status) = self.exited {
            bail!("{} ended before it got {signal:?}: {status}", self.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("{signal:?} to {}", self.name))
    }

    /// Waits for the end, for as long as a test waits for anything.
    ///
    /// # Errors
    ///
    /// When it does not come.
    pub async fn exited(&mut self) -> Result<Exit> {
        let start = clock::now();
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.map_err(|_| anyhow!("{} did not end", self.name))??;
        self.exited = Some(status);
        for reader in self.readers.drain(..) {
            // The pipes end with the process, unless a grandchild holds them.
            let _ = timeout(Duration::from_secs(1), reader).await;
        }
        let after = clock::now().duration_since(start);
        Ok(Exit {
            code: status.code(),
            signal: status.signal(),
            after,
        })
    }

    /// Kills it as a crash would, and waits for the end.
    ///
    /// # Errors
    ///
    /// When it had ended before.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.exited().await.map(drop)
    }

    /// How it ended, if it has: asked without waiting.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().ok().flatten();
        }
        self.exited
    }

    /// The name that stands for it in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
        Ok(line.parse::<u64>()? * 1024)
    }

    /// The end of its log.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self, count: usize) -> Vec<String> {
        self.stderr.last(count)
    }

    /// The end of its standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Runs a program that ends by itself, and takes all that it writes.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not end.
    pub async fn run(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Finished> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await;
        let output = output.map_err(|_| anyhow!("{} did not end", program.display()))??;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ok(Finished {
            code: output.status.code(),
            stdout,
            stderr,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // It may have ended just now; there is nothing else to do about it here.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!(
                "--- {} (process {}) wrote:\n{}---",
                self.name,
                self.id(),
                self.stderr()
            );
        }
    }
}

/// Asks the kernel to kill the child when this thread ends without having dropped it.
fn die_with_parent(command: &mut Command) {
    let ask = || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
    // allowed; it makes one `prctl` system call and allocates nothing.
    unsafe { command.pre_exec(ask) };
}

// === impl Bound ===

impl Bound {
    fn parse(line: &str) -> Result<Self> {
        let parsed: BTreeMap<String, SocketAddr> = serde_json::from_str(line)
            .with_context(|| format!("expected a line of JSON with addresses, got {line:?}"))?;
        Ok(Self(parsed))
    }

    /// The address of one listener.
    ///
    /// # Errors
    ///
    /// When the program named no such listener.
    pub fn get(&self, listener: &str) -> Result<SocketAddr> {
        self.0
            .get(listener)
            .copied()
            .with_context(|| format!("no `{listener}` in {:?}", self.0))
    }
}

// === impl Exit ===

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("neither code nor signal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::spawn("sh", Path::new("/bin/sh"), ["-c", script]).unwrap()
    }

    #[tokio::test]
    async fn reads_the_addresses_and_keeps_the_log() {
        let mut process = shell(r#"echo hello >&2; echo '{"http":"127.0.0.1:4000"}'; read x"#);
        assert_eq!(
            process.bound().await.unwrap().get("http").unwrap().port(),
            4000
        );
        assert_eq!(process.exited().await.unwrap().code, Some(1));
        assert_eq!(process.stderr(), "hello\n");
    }

    #[tokio::test]
    async fn an_early_end_is_an_error_that_carries_the_log() {
        let mut process = shell("echo no such model >&2; exit 78");
        let error = process.bound().await.unwrap_err().to_string();
        assert!(
            error.contains("exit code 78") && error.contains("no such model"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_signal_ends_it_and_is_named() {
        let mut process = shell("while :; do read x < /dev/zero; done");
        process.signal(Signal::TERM).unwrap();
        let exit = process.exited().await.unwrap();
        assert_eq!((exit.code, exit.signal), (None, Some(15)));
        assert!(process.signal(Signal::TERM).is_err());
    }

    #[tokio::test]
    async fn a_dropped_process_takes_its_own_children_along() {
        let mut process = shell("sleep 1000 & echo $! >&2; echo '{}'; wait");
        process.bound().await.unwrap();
        let number = crate::until("the grandchild's number", async || {
            Ok(process.stderr().trim().parse::<i32>()?)
        });
        let grandchild = number.await.unwrap();
        drop(process);
        crate::until("the grandchild's end", async || {
            // An orphan that nobody reaps stays as a zombie.
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            anyhow::ensure!(stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")));
            Ok(())
        })
        .await
        .unwrap();
    }
}
