//! Where the programs under test lie.
//!
//! A test asks cargo to build them once in its process, with its own profile, and takes the paths
//! from cargo's answer: a test can then never run against yesterday's program. `aegis-stack` takes
//! the ones beside itself, since it is built together with them and may run where there is no
//! cargo. `AEGIS_BIN_DIR` names a folder instead of both.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

const PROXY: &str = "aegis-proxy";
const BACKEND: &str = "aegis-backend";
const LOADTEST: &str = "aegis-loadtest";

/// The paths of the programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `aegis-proxy`.
    pub proxy: PathBuf,
    /// `aegis-backend`.
    pub backend: PathBuf,
}

/// The workspace that this crate was built in.
#[must_use]
pub fn workspace_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

// === impl Binaries ===

impl Binaries {
    /// Builds the programs, the first time that it is called in this process.
    ///
    /// # Errors
    ///
    /// When they do not build; the compiler has said why on standard error.
    pub fn built() -> Result<&'static Self> {
        static BUILT: OnceLock<Result<Binaries, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| match env::var_os("AEGIS_BIN_DIR") {
            Some(folder) => Self::inside(Path::new(&folder)).map_err(|error| format!("{error:#}")),
            None => build().map_err(|error| format!("{error:#}")),
        });
        built.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// The load tester, which is built like the programs, the first time that it is asked for.
    ///
    /// # Errors
    ///
    /// When it does not build.
    pub fn loadtest() -> Result<&'static Path> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let found = match env::var_os("AEGIS_BIN_DIR") {
                Some(folder) => find(Path::new(&folder), LOADTEST),
                None => cargo_build().and_then(|messages| artifact(&messages, LOADTEST)),
            };
            found.map_err(|error| format!("{error:#}"))
        });
        let built = built.as_ref().map_err(|error| anyhow!("{error}"))?;
        Ok(built)
    }

    /// Finds the programs beside the one that runs.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub fn beside_this_program() -> Result<Self> {
        if let Some(folder) = env::var_os("AEGIS_BIN_DIR") {
            return Self::inside(Path::new(&folder));
        }
        let this = env::current_exe().context("this program does not know where it lies")?;
        Self::inside(this.parent().unwrap_or(Path::new(".")))
    }

    fn inside(folder: &Path) -> Result<Self> {
        Ok(Self {
            proxy: find(folder, PROXY)?,
            backend: find(folder, BACKEND)?,
        })
    }
}

fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name).with_extension(env::consts::EXE_EXTENSION);
    ensure!(
        path.is_file(),
        "no {name} in {}: run `make build`",
        folder.display()
    );
    Ok(path)
}

fn build() -> Result<Binaries> {
    let messages = cargo_build()?;
    Ok(Binaries {
        proxy: artifact(&messages, PROXY)?,
        backend: artifact(&messages, BACKEND)?,
    })
}

/// Runs cargo, and gives what it says of what it built. It holds a lock on the target folder, so test
/// programs that run at the same time wait for each other, and the second finds everything built.
///
/// All programs are built together, as `make test` does: of other sets cargo joins other features, and builds
/// what they depend on once more.
fn cargo_build() -> Result<String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace_root())
        .args([
            "build",
            "--message-format=json-render-diagnostics",
            "--bins",
        ])
        .stderr(Stdio::inherit());
    for package in [PROXY, BACKEND, LOADTEST] {
        cargo.args(["-p", package]);
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo could not build the programs: {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn artifact(messages: &str, name: &str) -> Result<PathBuf> {
    let mut artifacts = messages.lines().filter_map(|line| executable(line, name));
    artifacts
        .next()
        .with_context(|| format!("cargo built no program called {name}"))
}

/// The path of the program `name`, if this message of cargo's is about it.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let ours = message["target"]["name"] == name && message["target"]["kind"][0] == "bin";
    ours.then(|| message["executable"].as_str().map(PathBuf::from))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_programs_is_refused_with_the_mend() {
        let folder = tempfile::tempdir().unwrap();
        let error = Binaries::inside(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("aegis-proxy") && error.contains("make build"),
            "{error}"
        );
    }

    #[test]
    fn cargos_message_names_the_program() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"aegis-proxy",
            "kind":["bin"]},"executable":"/there/aegis-proxy"}"#;
        assert_eq!(
            executable(message, "aegis-proxy"),
            Some("/there/aegis-proxy".into())
        );
        assert_eq!(executable(message, "aegis-backend"), None);
        assert_eq!(executable("Compiling", "aegis-proxy"), None);
    }
}
