//! Compressed bodies: `gzip` and `deflate`, the two that clients of the protocol send.
//!
//! A body of a kilobyte can expand to a megabyte, so expanding is bounded by the limit on bodies
//! and by the budget for all of them, checked before memory is taken and not after. `deflate` is
//! zlib's format, as RFC 9110 says, which is also what the clients write.
//!
//! Our own answers are compressed at the fastest level: better ones take several times as long for
//! a few per cent.

use std::io::{BufRead, Read, Write};

use aegis_protocol::{Encoded, excerpt};
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

use super::Refused;
use super::body::BodyError;
use super::uploads::UploadsFull;

/// Bytes that are expanded at a time.
const PIECE: usize = 16 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

// === impl Coding ===

impl Coding {
    const ALL: [Self; 2] = [Self::Gzip, Self::Deflate];

    /// Its name in headers.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn named(name: &str) -> Option<Self> {
        // What HTTP/1.0 called it.
        let name = name.strip_prefix("x-").unwrap_or(name);
        let mut all = Self::ALL.into_iter();
        all.find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    /// How a request's body is compressed; none for not at all.
    ///
    /// # Errors
    ///
    /// When in a way that is not known, or in several.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, Refused> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let got = match values.next() {
            Some(_) => "several",
            None => value.to_str().unwrap_or("not ASCII").trim(),
        };
        match Self::named(got) {
            Some(coding) => Ok(Some(coding)),
            None if got.eq_ignore_ascii_case("identity") => Ok(None),
            None => Err(Refused::ContentEncoding {
                got: excerpt(got).to_string(),
            }),
        }
    }

    /// The one that a client likes best; none where it names none.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let named = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        let mut best = None;
        for item in named {
            let (name, weight) = weighed(item);
            let better = best.is_none_or(|(_, most)| weight > most);
            if let Some(coding) = Self::named(name).filter(|_| weight > 0.0 && better) {
                best = Some((coding, weight));
            }
        }
        best.map(|(coding, _)| coding)
    }

    /// Undoes it, up to so many bytes. `take` is told of bytes before they are kept, and may refuse.
    ///
    /// # Errors
    ///
    /// When there are more, when they are refused, and when it is something else or not whole.
    pub(super) fn expand(
        self,
        body: &[u8],
        limit: usize,
        take: impl FnMut(usize) -> Result<(), UploadsFull>,
    ) -> Result<Vec<u8>, BodyError> {
        let broken = BodyError::Coding {
            coding: self.name(),
        };
        match self {
            Self::Gzip => {
                let mut reader = MultiGzDecoder::new(body);
                let whole = read(&mut reader, limit, take, broken)?;
                Ok(whole)
            }
            Self::Deflate => {
                let mut reader = ZlibDecoder::new(body);
                let whole = read(&mut reader, limit, take, broken)?;
                match reader.into_inner().fill_buf() {
                    Ok([]) => Ok(whole),
                    _ => Err(BodyError::Coding {
                        coding: self.name(),
                    }),
                }
            }
        }
    }

    /// Does it to a whole body.
    pub(super) fn compress(self, body: &Encoded) -> Vec<u8> {
        let level = Compression::fast();
        let into = Vec::with_capacity(body.len() / 2);
        let written = match self {
            Self::Gzip => {
                let mut writer = GzEncoder::new(into, level);
                write(&mut writer, body).and_then(|()| writer.finish())
            }
            Self::Deflate => {
                let mut writer = ZlibEncoder::new(into, level);
                write(&mut writer, body).and_then(|()| writer.finish())
            }
        };
        match written {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("a vector takes every write: {error}"),
        }
    }
}

/// An item of `accept-encoding`: a name, and a weight, which is 1 where it is not said.
fn weighed(item: &str) -> (&str, f32) {
    match item.split_once(';') {
        None => (item.trim(), 1.0),
        Some((name, weight)) => {
            let weight = weight.trim().strip_prefix("q=");
            // What is no weight asks for nothing.
            let weight = weight.and_then(|weight| weight.trim().parse().ok());
            (name.trim(), weight.unwrap_or(0.0))
        }
    }
}

fn read(
    reader: &mut impl Read,
    limit: usize,
    mut take: impl FnMut(usize) -> Result<(), UploadsFull>,
    broken: BodyError,
) -> Result<Vec<u8>, BodyError> {
    let (mut whole, mut piece) = (Vec::new(), [0; PIECE]);
    loop {
        let more = match reader.read(&mut piece) {
            Ok(0) => return Ok(whole),
            Ok(more) => more,
            Err(_) => return Err(broken),
        };
        if more > limit - whole.len() {
            return Err(BodyError::TooLarge { limit });
        }
        take(more)?;
        if whole.capacity() - whole.len() < more {
            // Never more than the limit, which doubling would pass.
            let capacity = (whole.capacity() * 2).clamp(PIECE, limit.max(PIECE));
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&piece[..more]);
    }
}

fn write(writer: &mut impl Write, body: &Encoded) -> std::io::Result<()> {
    writer.write_all(&body.head)?;
    let mut parts = body.parts.iter().flatten();
    parts.try_for_each(|part| writer.write_all(part))
}

#[cfg(test)]
mod tests;
