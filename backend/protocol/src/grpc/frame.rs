//! Messages on the wire: each has a prefix that says whether it is compressed and
//! how long it is. Here messages get another version without being decoded.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{BoundsError, Target};

/// The length of a message's prefix.
pub const PREFIX: usize = 5;

/// A message's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The message is compressed.
    pub compressed: bool,
    /// The length of the message, without its prefix.
    pub length: usize,
}

/// Bytes that are no messages. The client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A prefix begins with a flag that gRPC does not know.
    #[error("a message begins with {got}, where 0 or 1 says whether it is compressed")]
    Flag {
        /// The byte.
        got: u8,
    },
    /// A message would be too long once it names its version.
    #[error("a message is too long for its version to be set")]
    TooLong,
}

/// A call whose body is not one message of its kind. The client's fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// It is not framed as messages are.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It is not one whole message.
    #[error("expected one message, got {got} bytes, which are none or more than that")]
    Count {
        /// The length of the body.
        got: usize,
    },
    /// It is compressed.
    #[error("the message is compressed, and so short that it need not be")]
    Compressed,
    /// It is another message.
    #[error("the message cannot be read: {0}")]
    Message(#[from] prost::DecodeError),
    /// It would become too much.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
}

/// Sets the version of every message of a stream, as its bytes pass.
#[derive(Debug)]
pub struct Versioner {
    /// The field that ends each message.
    tail: Bytes,
    /// A prefix of which only a part has come in.
    prefix: BytesMut,
    /// What is still to come of the message that is passing; none between two.
    passing: Option<Head>,
}

// === impl Head ===

impl Head {
    /// Reads the prefix at the start of `bytes`; none while part of it is missing.
    ///
    /// # Errors
    /// When it is no prefix.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((&[flag, length @ ..], _)) = bytes.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if flag > 1 {
            return Err(FrameError::Flag { got: flag });
        }
        Ok(Some(Self {
            compressed: flag == 1,
            length: u32::from_be_bytes(length) as usize,
        }))
    }

    /// The prefix of this message when it is `more` bytes longer.
    fn prefix(self, more: usize) -> Result<[u8; PREFIX], FrameError> {
        let length = u32::try_from(self.length + more).map_err(|_| FrameError::TooLong)?;
        let [a, b, c, d] = length.to_be_bytes();
        Ok([u8::from(self.compressed), a, b, c, d])
    }
}

/// A message with its prefix.
#[must_use]
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    // Only what is sent is framed here, and that is far from 4 GiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // There is room.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// Reads the one message of a call that is answered on the spot.
///
/// # Errors
/// When it is not one, or another.
pub fn read_call<M: Message + Default>(body: &[u8]) -> Result<M, CallError> {
    let count = CallError::Count { got: body.len() };
    match Head::read(body)? {
        Some(head) if head.length != body.len() - PREFIX => Err(count),
        Some(head) if head.compressed => Err(CallError::Compressed),
        Some(_) => Ok(M::decode(&body[PREFIX..])?),
        None => Err(count),
    }
}

/// The message of a call that has come in whole: its bytes, which are not copied.
///
/// # Errors
/// When it is not one.
pub fn message_of(body: &Bytes) -> Result<(bool, Bytes), CallError> {
    let count = CallError::Count { got: body.len() };
    match Head::read(body)? {
        Some(head) if head.length == body.len() - PREFIX => {
            Ok((head.compressed, body.slice(PREFIX..)))
        }
        _ => Err(count),
    }
}

/// Sets the version of one message, with its prefix, that was `original` bytes
/// long when it came in. It may have been set before.
///
/// # Errors
/// When there is no whole prefix, or the message would become too long.
pub fn retarget(bytes: &mut BytesMut, original: usize, version: &str) -> Result<(), FrameError> {
    bytes.truncate(original);
    let head = Head::read(bytes)?.ok_or(FrameError::TooLong)?;
    let head = Head {
        length: original - PREFIX,
        ..head
    };
    let tail = version_field(version);
    bytes[..PREFIX].copy_from_slice(&head.prefix(tail.len())?);
    bytes.extend_from_slice(&tail);
    Ok(())
}

/// The version as a field of its own.
fn version_field(version: &str) -> Bytes {
    let target = Target {
        model: String::new(),
        version: version.to_owned(),
    };
    target.encode_to_vec().into()
}

// === impl Versioner ===

impl Versioner {
    /// Sets this version.
    #[must_use]
    pub fn new(version: &str) -> Self {
        Self {
            tail: version_field(version),
            prefix: BytesMut::with_capacity(PREFIX),
            passing: None,
        }
    }

    /// Passes bytes on. Those inside of a message are not copied; compressed
    /// messages are left as they are.
    ///
    /// # Errors
    /// When the bytes are no messages.
    pub fn pass(&mut self, mut bytes: Bytes) -> Result<Bytes, FrameError> {
        if let Some(head) = &mut self.passing
            && head.length > bytes.len()
        {
            head.length -= bytes.len();
            return Ok(bytes);
        }
        let mut passed = BytesMut::with_capacity(bytes.len() + PREFIX + self.tail.len());
        while !bytes.is_empty() || self.passing.is_some() {
            let Some(head) = &mut self.passing else {
                self.begin(&mut bytes, &mut passed)?;
                if self.passing.is_none() {
                    break;
                }
                continue;
            };
            let part = bytes.split_to(head.length.min(bytes.len()));
            head.length -= part.len();
            passed.extend_from_slice(&part);
            if head.length > 0 {
                break;
            }
            if !head.compressed {
                passed.extend_from_slice(&self.tail);
            }
            self.passing = None;
        }
        Ok(passed.freeze())
    }

    /// Begins a message, once its prefix is there.
    fn begin(&mut self, bytes: &mut Bytes, passed: &mut BytesMut) -> Result<(), FrameError> {
        let missing = PREFIX - self.prefix.len();
        self.prefix
            .extend_from_slice(&bytes.split_to(missing.min(bytes.len())));
        let Some(head) = Head::read(&self.prefix)? else {
            return Ok(());
        };
        self.prefix.clear();
        let more = if head.compressed { 0 } else { self.tail.len() };
        passed.extend_from_slice(&head.prefix(more)?);
        self.passing = Some(head);
        Ok(())
    }
}

impl Target {
    /// Reads where a whole message goes.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn of(message: &[u8]) -> Result<Self, CallError> {
        Ok(Self::decode(message)?)
    }

    /// Reads where a message goes that is still coming in: what is said so far.
    #[must_use]
    pub fn so_far(mut message: &[u8]) -> Self {
        let mut target = Self::default();
        // It ends in the middle of something, which is an error like any other.
        let _ = target.merge(&mut message);
        target
    }
}

#[cfg(test)]
mod tests;
