//! The walls of the house: what may depend on what, and what no source may hold.
//!
//! Each wall is why something else works: policy and batching tests build in seconds because
//! neither pingora nor libtorch is behind them, and a decision can be replayed from its seed
//! because it never asked a clock.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aegis_e2e::workspace_root;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Lines that a source file may have, without the tests at its end.
const MAX_LINES: usize = 600;

/// A source file of the workspace.
struct Source {
    /// Relative to the workspace.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The lines before the module of tests at the end; none for a file that holds only tests.
    fn lines_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let name = self.path.file_stem().unwrap_or_default();
        let only_tests = name == "tests" || self.path.iter().any(|part| part == "tests");
        let mut before = !only_tests;
        let mut lines = self.text.lines().enumerate().peekable();
        std::iter::from_fn(move || {
            let (index, line) = lines.next()?;
            let next = lines.peek().map_or("", |(_, next)| next);
            before &= !(line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{'));
            before.then_some((index + 1, line))
        })
    }

    /// Places where the code, not a comment, holds one of these words.
    fn code_with<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        self.lines_without_tests().filter_map(|(number, line)| {
            let code = line.split("//").next().unwrap_or_default();
            let word = words.iter().find(|word| begins_word(code, word))?;
            Some(format!("{}:{number}: {word}", self.path.display()))
        })
    }
}

/// Whether `code` holds a word that begins with `prefix`, as `watch::` holds none with `tch::`.
fn begins_word(code: &str, prefix: &str) -> bool {
    let inside_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(prefix)
        .any(|(at, _)| !code[..at].ends_with(inside_word))
}

/// Every source file of the workspace, by path.
fn sources() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for room in ["backend", "config", "loadtest", "proxy", "tests"] {
        collect(&workspace_root().join(room), &mut sources)?;
    }
    ensure!(sources.len() > 50, "found only {} sources", sources.len());
    Ok(sources)
}

fn collect(folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let path = path.strip_prefix(workspace_root())?.to_owned();
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace_root())
        .args(arguments)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo {}: {errors}",
        arguments.join(" ")
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Every crate that this package is built from, without what its tests need.
fn built_from(package: &str, more: &[&str]) -> Result<BTreeSet<String>> {
    let tree = [
        "tree",
        "--locked",
        "-p",
        package,
        "-e",
        "normal,build",
        "--prefix",
        "none",
    ];
    let tree = cargo(&[&tree, more].concat())?;
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

/// The names of the workspace's packages that depend directly on a crate that `is_meant`.
fn dependents(is_meant: impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
    let metadata = cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let depends = |package: &&Value| {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        dependencies
            .filter_map(|dependency| dependency["name"].as_str())
            .any(&is_meant)
    };
    let names = packages
        .iter()
        .filter(depends)
        .filter_map(|package| package["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn decisions_are_built_without_runtime_network_or_pingora() {
    let crates = built_from("aegis-policy", &[]).unwrap();
    assert!(crates.contains("aegis-policy"), "{crates:?}");
    for word in [
        "tokio",
        "mio",
        "socket2",
        "hyper",
        "axum",
        "pingora",
        "tch",
        "torch-sys",
    ] {
        let found = crates.iter().find(|name| name.starts_with(word));
        assert_eq!(found, None, "in {crates:?}");
    }
}

#[test]
fn decisions_read_no_clock_take_no_lock_and_do_no_io() {
    let words = [
        "Instant::now",
        "SystemTime",
        "Mutex",
        "RwLock",
        "Atomic",
        "thread_rng",
        "rand::rng(",
        "std::fs",
        "std::io",
        "TcpStream",
        "UdpSocket",
        "async ",
        "tokio",
    ];
    let sources = sources().unwrap();
    let policy = sources
        .iter()
        .filter(|source| source.path.starts_with("proxy/policy/src"));
    let found: Vec<String> = policy.flat_map(|source| source.code_with(&words)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_the_proxy_names_pingora() {
    let dependents = dependents(|name| name.starts_with("pingora")).unwrap();
    assert_eq!(dependents.into_iter().collect::<Vec<_>>(), ["aegis-proxy"]);
    let words = [concat!("ping", "ora_"), concat!("ping", "ora::")];
    for source in sources().unwrap().iter().filter(|source| {
        !["proxy/src", "proxy/examples"]
            .iter()
            .any(|room| source.path.starts_with(room))
    }) {
        assert_eq!(source.code_with(&words).next(), None);
    }
}

#[test]
fn only_the_torch_crate_names_libtorch() {
    let dependents = dependents(|name| name == "tch" || name == "torch-sys").unwrap();
    assert_eq!(dependents.into_iter().collect::<Vec<_>>(), ["aegis-torch"]);
    let word = [concat!("tc", "h::")];
    for source in sources()
        .unwrap()
        .iter()
        .filter(|source| !source.path.starts_with("backend/torch"))
    {
        assert_eq!(source.code_with(&word).next(), None);
    }
}

#[test]
fn the_backend_without_its_torch_feature_is_built_without_libtorch() {
    let bare = built_from("aegis-backend", &["--no-default-features"]).unwrap();
    let found = bare
        .iter()
        .find(|name| ["tch", "torch-sys", "aegis-torch"].contains(&name.as_str()));
    assert_eq!(found, None);
    let whole = built_from("aegis-backend", &[]).unwrap();
    assert!(
        whole.contains("torch-sys"),
        "the feature brings it: {whole:?}"
    );
}

#[test]
fn the_protocol_has_neither_server_nor_client() {
    let crates = built_from("aegis-protocol", &[]).unwrap();
    for word in ["tokio", "hyper", "axum"] {
        assert_eq!(
            crates.iter().find(|name| name.starts_with(word)),
            None,
            "in {crates:?}"
        );
    }
}

#[test]
fn the_listener_knows_nothing_of_http() {
    let crates = built_from("aegis-listener", &[]).unwrap();
    assert!(crates.contains("aegis-listener"), "{crates:?}");
    for word in ["http", "hyper", "axum", "pingora"] {
        let found = crates.iter().find(|name| name.starts_with(word));
        assert_eq!(found, None, "in {crates:?}");
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let metadata = cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"]).unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{}",
            package["name"]
        );
    }
}

#[test]
fn every_source_says_what_it_is_for_and_none_is_too_long() {
    for Source { path, text } in &sources().unwrap() {
        let purpose = text.starts_with("//!") || path.ends_with("tests.rs");
        assert!(
            purpose,
            "{} does not begin with its purpose",
            path.display()
        );
        assert!(
            !path.ends_with("mod.rs"),
            "{} should be beside its folder",
            path.display()
        );
        let lines = text.lines().position(|line| line == "mod tests {");
        let lines = lines.unwrap_or_else(|| text.lines().count());
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn no_test_is_skipped_and_none_sleeps() {
    let words = [concat!("#[ign", "ore"), concat!("thread::", "sleep")];
    for Source { path, text } in &sources().unwrap() {
        // What a clock module excepts, it excepts with a reason that clippy asks for.
        let words = words.iter().take(if path.ends_with("clock.rs") {
            1
        } else {
            words.len()
        });
        for word in words {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
    }
}
