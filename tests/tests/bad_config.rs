//! A configuration is refused whole, with every fault by key path and line, and the exit code says
//! whose fault it was.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use aegis_e2e::{Binaries, Finished, Process, workspace_root};
use tempfile::TempDir;

const USAGE: i32 = 64;
const PORT_TAKEN: i32 = 69;
const CONFIGURATION: i32 = 78;

/// Every fault that an operator makes at least once.
const BAD_PROXY: &str = r#"[listen]
data = "127.0.0.1"
[models.digits]
fallback = ["7"]
[models.digits.versions.1]
wieght = 90
endpoints = ["127.0.0.1:8001", "127.0.0.1:8001"]
[models.digits.versions.2]
weight = -10
endpoints = []
[models.digits.versions.3]
weight = 1
endpoints = ["nowhere"]
[models.idle.versions.1]
weight = 0
endpoints = ["127.0.0.1:8004"]
"#;

/// Line, key path, and a part of what is said of it.
const PROXY_FAULTS: &[(usize, &str, &str)] = &[
    (2, "listen.data", "127.0.0.1"),
    (4, "models.digits.fallback", "7"),
    (6, "models.digits.versions.1.wieght", "weight"),
    (7, "models.digits.versions.1.endpoints", "127.0.0.1:8001"),
    (9, "models.digits.versions.2.weight", "-10"),
    (10, "models.digits.versions.2.endpoints", "endpoint"),
    (13, "models.digits.versions.3.endpoints", "nowhere"),
];

const BAD_BACKEND: &str = r#"listen = "everywhere"
drain_delay = 5
max_body_bytes = 0
grace_ms = "long"
[models.digits]
versions = []
"#;

const BACKEND_FAULTS: &[(usize, &str, &str)] = &[
    (1, "listen", "everywhere"),
    (2, "drain_delay", "drain_delay_ms"),
    (3, "max_body_bytes", "0"),
    (4, "grace_ms", "long"),
    (6, "models.digits.versions", "version"),
];

/// A file in a folder of its own.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

async fn run(program: &Path, arguments: &[&str]) -> Finished {
    Process::run(program, arguments).await.unwrap()
}

/// Each fault stands on a line of its own, where an editor can jump to it.
fn assert_names(finished: &Finished, faults: &[(usize, &str, &str)]) {
    let said = format!("{}{}", finished.stdout, finished.stderr);
    for (line, path, part) in faults {
        let place = format!("config.toml:{line}: {path}");
        let found = said
            .lines()
            .any(|said| said.contains(&place) && said.contains(part));
        assert!(found, "nothing says `{place}` and `{part}`:\n{said}");
    }
}

#[tokio::test]
async fn both_programs_name_every_fault_at_once_and_exit_with_78() {
    let programs = Binaries::built().unwrap();
    let bad = [
        (&programs.proxy, BAD_PROXY, PROXY_FAULTS),
        (&programs.backend, BAD_BACKEND, BACKEND_FAULTS),
    ];
    for (program, text, faults) in bad {
        let (_folder, path) = file(text);
        let path = path.to_str().unwrap();
        for arguments in [vec!["check", path], vec!["serve", "--config", path]] {
            let finished = run(program, &arguments).await;
            assert_eq!(finished.code, Some(CONFIGURATION), "{finished:?}");
            assert_names(&finished, faults);
            assert!(
                !finished.stdout.starts_with('{'),
                "nothing was bound: {finished:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_model_without_a_positive_weight_is_a_fault() {
    let programs = Binaries::built().unwrap();
    let (_folder, path) =
        file("[models.m.versions.1]\nweight = 0\nendpoints = [\"127.0.0.1:1\"]\n");
    let finished = run(&programs.proxy, &["check", path.to_str().unwrap()]).await;
    assert_eq!(finished.code, Some(CONFIGURATION), "{finished:?}");
    assert!(finished.stderr.contains("models.m") && finished.stderr.contains("weight"));
}

#[tokio::test]
async fn broken_toml_is_named_by_line() {
    let programs = Binaries::built().unwrap();
    for program in [&programs.proxy, &programs.backend] {
        let (_folder, path) = file("# good so far\n[models\n");
        let finished = run(program, &["check", path.to_str().unwrap()]).await;
        assert_eq!(finished.code, Some(CONFIGURATION), "{finished:?}");
        assert!(finished.stderr.contains("config.toml:2"), "{finished:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_a_configuration_fault() {
    let programs = Binaries::built().unwrap();
    for program in [&programs.proxy, &programs.backend] {
        let finished = run(program, &["serve", "--config", "no-such.toml"]).await;
        assert_eq!(finished.code, Some(CONFIGURATION), "{finished:?}");
        assert!(finished.stderr.contains("no-such.toml"), "{finished:?}");
    }
}

#[tokio::test]
async fn the_files_that_ship_are_good() {
    let programs = Binaries::built().unwrap();
    let shipped = [
        (&programs.proxy, "proxy.toml"),
        (&programs.backend, "backend.toml"),
    ];
    for (program, name) in shipped {
        let path = workspace_root().join("config").join(name);
        let finished = run(program, &["check", path.to_str().unwrap()]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
}

#[tokio::test]
async fn the_schemas_that_ship_are_those_that_the_programs_print() {
    let programs = Binaries::built().unwrap();
    let shipped: [(_, &[&str], _); 3] = [
        (&programs.proxy, &["schema"], "proxy.schema.json"),
        (&programs.backend, &["schema"], "backend.schema.json"),
        (
            &programs.backend,
            &["schema", "--of", "model"],
            "model.schema.json",
        ),
    ];
    for (program, arguments, name) in shipped {
        let finished = run(program, arguments).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let committed = std::fs::read_to_string(workspace_root().join("config").join(name));
        let same = finished.stdout == committed.unwrap();
        assert!(same, "config/{name} is not what {arguments:?} prints");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_exits_with_69() {
    let programs = Binaries::built().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let models = workspace_root().join("config/models");
    let backend = format!(
        "listen = \"{at}\"\nmodel_repository = {models:?}\n[models.digits]\nversions = [\"1\"]\n"
    );
    let model = "[models.m.versions.1]\nweight = 1\nendpoints = [\"127.0.0.1:1\"]\n";
    let data = format!("[listen]\ndata = \"{at}\"\nadmin = \"127.0.0.1:0\"\n{model}");
    let admin = format!("[listen]\ndata = \"127.0.0.1:0\"\nadmin = \"{at}\"\n{model}");
    let texts = [
        (&programs.backend, backend),
        (&programs.proxy, data),
        (&programs.proxy, admin),
    ];
    for (program, text) in texts {
        let (_folder, path) = file(&text);
        let finished = run(program, &["serve", "--config", path.to_str().unwrap()]).await;
        assert_eq!(finished.code, Some(PORT_TAKEN), "{finished:?}");
        assert!(finished.stderr.contains(&at), "{finished:?}");
        assert_eq!(finished.stdout, "", "nothing was bound");
    }
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_64() {
    let programs = Binaries::built().unwrap();
    for program in [&programs.proxy, &programs.backend] {
        let wrong: [&[&str]; 3] = [&[], &["serve", "--confg", "a.toml"], &["dance"]];
        for arguments in wrong {
            let finished = run(program, arguments).await;
            assert_eq!(finished.code, Some(USAGE), "{arguments:?}: {finished:?}");
            assert!(!finished.stderr.is_empty());
        }
        assert_eq!(run(program, &["--help"]).await.code, Some(0));
    }
}
