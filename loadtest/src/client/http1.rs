//! Sends one letter and reads one answer, over HTTP/1.1 with kept connections.
//!
//! The pool is bounded by connections, not by requests: who holds a [`Lease`] may
//! have one connection open, and there are no more leases than connections. hyper's
//! own pooled client makes no such promise; it opens a connection beside one that is
//! about to come back, and keeps both.
//!
//! A request is sent again only where a kept connection turned out to be gone before
//! the first byte went out; anything later is a failure and counts.

use std::io;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri, header};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use self::connection::{Connection, Exchanged};
use super::{Answer, Letter, SendError};
use crate::clock;
use crate::outcome::ErrorKind;

mod alarm;
mod answer;
mod connection;

/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// Sends to one address.
#[derive(Debug)]
pub(crate) struct HttpClient {
    host: String,
    port: u16,
    host_header: HeaderValue,
    connect_timeout: Duration,
    /// One permit for each connection that may be open; none if only the requests
    /// under way are bounded.
    permits: Option<Semaphore>,
    /// Open and unused; the one used last is taken first.
    #[expect(
        clippy::vec_box,
        reason = "they are moved for every request, and are large"
    )]
    idle: Mutex<Vec<Box<Connection>>>,
}

/// The right to one connection.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    client: &'a HttpClient,
    _permit: Option<SemaphorePermit<'a>>,
}

// === impl HttpClient ===

impl HttpClient {
    /// Opens at most so many connections at once to `uri`, whose host is set.
    pub(crate) fn new(
        uri: &Uri,
        connections: Option<usize>,
        connect_timeout: Duration,
    ) -> Result<Self, header::InvalidHeaderValue> {
        let host = uri.host().unwrap_or_default();
        let host_header = match uri.port() {
            Some(port) => HeaderValue::from_str(&format!("{host}:{port}"))?,
            None => HeaderValue::from_str(host)?,
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            host_header,
            connect_timeout,
            permits: connections.map(Semaphore::new),
            idle: Mutex::default(),
        })
    }

    /// Waits until a connection may be used.
    pub(crate) async fn lease(&self) -> Lease<'_> {
        let permit = match &self.permits {
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        Lease {
            client: self,
            _permit: permit,
        }
    }

    /// A connection that may be used at once; none where all are.
    pub(crate) fn try_lease(&self) -> Option<Lease<'_>> {
        let permit = match &self.permits {
            Some(permits) => Some(permits.try_acquire().ok()?),
            None => None,
        };
        Some(Lease {
            client: self,
            _permit: permit,
        })
    }

    /// A kept connection that still stands.
    fn kept(&self) -> Option<Box<Connection>> {
        loop {
            let connection = self.idle.lock().pop()?;
            if connection.is_open() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, SendError> {
        let opened = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(Connection::new(stream)))
        };
        let opened = tokio::time::timeout(self.connect_timeout, opened).await;
        let opened = opened.unwrap_or_else(|_| Err(timed_out()));
        opened.map_err(|error: io::Error| SendError::new(ErrorKind::Connect, &error))
    }
}

// === impl Lease ===

impl Lease<'_> {
    /// Sends a letter, with one header more where there is one, and reads the answer to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection that it used.
    pub(crate) async fn send(
        self,
        letter: &Letter,
        more: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, SendError> {
        let years = Instant::from_std(clock::now()) + FOREVER;
        let answer = self.send_until(years, letter, more).await;
        answer.unwrap_or_else(|| Err(SendError::new(ErrorKind::Timeout, &timed_out())))
    }

    /// The same until `deadline`; none where that came first.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection that it used.
    pub(crate) async fn send_until(
        self,
        deadline: Instant,
        letter: &Letter,
        more: Option<(HeaderName, HeaderValue)>,
    ) -> Option<Result<Answer, SendError>> {
        let more = more.as_ref();
        // A server may close a kept connection at any time.
        while let Some(connection) = self.client.kept() {
            match self.exchange(connection, deadline, letter, more).await? {
                Exchanged::Answered(answer) => return Some(Ok(answer)),
                Exchanged::Unsent(_) => {}
                Exchanged::Failed(error) => return Some(Err(error)),
            }
        }
        let connection = tokio::time::timeout_at(deadline, self.client.connect());
        let connection = match connection.await.ok()? {
            Ok(connection) => connection,
            Err(error) => return Some(Err(error)),
        };
        Some(
            match self.exchange(connection, deadline, letter, more).await? {
                Exchanged::Answered(answer) => Ok(answer),
                Exchanged::Unsent(error) => Err(SendError::new(ErrorKind::Reset, &error)),
                Exchanged::Failed(error) => Err(error),
            },
        )
    }

    async fn exchange(
        &self,
        mut connection: Box<Connection>,
        deadline: Instant,
        letter: &Letter,
        more: Option<&(HeaderName, HeaderValue)>,
    ) -> Option<Exchanged> {
        let host = &self.client.host_header;
        let exchanged = connection.exchange(deadline, letter, host, more);
        let exchanged = exchanged.await?;
        if matches!(exchanged, Exchanged::Answered(_)) && connection.may_stay() {
            self.client.idle.lock().push(connection);
        }
        Some(exchanged)
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    async fn listener() -> (TcpListener, HttpClient) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let client = HttpClient::new(&uri.parse().unwrap(), Some(1), Duration::from_secs(30));
        (listener, client.unwrap())
    }

    fn letter(body: Bytes) -> Letter {
        Letter {
            method: Method::POST,
            path: "/v2/x".parse().unwrap(),
            headers: HeaderMap::new(),
            body,
        }
    }

    async fn send(client: &HttpClient, body: Bytes) -> Result<Answer, SendError> {
        let user = (HeaderName::from_static("x-user"), HeaderValue::from(7));
        client.lease().await.send(&letter(body), Some(user)).await
    }

    #[tokio::test]
    async fn a_request_is_written_as_http_says() {
        let (listener, client) = listener().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = vec![0; 1024];
            let length = stream.read(&mut got).await.unwrap();
            stream.write_all(ANSWER).await.unwrap();
            String::from_utf8(got[..length].to_vec()).unwrap()
        };
        let (got, answer) = tokio::join!(serve, send(&client, Bytes::from_static(b"abc")));
        let host = listener.local_addr().unwrap();
        let expected = format!(
            "POST /v2/x HTTP/1.1\r\nhost: {host}\r\nx-user: 7\r\ncontent-length: 3\r\n\r\nabc"
        );
        assert_eq!(got, expected);
        assert_eq!(answer.unwrap().body, "ok");
    }

    #[tokio::test]
    async fn a_kept_connection_that_is_gone_costs_no_request() {
        let (listener, client) = listener().await;
        for _ in 0..3 {
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(ANSWER).await.unwrap();
            };
            let ((), answer) = tokio::join!(serve, send(&client, Bytes::new()));
            assert_eq!(answer.unwrap().status, 200);
            // The server has closed it, which is seen some time later.
            let gone = async {
                while client.idle.lock().iter().any(|kept| kept.is_open()) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), gone)
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_to_a_request_that_is_not_read_to_its_end_counts() {
        let (listener, client) = listener().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(refusal).await.unwrap();
            stream
        };
        // More than two sockets hold, so that it cannot be written to its end.
        let body = Bytes::from(vec![b'x'; 64 << 20]);
        let (_stream, answer) = tokio::join!(serve, send(&client, body));
        assert_eq!(answer.unwrap().status, 413);
        assert!(client.idle.lock().is_empty(), "half a request stands on it");
    }
}
