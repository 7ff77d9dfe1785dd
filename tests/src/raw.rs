//! Bytes over a bare socket, for requests that no HTTP library would send.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Answer;
use crate::wait::PATIENCE;

/// Most that is read of what comes back.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// What came back on a bare socket.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Everything until the other side closed.
    pub bytes: Bytes,
}

/// Sends the parts one after the other, as most clients do without a look at what comes back, and
/// then reads until the other side closes.
///
/// # Errors
///
/// When there is no connection, or the other side closes early, or it neither answers nor closes.
pub async fn raw_exchange(at: SocketAddr, parts: &[&[u8]]) -> Result<RawAnswer> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        for part in parts {
            stream
                .write_all(part)
                .await
                .context("it closed before all was sent")?;
        }
        let mut bytes = Vec::new();
        // A reset after the answer loses nothing that was read before it.
        let _ = stream.take(MAX_ANSWER).read_to_end(&mut bytes).await;
        anyhow::Ok(RawAnswer {
            bytes: bytes.into(),
        })
    };
    timeout(PATIENCE, exchange)
        .await
        .context("it neither answered nor closed")?
}

// === impl RawAnswer ===

impl RawAnswer {
    /// The answers in it, each of which must have a `Content-Length`.
    ///
    /// # Errors
    ///
    /// When what came back is something else.
    pub fn answers(&self) -> Result<Vec<Answer>> {
        let mut rest = self.bytes.clone();
        let mut answers = Vec::new();
        while !rest.is_empty() {
            answers.push(take_answer(&mut rest).with_context(|| {
                format!(
                    "after {} answers: {:?}",
                    answers.len(),
                    String::from_utf8_lossy(&rest)
                )
            })?);
        }
        Ok(answers)
    }

    /// The only answer in it.
    ///
    /// # Errors
    ///
    /// When there is none or more than one.
    pub fn answer(&self) -> Result<Answer> {
        let [answer] = <[Answer; 1]>::try_from(self.answers()?)
            .map_err(|answers| anyhow::anyhow!("expected one answer, got {answers:?}"))?;
        Ok(answer)
    }
}

fn take_answer(rest: &mut Bytes) -> Result<Answer> {
    let end = rest
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("no end of head")?;
    let head = rest.split_to(end + 4);
    let head = std::str::from_utf8(&head)?;
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("no status")?;
    let status: StatusCode = status.parse()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        headers.append(
            HeaderName::try_from(name)?,
            HeaderValue::try_from(value.trim())?,
        );
    }
    let length = match headers.get(http::header::CONTENT_LENGTH) {
        Some(length) => length.to_str()?.parse()?,
        None if status == StatusCode::CONTINUE => 0,
        None => anyhow::bail!("no content-length in {head:?}"),
    };
    anyhow::ensure!(
        rest.len() >= length,
        "a body of {} of {length} bytes",
        rest.len()
    );
    Ok(Answer {
        status,
        headers,
        body: rest.split_to(length),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_on_one_connection_are_told_apart() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 404 Not Found\r\n\
                      Content-Length: 0\r\nx: y\r\n\r\n";
        let answers = RawAnswer {
            bytes: Bytes::from_static(bytes),
        }
        .answers()
        .unwrap();
        assert_eq!(answers.len(), 2);
        assert_eq!(
            (answers[0].status.as_u16(), answers[0].text().as_str()),
            (200, "hi")
        );
        assert_eq!(
            (answers[1].status.as_u16(), &answers[1].headers["x"]),
            (404, &"y".parse().unwrap())
        );
    }

    #[test]
    fn a_cut_body_is_an_error() {
        let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi");
        assert!(RawAnswer { bytes }.answer().is_err());
    }
}
