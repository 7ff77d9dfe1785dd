//! Programs that a bench starts, with their files in a folder of their own; they end with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How long a program may take to listen.
const START: Duration = Duration::from_secs(20);

/// One that runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// Where it answers operators, where it does.
    pub(crate) admin: Option<SocketAddr>,
    child: Child,
    folder: TempDir,
}

/// A command that runs a program on these cores alone.
pub(crate) fn pinned(cores: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(program);
    command
}

/// Lets a command of ours serve with this configuration, and log warnings; says where the file is.
pub(crate) fn serve(
    command: &mut Command,
    folder: &Path,
    name: &str,
    text: &str,
) -> Result<PathBuf> {
    let file = write(folder, name, text)?;
    command.env("RUST_LOG", "warn");
    command.args(["serve", "--config"]).arg(&file);
    Ok(file)
}

/// Writes a file and says where it is.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, text)?;
    Ok(file)
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where what listens on that port is.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Addresses as the items of a list in TOML.
pub(crate) fn quoted(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|at| format!("\"{at}\"")).collect();
    quoted.join(", ")
}

// === impl Running ===

impl Running {
    /// Runs a command whose files are in this folder, and waits until it listens.
    pub(crate) async fn launch(
        name: &str,
        mut command: Command,
        port: u16,
        folder: TempDir,
    ) -> Result<Self> {
        let log = File::create(folder.path().join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Some start processes of their own, which would outlive them.
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let address = local(port);
        let running = Self {
            address,
            admin: None,
            child,
            folder,
        };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(START, listens).await.is_err() {
            let log = fs::read_to_string(running.folder.path().join("log")).unwrap_or_default();
            bail!("{name} does not listen:\n{log}");
        }
        Ok(running)
    }

    /// The process; its children are the program's own.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
