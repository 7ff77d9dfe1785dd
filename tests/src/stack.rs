//! The whole of it: two backends of version 1, one of version 2, and the proxy at 90/10.
//!
//! Each configuration is a file in one folder, written for people to read and edit, since
//! `make run` invites them to. Ports are free ones; the stack can only say where it is.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::backend::{Backend, BackendSetup};
use crate::binaries::Binaries;
use crate::digits::MODEL;
use crate::proxy::Proxy;
use crate::toml_file::TomlFile;

/// The version that most requests go to.
pub const STABLE: &str = "1";
/// The version on trial.
pub const CANARY: &str = "2";

/// What a stack is made of.
#[derive(Clone, Debug)]
pub struct StackSetup {
    /// The programs.
    pub programs: Binaries,
    /// Where the configurations are written.
    pub folder: PathBuf,
    /// Backends of the stable version.
    pub stable: usize,
    /// Backends of the canary.
    pub canary: usize,
}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    /// The proxy.
    pub proxy: Proxy,
    /// The backends of the stable version.
    pub stable: Vec<Backend>,
    /// The backends of the canary.
    pub canary: Vec<Backend>,
}

// === impl StackSetup ===

impl StackSetup {
    /// Two backends of version 1 and one of version 2.
    #[must_use]
    pub fn new(programs: Binaries, folder: PathBuf) -> Self {
        Self {
            programs,
            folder,
            stable: 2,
            canary: 1,
        }
    }

    /// Starts everything, and waits until every endpoint can be used.
    ///
    /// # Errors
    ///
    /// When something does not start; what did is stopped again.
    pub async fn start(&self) -> Result<Stack> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let mut stable = Vec::new();
        for number in 1..=self.stable {
            stable.push(self.backend(STABLE, number).await?);
        }
        let mut canary = Vec::new();
        for number in 1..=self.canary {
            canary.push(self.backend(CANARY, number).await?);
        }
        for backend in stable.iter().chain(&canary) {
            backend.ready().await?;
        }
        let text = proxy_toml(&addresses(&stable), &addresses(&canary));
        let file = TomlFile::new(self.folder.join("proxy.toml"), &text)?;
        file.save()?;
        let proxy = Proxy::serve(&self.programs, MODEL, file).await?;
        proxy.settled().await?;
        Ok(Stack {
            proxy,
            stable,
            canary,
        })
    }

    async fn backend(&self, version: &str, number: usize) -> Result<Backend> {
        let name = format!("backend-v{version}-{number}");
        let setup = BackendSetup::new(MODEL, &[version]).named(&name).verified();
        setup
            .start_at(&self.programs, self.folder.join(format!("{name}.toml")))
            .await
    }
}

// === impl Stack ===

impl Stack {
    /// The folder with the configurations.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.proxy.file.path().parent().unwrap_or(Path::new("."))
    }

    /// Every backend.
    pub fn backends(&mut self) -> impl Iterator<Item = &mut Backend> {
        self.stable.iter_mut().chain(&mut self.canary)
    }
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(Backend::address).collect()
}

/// The configuration of the proxy, for people to edit.
fn proxy_toml(stable: &[SocketAddr], canary: &[SocketAddr]) -> String {
    let mut text = String::from(
        r#"# Edit a weight and save: the proxy takes the file while it runs.
# Every other key, with its default, is explained in config/proxy.toml.

[listen]
data = "127.0.0.1:0"  # any free port
admin = "127.0.0.1:0"

[drain]
delay_ms = 100  # nobody balances over this proxy, so nobody must hear that it leaves

[models.digits]
fallback = ["1"]  # answers when the chosen version cannot
"#,
    );
    for (version, weight, endpoints) in [(STABLE, 90, stable), (CANARY, 10, canary)] {
        let endpoints: Vec<String> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
        let endpoints = endpoints.join(", ");
        let _ = write!(
            text,
            "\n[models.digits.versions.{version}]\nweight = {weight}\nendpoints = [{endpoints}]\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_people_edit_names_both_versions_and_their_endpoints() {
        let stable = [
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        ];
        let text = proxy_toml(&stable, &["127.0.0.1:3".parse().unwrap()]);
        let file: toml_edit::DocumentMut = text.parse().unwrap();
        let versions = &file["models"]["digits"]["versions"];
        assert_eq!(versions["1"]["weight"].as_integer(), Some(90));
        assert_eq!(versions["1"]["endpoints"].as_array().unwrap().len(), 2);
        assert_eq!(versions["2"]["endpoints"][0].as_str(), Some("127.0.0.1:3"));
    }
}
