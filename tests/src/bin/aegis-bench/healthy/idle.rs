//! What a client connection costs that waits for its next request.

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::measure;
use crate::contender::PATH;
use crate::process::Running;

const CONNECTIONS: usize = 1_000;

/// Opens many connections, sends a request on each, and sees what they add while they idle.
pub(super) async fn bytes_per_connection(proxy: &Running) -> Result<f64> {
    let before = measure::resident_bytes(proxy.pid())?;
    let mut idle = Vec::with_capacity(CONNECTIONS);
    let request = format!("POST {PATH} HTTP/1.1\r\nhost: bench\r\ncontent-length: 2\r\n\r\n{{}}");
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(proxy.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 4_096];
        let read = stream.read(&mut answer).await?;
        ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "no 200");
        idle.push(stream);
    }
    let after = measure::resident_bytes(proxy.pid())?;
    drop(idle);
    Ok(after.saturating_sub(before) as f64 / CONNECTIONS as f64)
}
