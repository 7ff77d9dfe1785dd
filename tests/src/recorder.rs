//! An endpoint that writes down every byte it is sent, for tests of what must not be sent.
//!
//! A server that parses would refuse the worst by itself, and so hide that it was forwarded. This
//! one takes everything that is not a health check down as it comes, and answers what looks whole.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

const HEAD_END: &[u8] = b"\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A running endpoint; it and its connections end when this is dropped.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    accepting: JoinHandle<()>,
}

/// One request as its bytes came in.
#[derive(Clone, Debug)]
pub struct Heard {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Its end came, as its head said it would.
    pub whole: bool,
    /// The connection was closed on it before that.
    pub cut: bool,
    /// It was the last on its connection, which the proxy has closed since.
    pub last: bool,
}

// === impl Recorder ===

impl Recorder {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        Self::answering(ANSWER, false).await
    }

    /// Starts one that gives everything but health checks this answer, and perhaps closes then.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn answering(answer: &'static [u8], closes: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&heard), (answer, closes)));
        Ok(Self {
            address,
            heard,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that it heard so far, health checks aside, in the order of arrival.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

// === impl Heard ===

impl Heard {
    /// As text, for a look at it.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Whether all of it is there, as far as its head says how much that is.
    fn is_all(&self) -> bool {
        let Some(end) = head_end(&self.bytes) else {
            return false;
        };
        let head = String::from_utf8_lossy(&self.bytes[..end]).to_lowercase();
        let body = &self.bytes[end..];
        if head.contains("transfer-encoding: chunked") {
            return body.ends_with(b"0\r\n\r\n");
        }
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        body.len() >= length.unwrap_or(0)
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes
        .windows(HEAD_END.len())
        .position(|end| end == HEAD_END)?;
    Some(at + HEAD_END.len())
}

async fn accept(
    listener: TcpListener,
    heard: Arc<Mutex<Vec<Heard>>>,
    answer: (&'static [u8], bool),
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let heard = Arc::clone(&heard);
                    connections.spawn(async move {
                        // One that breaks off has been written down as far as it came.
                        let _ = listen(stream, &heard, answer).await;
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Takes one request after the other.
async fn listen(
    mut stream: TcpStream,
    heard: &Mutex<Vec<Heard>>,
    (answer, closes): (&'static [u8], bool),
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    let mut current: Option<usize> = None;
    let mut before: Option<usize> = None;
    loop {
        let read = stream.read(&mut bytes).await.unwrap_or(0);
        if read == 0 {
            if let Some(index) = current {
                heard.lock()[index].cut = true;
            } else if let Some(index) = before {
                heard.lock()[index].last = true;
            }
            return Ok(());
        }
        let new = &bytes[..read];
        if current.is_none() && new.starts_with(b"GET ") && new.ends_with(HEAD_END) {
            let path = new.split(|byte| *byte == b' ').nth(1);
            if path.is_some_and(|path| path.ends_with(b"/ready")) {
                stream.write_all(ANSWER).await?;
                continue;
            }
        }
        if note(heard, &mut current, new) {
            stream.write_all(answer).await?;
            if closes {
                return Ok(());
            }
            before = current.take();
        }
    }
}

/// Writes bytes down. Says whether the request is whole with them.
fn note(heard: &Mutex<Vec<Heard>>, current: &mut Option<usize>, new: &[u8]) -> bool {
    let mut heard = heard.lock();
    let index = *current.get_or_insert_with(|| {
        heard.push(Heard {
            bytes: Vec::new(),
            whole: false,
            cut: false,
            last: false,
        });
        heard.len() - 1
    });
    let request = &mut heard[index];
    request.bytes.extend_from_slice(new);
    request.whole = request.is_all();
    request.whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw_exchange;

    #[tokio::test]
    async fn what_is_sent_is_written_down_and_health_is_not() {
        let recorder = Recorder::start().await.unwrap();
        let parts = [
            &b"GET /v2/models/m/versions/1/ready HTTP/1.1\r\n\r\n"[..],
            b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n",
        ];
        let at = recorder.address();
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut answer = vec![0; ANSWER.len()];
        stream.write_all(parts[0]).await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        stream.write_all(parts[1]).await.unwrap();
        drop(stream);
        let cut = crate::until("a request that was cut", async || {
            let heard = recorder.heard();
            anyhow::ensure!(heard.first().is_some_and(|first| first.cut));
            Ok(heard)
        });
        let heard = cut.await.unwrap();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(heard[0].text().ends_with("1\r\nx\r\n") && !heard[0].whole);

        let whole = tokio::spawn(async move {
            let bytes = b"POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
            raw_exchange(at, &[bytes]).await
        });
        let heard = crate::until("a whole request", async || {
            let heard = recorder.heard();
            anyhow::ensure!(heard.last().is_some_and(|last| last.whole));
            Ok(heard)
        });
        assert_eq!(heard.await.unwrap().len(), 2);
        whole.abort();
    }
}
