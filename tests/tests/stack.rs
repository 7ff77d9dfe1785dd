//! The two commands that a newcomer runs first.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::path::Path;

use aegis_e2e::{Binaries, Client, Process, Signal, digits, until};
use anyhow::{Context, Result, ensure};

/// Starts it with the programs that this test run built, which lie beside it.
fn start(arguments: &[&str]) -> Process {
    Binaries::built().unwrap();
    Process::spawn(
        "stack",
        Path::new(env!("CARGO_BIN_EXE_aegis-stack")),
        arguments,
    )
    .unwrap()
}

/// Waits until it has written this, and returns all that it wrote.
async fn written(stack: &mut Process, part: &str) -> Result<String> {
    until(&format!("the stack to write {part:?}"), async || {
        let text = stack.stdout();
        ensure!(text.contains(part), "it wrote:\n{text}\n{}", stack.stderr());
        Ok(text)
    })
    .await
}

/// What stands between two parts of a text.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Result<&'a str> {
    let rest = text
        .split_once(before)
        .with_context(|| format!("no {before:?} in {text}"))?
        .1;
    Ok(rest
        .split_once(after)
        .with_context(|| format!("no {after:?} in {rest}"))?
        .0)
}

/// Whether the process is gone, or waits only to be reaped.
fn is_gone(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// The processes that have this one for a parent.
fn children(parent: i32) -> Vec<String> {
    let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    list.unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_printed_request_gets_the_right_answer_and_ctrl_c_ends_everything() {
    let mut stack = start(&["run"]);
    let text = written(&mut stack, "Ctrl-C").await.unwrap();
    let url = between(&text, "curl -s http://", " ").unwrap();
    let (address, path) = url.split_at(url.find('/').unwrap());
    let body = between(&text, "-d '", "'").unwrap().to_owned();
    let right: i64 = between(&text, "has \"label\" ", ".")
        .unwrap()
        .parse()
        .unwrap();
    let address: SocketAddr = address.parse().unwrap();
    for _ in 0..10 {
        let answer = Client::new()
            .post(address, path, body.clone())
            .await
            .unwrap();
        assert_eq!(digits::labels(&answer.body).unwrap(), [right], "{answer:?}");
    }
    let admin = between(&text, "http://", "/status").unwrap();
    let admin: SocketAddr = admin.rsplit("http://").next().unwrap().parse().unwrap();
    assert!(
        Client::new()
            .get(admin, "/status")
            .await
            .unwrap()
            .status
            .is_success()
    );
    let toml = text
        .split_whitespace()
        .find(|word| word.ends_with("proxy.toml"))
        .unwrap();
    assert!(
        std::fs::read_to_string(toml)
            .unwrap()
            .contains("weight = 90")
    );

    let children = children(stack.id());
    assert_eq!(children.len(), 4, "{children:?}");
    stack.signal(Signal::INT).unwrap();
    let exit = stack.exited().await.unwrap();
    assert_eq!(exit.code, Some(0), "{}", stack.stderr());
    assert!(
        stack.stdout().contains("Everything drained"),
        "{}",
        stack.stdout()
    );
    assert!(children.iter().all(|child| is_gone(child)), "{children:?}");
    assert!(!Path::new(toml).exists(), "the temporary folder stayed");
}

#[tokio::test]
async fn a_part_that_dies_is_named_and_the_rest_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = start(&["run", "--folder", folder.path().to_str().unwrap()]);
    let text = written(&mut stack, "Ctrl-C").await.unwrap();
    let url = between(&text, "curl -s http://", " ").unwrap();
    let (address, path) = url.split_at(url.find('/').unwrap());
    let body = between(&text, "-d '", "'").unwrap().to_owned();
    // The first child is the first backend that was started.
    let victim = children(stack.id()).remove(0).parse().unwrap();
    let victim = rustix::process::Pid::from_raw(victim).unwrap();
    rustix::process::kill_process(victim, Signal::KILL).unwrap();
    written(&mut stack, "died").await.unwrap();
    for _ in 0..20 {
        let answer = Client::new()
            .post(address.parse().unwrap(), path, body.clone())
            .await;
        assert!(answer.unwrap().status.is_success());
    }
    stack.signal(Signal::TERM).unwrap();
    assert_eq!(
        stack.exited().await.unwrap().code,
        Some(0),
        "{}",
        stack.stderr()
    );
    assert!(
        folder.path().join("proxy.toml").exists(),
        "a folder that was named stays"
    );
}

#[tokio::test]
async fn children_end_when_the_stack_is_killed_outright() {
    let mut stack = start(&["run"]);
    written(&mut stack, "Ctrl-C").await.unwrap();
    let children = children(stack.id());
    stack.kill().await.unwrap();
    until("the children's end", async || {
        let left: Vec<_> = children.iter().filter(|child| !is_gone(child)).collect();
        ensure!(left.is_empty(), "{left:?} live");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_demo_tells_its_four_steps_and_loses_nothing() {
    let mut stack = start(&["demo", "--rate", "50", "--step", "3"]);
    let exit = stack.exited().await.unwrap();
    let text = stack.stdout();
    assert_eq!(exit.code, Some(0), "{text}\n{}", stack.stderr());
    let lines: Vec<&str> = text.lines().collect();
    for step in ["1. ", "2. ", "3. ", "4. "] {
        let at = lines
            .iter()
            .position(|line| line.starts_with(step))
            .unwrap();
        assert!(
            lines[at + 1].contains('%'),
            "no figures after {}",
            lines[at]
        );
    }
    assert!(text.contains("No request was lost"), "{text}");
}
