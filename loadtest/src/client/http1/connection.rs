//! One connection: writes a request, reads its answer, and says whether it may be used again.
//!
//! A load generator must not take longer for a request than a server, and hyper's connections are made for
//! programs that do something with answers: a task of its own, two channels to the one that asks, a map of all
//! headers. Here one task writes and reads, a request goes out in one system call, and an answer is looked at
//! where it lies. What is on the wire is parsed by httparse, as hyper does; [`answer`](super::answer) has the rest.

use std::io::{self, IoSlice};

use bytes::{Buf, BytesMut};
use http::{HeaderName, HeaderValue, header};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::answer::{Incoming, Nonsense, Step};
use crate::client::{Answer, Letter, SendError};
use crate::outcome::ErrorKind;

/// What there is room for before each read: most answers, whole.
const READ: usize = 4096;

/// The largest buffer that an idle connection keeps.
const KEPT: usize = 64 << 10;

/// An open connection, closed when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// The head of a request.
    head: Vec<u8>,
    /// What came and was not read.
    read: BytesMut,
    incoming: Incoming,
    may_stay: bool,
    alarm: Alarm,
}

/// What became of a request on a connection.
pub(super) enum Exchanged {
    /// The answer.
    Answered(Answer),
    /// The connection was gone before the first byte went out.
    Unsent(io::Error),
    /// There is none.
    Failed(SendError),
}

/// Why an answer ends too early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the connection was closed before the answer was whole")]
    Closed,
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: Vec::new(),
            read: BytesMut::new(),
            incoming: Incoming::default(),
            may_stay: false,
            alarm: Alarm::default(),
        }
    }

    /// Whether it stands, and nothing came that nobody asked for. Where nothing is known to have happened to it
    /// this asks nobody.
    pub(super) fn is_open(&self) -> bool {
        let waiting = self.stream.try_read(&mut [0]);
        waiting.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether it may be used again.
    pub(super) fn may_stay(&self) -> bool {
        self.may_stay
    }

    /// Sends a letter, with one header more where there is one, and reads the answer to its end; none where
    /// `deadline` came first.
    pub(super) async fn exchange(
        &mut self,
        deadline: Instant,
        letter: &Letter,
        host: &HeaderValue,
        more: Option<&(HeaderName, HeaderValue)>,
    ) -> Option<Exchanged> {
        let mut alarm = std::mem::take(&mut self.alarm);
        let exchanged = alarm.bounds(deadline, self.send(letter, host, more));
        let exchanged = exchanged.await;
        self.alarm = alarm;
        exchanged
    }

    async fn send(
        &mut self,
        letter: &Letter,
        host: &HeaderValue,
        more: Option<&(HeaderName, HeaderValue)>,
    ) -> Exchanged {
        self.may_stay = false;
        write_head(&mut self.head, letter, host, more);
        let (mut reader, mut writer) = self.stream.split();
        let mut sent = 0;
        let written = {
            let write = write_all(&mut writer, &self.head, &letter.body, &mut sent);
            let answer = answer(&mut reader, &mut self.read, &mut self.incoming);
            tokio::select! {
                biased;
                written = write => written,
                // Before it had read all of it: such an answer is one, and the connection's last.
                answer = answer => return Exchanged::of(answer.map(|(answer, _)| answer)),
            }
        };
        match written {
            Err(error) if sent == 0 => return Exchanged::Unsent(error),
            // A server that has enough may say why before it closes.
            Err(error) => {
                let answer = answer(&mut reader, &mut self.read, &mut self.incoming).await;
                let answer = answer.map_err(|_| Broken::from(error));
                return Exchanged::of(answer.map(|(answer, _)| answer));
            }
            Ok(()) => {}
        }
        let answer = answer(&mut reader, &mut self.read, &mut self.incoming).await;
        // A body that lies in the buffer is a part of it, which the buffer would take back.
        let body = answer.as_ref().map_or(0, |(answer, _)| answer.body.len());
        if self.read.capacity().saturating_add(body) > KEPT {
            self.read = BytesMut::new();
        }
        Exchanged::of(answer.map(|(answer, may_stay)| {
            self.may_stay = may_stay;
            answer
        }))
    }
}

/// Writes the request line and every header into a buffer, which is used again and again.
fn write_head(
    head: &mut Vec<u8>,
    letter: &Letter,
    host: &HeaderValue,
    more: Option<&(HeaderName, HeaderValue)>,
) {
    head.clear();
    let mut write = |parts: &[&[u8]]| parts.iter().for_each(|part| head.extend_from_slice(part));
    let path = letter.path.path_and_query();
    let path = path.map_or("/", http::uri::PathAndQuery::as_str);
    write(&[letter.method.as_str().as_bytes(), b" ", path.as_bytes()]);
    write(&[b" HTTP/1.1\r\nhost: ", host.as_bytes(), b"\r\n"]);
    let letters = letter.headers.iter();
    for (name, value) in letters.chain(more.map(|(name, value)| (name, value))) {
        write(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    if !letter.body.is_empty() || letter.method != http::Method::GET {
        let length = HeaderValue::from(letter.body.len());
        let name = header::CONTENT_LENGTH.as_str().as_bytes();
        write(&[name, b": ", length.as_bytes(), b"\r\n"]);
    }
    write(&[b"\r\n"]);
}

/// Writes head and body, in one system call where the system takes both, and counts what went out.
async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    mut head: &[u8],
    mut body: &[u8],
    sent: &mut usize,
) -> io::Result<()> {
    while !head.is_empty() || !body.is_empty() {
        let both = [IoSlice::new(head), IoSlice::new(body)];
        let count = writer.write_vectored(&both).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *sent += count;
        let of_head = count.min(head.len());
        head.advance(of_head);
        body.advance(count - of_head);
    }
    Ok(())
}

/// Reads an answer to its end, and says whether the connection may be used again.
async fn answer(
    reader: &mut ReadHalf<'_>,
    read: &mut BytesMut,
    incoming: &mut Incoming,
) -> Result<(Answer, bool), Broken> {
    loop {
        match incoming.step(read)? {
            // What lies behind it nobody has asked for.
            Step::Whole(answer, may_stay) => return Ok((answer, may_stay && read.is_empty())),
            Step::More => {}
        }
        read.reserve(READ);
        if reader.read_buf(read).await? == 0 {
            let answer = incoming.end(read).ok_or(Broken::Closed)?;
            return Ok((answer, false));
        }
    }
}

// === impl Exchanged ===

impl Exchanged {
    fn of(answer: Result<Answer, Broken>) -> Self {
        match answer {
            Ok(answer) => Self::Answered(answer),
            Err(error @ Broken::Nonsense(_)) => {
                Self::Failed(SendError::new(ErrorKind::BadAnswer, &error))
            }
            // The system's own error, by which it is told what this machine has run out of.
            Err(Broken::Io(error)) => Self::Failed(SendError::new(ErrorKind::Reset, &error)),
            Err(error) => Self::Failed(SendError::new(ErrorKind::Reset, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderMap;
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock;

    #[tokio::test]
    async fn a_connection_that_had_a_long_answer_keeps_no_long_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut connection, mut peer) = (Connection::new(stream.unwrap()), accepted.unwrap().0);
        let letter = Letter {
            method: http::Method::GET,
            path: "/".parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let host = HeaderValue::from_static("localhost");
        let deadline = Instant::from_std(clock::now()) + Duration::from_secs(30);
        for length in [4 * KEPT, 16 * KEPT, 2] {
            let serve = async {
                assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                peer.write_all(head.as_bytes()).await.unwrap();
                peer.write_all(&vec![b'x'; length]).await.unwrap();
            };
            let sent = connection.exchange(deadline, &letter, &host, None);
            let ((), sent) = tokio::join!(serve, sent);
            let Some(Exchanged::Answered(answer)) = sent else {
                panic!("there is an answer of {length} bytes");
            };
            assert_eq!(answer.body.len(), length);
            assert!(connection.may_stay());
            drop(answer);
            // Without asking for memory, it has no more than it may.
            assert!(!connection.read.try_reclaim(KEPT + 1), "{length}");
        }
    }
}
