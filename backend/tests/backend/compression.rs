//! Compressed bodies, in and out.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::support::{Backend, ECHO, echo_body, infer};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut writer = ZlibEncoder::new(Vec::new(), Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[tokio::test]
async fn a_compressed_request_is_answered_in_either_coding() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let body = echo_body(&[1.0, 2.0]);
    for (coding, bytes) in [
        ("gzip", gzip(body.as_bytes())),
        ("deflate", zlib(body.as_bytes())),
    ] {
        let mut request = infer("echo", bytes);
        let value = coding.parse().unwrap();
        request.headers_mut().insert("content-encoding", value);
        let reply = backend.send(request).await;
        assert_eq!(reply.output(0), [1.0, 1.0, 2.0, 2.0], "{coding}");
        assert_eq!(reply.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn a_large_answer_is_compressed_for_who_accepts_it() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let rows: Vec<f64> = (0..10_000).map(f64::from).collect();
    let plain = backend.infer("echo", echo_body(&rows)).await;
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    for coding in ["gzip", "deflate"] {
        let mut request = infer("echo", echo_body(&rows));
        let value = coding.parse().unwrap();
        request.headers_mut().insert("accept-encoding", value);
        let reply = backend.send(request).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-encoding"), Some(coding));
        assert!(reply.body.len() * 2 < plain.body.len());
        let mut body = Vec::new();
        let read = match coding {
            "gzip" => GzDecoder::new(&reply.body[..]).read_to_end(&mut body),
            _ => ZlibDecoder::new(&reply.body[..]).read_to_end(&mut body),
        };
        assert_eq!(read.unwrap(), plain.body.len());
        assert_eq!(body, plain.body);
    }
    let mut request = infer("echo", echo_body(&[1.0]));
    let value = "gzip".parse().unwrap();
    request.headers_mut().insert("accept-encoding", value);
    let small = backend.send(request).await;
    assert_eq!(small.header("content-encoding"), None);
    assert_eq!(small.output(0), [1.0, 1.0]);
}

#[tokio::test]
async fn a_bomb_is_cut_at_the_limit_on_bodies_and_at_the_budget_for_all() {
    // The compressed body takes its part of the budget too.
    for (size, budget, status, reason) in [
        (32 << 20, 2 << 20, 413, "body_too_large"),
        (1 << 20, 1 << 20, 429, "queue_full"),
    ] {
        let keys = format!("max_body_bytes = 1048576\nmax_upload_bytes = {budget}");
        let backend = Backend::ready_with(&keys, &[("echo", ECHO)]).await;
        let mut request = infer("echo", gzip(&vec![b' '; size]));
        let value = "gzip".parse().unwrap();
        request.headers_mut().insert("content-encoding", value);
        let reply = backend.send(request).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(reply.header("x-aegis-reason"), Some(reason));
        // What was taken of the budget is given back.
        assert_eq!(backend.app.uploads.used(), 0);
        let next = backend.infer("echo", echo_body(&[1.0])).await;
        assert_eq!(next.output(0), [1.0, 1.0]);
    }
}

#[tokio::test]
async fn a_coding_that_is_not_known_is_refused_with_those_that_are() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let mut request = infer("echo", echo_body(&[1.0]));
    let value = "zstd".parse().unwrap();
    request.headers_mut().insert("content-encoding", value);
    let reply = backend.send(request).await;
    assert_eq!(reply.status, 415);
    assert_eq!(reply.header("accept-encoding"), Some("gzip, deflate"));
    let text = "content-encoding: expected gzip, deflate or identity, got `zstd`";
    assert_eq!(reply.error(), text);
}
