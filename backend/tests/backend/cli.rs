//! The program as a process: its exit codes, its one line on stdout, and signals.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use crate::integrity::{Signed, key, private_pem};
use crate::support::{ECHO, Setup};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aegis-backend"))
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn with_files(keys: &str, models: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Setup { keys, models }.write(folder.path());
    folder
}

fn config(folder: &Path) -> String {
    folder.join("backend.toml").to_str().unwrap().to_owned()
}

#[test]
fn misuse_exits_with_64_and_help_with_0() {
    for arguments in [
        &[][..],
        &["serve"],
        &["nonsense"],
        &["schema", "--of", "cake"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(stderr(&output).contains("--help"), "{arguments:?}");
    }
    for argument in ["--help", "--version"] {
        assert_eq!(run(&[argument]).status.code(), Some(0));
    }
}

#[test]
fn the_schema_is_printed() {
    let output = run(&["schema", "--of", "model"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        aegis_backend::cli::model_schema()
    );
}

#[test]
fn check_says_ok() {
    let folder = with_files("", &[("echo", ECHO)]);
    let output = run(&["check", &config(folder.path())]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .ends_with("backend.toml: ok\n")
    );
}

#[test]
fn a_faulty_configuration_exits_with_78_and_lists_every_fault() {
    let folder = with_files("listne = 1\nmax_connections = 0", &[("echo", ECHO)]);
    for command in [&["check"][..], &["serve", "--config"]] {
        let output = run(&[command, &[&config(folder.path())]].concat());
        assert_eq!(output.status.code(), Some(78));
        let text = stderr(&output);
        assert!(text.contains("backend.toml:2: listne: "), "{text}");
        assert!(text.contains("did you mean `listen`?"), "{text}");
        assert!(
            text.contains("backend.toml:3: max_connections: expected"),
            "{text}"
        );
    }
    let output = run(&["serve", "--config", "no/such/file.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("no/such/file.toml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_is_signed_is_verified_until_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let version = path("1");
    std::fs::create_dir(&version).unwrap();
    std::fs::write(path("1/model.pt"), "weights").unwrap();
    for (name, seed) in [("team", 7), ("other", 8)] {
        std::fs::write(path(name), private_pem(seed)).unwrap();
        let public = key(seed).public().unwrap();
        std::fs::write(path(&format!("{name}.pub")), public.to_pem().unwrap()).unwrap();
    }
    let output = run(&["sign", &version, "--key", &path("team")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("holds no model.toml"),
        "{}",
        stderr(&output)
    );

    let (team, other) = (path("team.pub"), path("other.pub"));
    let verify = |keys: &[&str]| {
        let keys = keys.iter().flat_map(|key| ["--key", key]);
        let arguments: Vec<_> = ["verify", &version].into_iter().chain(keys).collect();
        let output = run(&arguments);
        let told = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
        (output.status.code(), told)
    };
    let (code, told) = verify(&[&other, &team]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("1: ok, 1 files signed by team, sha256:"),
        "{told}"
    );
    let (code, told) = verify(&[&other]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("1 is not verified: signed by a key that is not trusted"),
        "{told}"
    );
    std::fs::write(path("1/model.pt"), "weighty").unwrap();
    let (code, told) = verify(&[&team]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("model.pt is not as it was signed: expected"),
        "{told}"
    );
    assert_eq!(verify(&[]).0, Some(64));
}

#[test]
fn check_verifies_the_models_where_the_server_would() {
    let keys = "verify = \"required\"\ntrusted_keys = [\"team.pub\"]";
    let signed = Signed::new(keys);
    let file = config(signed.folder.path());
    let output = run(&["check", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    std::fs::write(signed.version("2").join("labels.txt"), "other").unwrap();
    let output = run(&["check", &file]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(
        text.starts_with("echo/2: not verified: labels.txt is not as it was signed"),
        "{text}"
    );
}

#[test]
fn check_looks_into_the_models_too() {
    let faulty = "max_batch_size = -1\n[[inputs]]\nname = \"x\"\ndatatype = \"FP99\"";
    let missing = ECHO.replace("\"scripted\"", "\"torchscript\"");
    let missing = missing.split("[scripted]").next().unwrap();
    let folder = with_files("", &[("faulty", faulty), ("missing", missing)]);
    let output = run(&["check", &config(folder.path())]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    for fault in [
        "faulty/model.toml:1: max_batch_size",
        "faulty/model.toml:4: inputs[0].datatype: expected one of BOOL",
        "expected at least one [[outputs]]",
        "missing/1/model.pt: no such file",
        "missing/2/model.pt: no such file",
    ] {
        assert!(text.contains(fault), "expected {fault} in\n{text}");
    }
}

#[test]
fn a_taken_port_exits_with_69_and_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = with_files("", &[("echo", ECHO)]);
    let file = folder.path().join("backend.toml");
    let address = taken.local_addr().unwrap().to_string();
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("127.0.0.1:0", &address);
    std::fs::write(&file, text).unwrap();
    let output = run(&["serve", "--config", &config(folder.path())]);
    assert_eq!(output.status.code(), Some(69));
    let text = stderr(&output);
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}

/// A program that is killed when the test fails.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts serving, and waits until it listens; the rest of its standard output comes along.
    pub(crate) fn serve(folder: &Path) -> (Self, SocketAddr, BufReader<ChildStdout>) {
        let (running, line, stdout) = Self::start(folder);
        (
            running,
            line["http"].as_str().unwrap().parse().unwrap(),
            stdout,
        )
    }

    /// The same, with all of the line that it wrote.
    fn start(folder: &Path) -> (Self, serde_json::Value, BufReader<ChildStdout>) {
        let mut child = program();
        child.args(["serve", "--config", &config(folder)]);
        child.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Self(child.spawn().unwrap());
        let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (running, serde_json::from_str(&line).unwrap(), stdout)
    }

    /// Waits until it has a thread of this name.
    #[cfg(feature = "torch")]
    fn until_thread(&self, name: &str) {
        let tasks = format!("/proc/{}/task", self.0.id());
        let is_there = || {
            let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
            tasks.any(|task| {
                let comm = std::fs::read_to_string(task.path().join("comm"));
                comm.is_ok_and(|comm| comm.trim_end() == name)
            })
        };
        while !is_there() {
            std::thread::yield_now();
        }
    }

    /// Sends a signal and waits for the end: how it ended, and its log.
    fn end(mut self, signal: &str) -> (ExitStatus, String) {
        let id = self.0.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(kill.unwrap().success());
        let mut log = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (self.0.wait().unwrap(), log)
    }
}

#[test]
fn it_says_where_it_listens_in_one_line_and_a_signal_ends_it() {
    for signal in ["TERM", "INT"] {
        let folder = with_files("", &[("echo", ECHO)]);
        let (running, address, mut stdout) = Running::serve(folder.path());
        assert!(TcpStream::connect(address).is_ok());
        let (status, log) = running.end(signal);
        assert_eq!(status.code(), Some(0), "{log}");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "nothing else on stdout");
        assert!(log.contains("listening"), "{log}");
    }
}

#[test]
fn a_second_port_is_told_serves_the_same_and_closes_with_the_first() {
    let keys = "grpc_listen = \"127.0.0.1:0\"\ndrain_delay_ms = 0";
    let folder = with_files(keys, &[("echo", ECHO)]);
    let (running, line, _stdout) = Running::start(folder.path());
    let second: SocketAddr = line["grpc"].as_str().unwrap().parse().unwrap();
    assert_ne!(line["grpc"], line["http"]);
    let mut stream = TcpStream::connect(second).unwrap();
    let request = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (status, log) = running.end("TERM");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(TcpStream::connect(second).is_err());

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let keys = format!("grpc_listen = \"{}\"", taken.local_addr().unwrap());
    let folder = with_files(&keys, &[("echo", ECHO)]);
    let output = run(&["serve", "--config", &config(folder.path())]);
    assert_eq!(output.status.code(), Some(69));
    assert!(
        stderr(&output).contains("see `grpc_listen`"),
        "{}",
        stderr(&output)
    );
}

/// The destructors of libtorch crash a process that exits while a thread runs a model.
#[cfg(feature = "torch")]
#[test]
fn a_signal_while_a_torchscript_model_warms_up_ends_it_in_order() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/models/digits");
    let model = std::fs::read_to_string(models.join("model.toml")).unwrap();
    // A warm-up that is long enough to be interrupted.
    let model = model.replace("max_batch_size = 8", "max_batch_size = 1024");
    let folder = with_files("drain_delay_ms = 0", &[("digits", &model)]);
    for version in ["1", "2"] {
        let to = folder.path().join("models/digits").join(version);
        std::fs::create_dir_all(&to).unwrap();
        // The larger model in both places.
        for file in ["model.pt", "safety.json"] {
            std::fs::copy(models.join("2").join(file), to.join(file)).unwrap();
        }
    }
    let (running, _, _stdout) = Running::serve(folder.path());
    running.until_thread("digits/1#0");
    let (status, log) = running.end("TERM");
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn check_says_why_a_file_cannot_be_read() {
    let folder = with_files("", &[("echo", ECHO)]);
    let model = folder.path().join("models/echo/model.toml");
    std::fs::remove_file(model).unwrap();
    for file in [config(folder.path()), "no/such/file.toml".to_owned()] {
        let output = run(&["check", &file]);
        assert_eq!(output.status.code(), Some(78));
        let text = stderr(&output);
        assert!(text.contains("No such file or directory"), "{text}");
    }
}
