//! What is written, what is lost, and what happens when the file moves.

use std::{fs, path::Path};

use aegis_protocol::Reason;
use serde_json::Value;

use super::*;
use crate::{config::LogTarget, metrics::Metrics};

fn config(target: LogTarget) -> config::AccessLog {
    config::AccessLog {
        target: Some(target),
        sample: 1.0,
        slow: Duration::from_secs(1),
        buffer_bytes: 64 * 1024,
    }
}

fn lost() -> Lost {
    Metrics::new().unwrap().lost_lines()
}

fn open(path: &Path, lost: &Lost) -> AccessLog {
    let config = config(LogTarget::File(path.to_owned()));
    AccessLog::open(&config, lost.clone()).unwrap().unwrap()
}

fn line<'a>(path: &'a [u8], reason: &'a [u8]) -> Line<'a> {
    Line {
        time: std::time::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
        request_id: b"id",
        trace_id: None,
        client: Some("10.0.0.1".parse().unwrap()),
        method: b"POST",
        path,
        protocol: "HTTP/1.1",
        model: Some("digits"),
        version_asked: None,
        version_chosen: Some("2"),
        model_version: Some("1"),
        route: Some("fallback"),
        endpoint: Some("10.0.0.2:8000".parse().unwrap()),
        attempts: 2,
        status: 503,
        reason: Some(reason),
        failure: Some("connect"),
        bytes_in: Some(17),
        bytes_out: None,
        first_byte: None,
        duration: Duration::from_micros(1_234),
        sample: None,
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_line_is_one_object_with_what_applies_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = open(&path, &lost());
    log.write(&line(b"/v2", Reason::NoEndpoint.name().as_bytes()));
    log.close();
    let expected = serde_json::json!({
        "time": "2023-11-14T22:13:20.123Z",
        "request_id": "id",
        "client": "10.0.0.1",
        "method": "POST",
        "path": "/v2",
        "protocol": "HTTP/1.1",
        "model": "digits",
        "version_chosen": "2",
        "model_version": "1",
        "route": "fallback",
        "endpoint": "10.0.0.2:8000",
        "attempts": 2,
        "status": 503,
        "reason": "no_endpoint",
        "failure": "connect",
        "bytes_in": 17,
        "duration_ms": 1.234,
    });
    assert_eq!(read(&path), [expected]);
}

#[test]
fn lines_of_a_sample_say_of_which_part_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut config = config(LogTarget::File(path.clone()));
    config.sample = 0.25;
    let log = AccessLog::open(&config, lost()).unwrap().unwrap();
    log.write(&Line {
        sample: log.sample(),
        ..line(b"/v2", b"")
    });
    log.close();
    assert_eq!(read(&path)[0]["sample"], 0.25);
    config.sample = 1.0;
    let log = AccessLog::open(&config, lost()).unwrap().unwrap();
    assert_eq!(log.sample(), None, "all of them are no sample");
}

#[test]
fn what_others_wrote_can_neither_forge_a_line_nor_fill_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = open(&path, &lost());
    let forged = b"x\"}\n{\"status\":200}\r\x1b[2J";
    log.write(&line(forged, b"\xff\xfe"));
    let endless = "é".repeat(100_000);
    log.write(&line(endless.as_bytes(), b""));
    log.close();
    let lines = read(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["path"], std::str::from_utf8(forged).unwrap());
    assert_eq!(lines[0]["reason"], "\u{fffd}\u{fffd}");
    let shown = lines[1]["path"].as_str().unwrap();
    assert_eq!(shown, format!("{}…", "é".repeat(256)));
}

#[test]
fn lines_beyond_the_buffer_are_dropped_and_counted() {
    let lost = lost();
    let waiting = Waiting {
        lines: Mutex::default(),
        changed: Condvar::new(),
        room: 10,
        lost: lost.clone(),
    };
    for _ in 0..3 {
        waiting.add(b"1234\n");
    }
    assert_eq!(lost.full.get(), 1);
    waiting.close();
    let mut text = Vec::new();
    assert_eq!(waiting.take(&mut text), Some(2));
    assert_eq!(text, b"1234\n1234\n");
    text.clear();
    assert_eq!(waiting.take(&mut text), None, "closed and empty");
    waiting.add(b"late\n");
    assert_eq!(lost.full.get(), 2, "a line that comes too late is lost");
}

#[test]
fn a_file_that_is_moved_or_removed_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let old = folder.path().join("access.log.1");
    let target = LogTarget::File(path.clone());
    let mut target = Target::open(&target).unwrap();
    target.write(b"1\n").unwrap();
    fs::rename(&path, &old).unwrap();
    target.write(b"2\n").unwrap();
    target.write(b"3\n").unwrap();
    assert_eq!(fs::read(&old).unwrap(), b"1\n");
    assert_eq!(fs::read(&path).unwrap(), b"2\n3\n");
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"theirs\n").unwrap();
    target.write(b"4\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"theirs\n4\n");
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("logs");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("access.log");
    let lost = lost();
    let target = Target::open(&LogTarget::File(path.clone())).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    let waiting = Waiting {
        lines: Mutex::default(),
        changed: Condvar::new(),
        room: 100,
        lost: lost.clone(),
    };
    waiting.add(b"lost\n");
    waiting.add(b"too\n");
    waiting.close();
    waiting.write_all(target);
    assert_eq!((lost.unwritten.get(), lost.full.get()), (2, 0));
}

#[test]
fn a_file_that_cannot_be_opened_is_named_at_the_start() {
    let config = config(LogTarget::File("/no/such/folder/access.log".into()));
    let error = AccessLog::open(&config, lost()).unwrap_err().to_string();
    assert!(
        error.contains("/no/such/folder/access.log (access_log.path)"),
        "{error}"
    );
}

#[test]
fn a_share_of_all_lines_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut config = config(LogTarget::File(path));
    config.sample = 0.25;
    let log = AccessLog::open(&config, lost()).unwrap().unwrap();
    assert!(log.takes(0.0) && log.takes(0.24) && !log.takes(0.25) && !log.takes(0.99));
    config.sample = 0.0;
    let none = AccessLog::open(&config, lost()).unwrap().unwrap();
    assert!(!none.takes(0.0));
    config.sample = 1.0;
    let all = AccessLog::open(&config, lost()).unwrap().unwrap();
    assert!(all.takes(1.0_f64.next_down()));
    assert!(all.is_slow(Duration::from_millis(1_001)) && !all.is_slow(Duration::from_secs(1)));
}
