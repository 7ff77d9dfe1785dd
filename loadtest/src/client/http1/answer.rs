//! An answer of HTTP/1.1 as its bytes come in (RFC 9112): interim answers are passed over, bodies end by their
//! length, by their chunks, or with the connection.
//!
//! Pure: bytes in, an answer out once it is whole. Everything has a limit. HEAD and CONNECT, whose answers end
//! otherwise, are never sent.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};

use crate::client::{Answer, MAX_ANSWER, number};
use crate::outcome::Origin;

/// The longest head, and the longest trailers.
const MAX_HEAD: usize = 64 << 10;

/// The most headers that an answer may have.
const MAX_HEADERS: usize = 128;

/// The longest line that says how long a chunk is.
const MAX_CHUNK_LINE: usize = 256;

/// What there is room for at once in a long body.
const PIECE: usize = 256 << 10;

/// What is known of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Its head and where its body ends, once the head is there.
    begun: Option<(Head, Framing)>,
    /// Where the last answer of the connection came from.
    known: Origin,
}

/// What the head said.
#[derive(Debug)]
struct Head {
    answer: Answer,
    may_stay: bool,
}

/// Where the body ends.
#[derive(Debug)]
enum Framing {
    /// After so many bytes.
    Length(usize),
    /// After the last chunk. What came of it so far.
    Chunked(BytesMut, Chunk),
    /// With the connection.
    Close,
}

/// Where a body in chunks is.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    /// Before a chunk's length.
    Length,
    /// In a chunk, of which so many bytes are missing.
    Data(usize),
    /// Behind a chunk's data, before the line's end.
    End,
    /// In the trailers, of which so many bytes have come.
    Trailers(usize),
}

/// What comes next in a body in chunks.
enum Next {
    /// More bytes have to come.
    More,
    /// This.
    Part(Chunk),
    /// Nothing: it is whole.
    End,
}

/// What the next bytes came to.
pub(super) enum Step {
    /// The answer, and whether the connection may be used again.
    Whole(Answer, bool),
    /// It takes more of them.
    More,
}

/// Says why bytes are no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Nonsense {
    #[error("{0}")]
    Head(#[from] httparse::Error),
    #[error("expected a status of at least 100, got {0}")]
    Status(u16),
    #[error("expected a head of at most {MAX_HEAD} bytes")]
    LongHead,
    #[error("expected a content-length that is a number, and one only")]
    Length,
    #[error("expected a body of at most {MAX_ANSWER} bytes")]
    Long,
    #[error("expected a transfer-encoding that ends with chunked, or none")]
    Encoding,
    #[error("expected a chunk with its length before it")]
    Chunk,
}

// === impl Incoming ===

impl Incoming {
    /// Takes from `read` what belongs to the answer.
    pub(super) fn step(&mut self, read: &mut BytesMut) -> Result<Step, Nonsense> {
        if self.begun.is_none() {
            self.begun = head(read, &mut self.known)?;
        }
        let Some((_, framing)) = &mut self.begun else {
            return Ok(Step::More);
        };
        let Some(body) = framing.take(read)? else {
            return Ok(Step::More);
        };
        Ok(match self.whole(body) {
            Some(head) => Step::Whole(head.answer, head.may_stay),
            None => Step::More,
        })
    }

    /// The connection is closed: the answer, if that is its end.
    pub(super) fn end(&mut self, read: &mut BytesMut) -> Option<Answer> {
        let is_end = matches!(self.begun, Some((_, Framing::Close)));
        let body = read.split().freeze();
        let head = is_end.then(|| self.whole(body)).flatten();
        head.map(|head| head.answer)
    }

    fn whole(&mut self, body: Bytes) -> Option<Head> {
        let (mut head, _) = self.begun.take()?;
        head.answer.body = body;
        Some(head)
    }
}

/// The head of the answer, once it is there.
fn head(read: &mut BytesMut, known: &mut Origin) -> Result<Option<(Head, Framing)>, Nonsense> {
    loop {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            read,
            &mut headers,
        )?;
        let length = match parsed {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial if read.len() > MAX_HEAD => return Err(Nonsense::LongHead),
            httparse::Status::Partial => return Ok(None),
        };
        let status = response.code.unwrap_or_default();
        // What comes before the answer, such as 100 and 103.
        if (100..200).contains(&status) && status != 101 {
            let _ = read.split_to(length);
            continue;
        }
        let heard = hear(&response, known)?;
        let _ = read.split_to(length);
        return Ok(Some(heard));
    }
}

/// What a head says.
fn hear(
    response: &httparse::Response<'_, '_>,
    known: &mut Origin,
) -> Result<(Head, Framing), Nonsense> {
    let status = response.code.unwrap_or_default();
    let mut answer = Answer::empty(status);
    if status < 100 {
        return Err(Nonsense::Status(status));
    }
    let is_current = response.version == Some(1);
    let (mut keeps, mut closes) = (is_current, false);
    let (mut length, mut encoding) = (None, None);
    for header in &*response.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let said = number(header.value).ok_or(Nonsense::Length)?;
            if length.is_some_and(|length| length != said) {
                return Err(Nonsense::Length);
            }
            length = Some(said);
        } else if is("transfer-encoding") {
            encoding = Some(header.value);
        } else if is("connection") {
            // It may be there several times, and `close` counts wherever it stands.
            keeps |= options(header.value).any(|option| is_named(option, b"keep-alive"));
            closes |= options(header.value).any(|option| is_named(option, b"close"));
        } else {
            answer.hear(header.name, header.value, known);
        }
    }
    // 101 goes over to a protocol that nobody has asked for.
    let mut may_stay = keeps && !closes && status != 101;
    let framing = match (status, encoding, length) {
        (101 | 204 | 304, ..) => Framing::Length(0),
        (_, Some(encoding), _)
            if options(encoding)
                .next_back()
                .is_some_and(|last| is_named(last, b"chunked")) =>
        {
            // Who says both may mean either, and HTTP/1.0 has no chunks.
            may_stay &= length.is_none() && is_current;
            Framing::Chunked(BytesMut::new(), Chunk::Length)
        }
        (_, Some(_), _) => return Err(Nonsense::Encoding),
        (_, None, Some(length)) if length > MAX_ANSWER => return Err(Nonsense::Long),
        (_, None, Some(length)) => Framing::Length(length),
        (_, None, None) => Framing::Close,
    };
    Ok((Head { answer, may_stay }, framing))
}

/// The elements of a list, as HTTP writes it.
fn options(list: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn is_named(option: &[u8], name: &[u8]) -> bool {
    option.eq_ignore_ascii_case(name)
}

// === impl Framing ===

impl Framing {
    /// The body, once it is whole.
    fn take(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, Nonsense> {
        match self {
            Self::Length(length) if read.len() < *length => {
                // Not as much as it claims: it may never come.
                read.reserve((*length - read.len()).min(PIECE));
                Ok(None)
            }
            Self::Length(length) => Ok(Some(read.split_to(*length).freeze())),
            Self::Close if read.len() > MAX_ANSWER => Err(Nonsense::Long),
            Self::Close => Ok(None),
            Self::Chunked(body, chunk) => loop {
                match chunk.take(read, body)? {
                    Next::More => return Ok(None),
                    Next::Part(next) => *chunk = next,
                    Next::End => return Ok(Some(std::mem::take(body).freeze())),
                }
            },
        }
    }
}

// === impl Chunk ===

impl Chunk {
    /// Takes what is next, and says what comes then.
    fn take(self, read: &mut BytesMut, body: &mut BytesMut) -> Result<Next, Nonsense> {
        Ok(match self {
            // httparse takes no digits at all for a zero, and so for the end.
            Self::Length if read.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                return Err(Nonsense::Chunk);
            }
            Self::Length => match httparse::parse_chunk_size(read) {
                Ok(httparse::Status::Complete((line, size))) => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    if size > MAX_ANSWER.saturating_sub(body.len()) {
                        return Err(Nonsense::Long);
                    }
                    let _ = read.split_to(line);
                    Next::Part(match size {
                        0 => Self::Trailers(0),
                        size => Self::Data(size),
                    })
                }
                Ok(httparse::Status::Partial) if read.len() <= MAX_CHUNK_LINE => Next::More,
                _ => return Err(Nonsense::Chunk),
            },
            Self::Data(0) => Next::Part(Self::End),
            Self::Data(_) if read.is_empty() => Next::More,
            Self::Data(missing) => {
                let piece = read.split_to(missing.min(read.len()));
                body.extend_from_slice(&piece);
                Next::Part(Self::Data(missing - piece.len()))
            }
            Self::End if read.len() < 2 => Next::More,
            Self::End if read.starts_with(b"\r\n") => {
                let _ = read.split_to(2);
                Next::Part(Self::Length)
            }
            Self::End => return Err(Nonsense::Chunk),
            Self::Trailers(before) => match read.iter().position(|&byte| byte == b'\n') {
                _ if before + read.len() > MAX_HEAD => return Err(Nonsense::LongHead),
                None => Next::More,
                Some(end) => {
                    let line = read.split_to(end + 1);
                    if line.trim_ascii().is_empty() {
                        Next::End
                    } else {
                        Next::Part(Self::Trailers(before + line.len()))
                    }
                }
            },
        })
    }
}

#[cfg(test)]
mod tests;
