//! What has come in of a call with many messages and was not taken yet.
//!
//! A message that is taken leaves nothing behind in memory but itself: a piece of a block keeps the block,
//! and one that had held a large message would be kept by every small one after it, whatever a queue
//! counts. So the block goes with the message that fills it, and a message that does not is copied out of it.

use aegis_protocol::grpc::{CallError, Head, PREFIX};
use bytes::{Buf, Bytes, BytesMut};

use super::super::Refused;
use super::super::body::{BodyError, Upload};
use super::super::uploads::Reserved;

/// Bytes in their order, and their part of the budget for bodies.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: BytesMut,
    reserved: Reserved,
}

// === impl Unread ===

impl Unread {
    pub(super) fn new(reserved: Reserved) -> Self {
        Self {
            bytes: BytesMut::new(),
            reserved,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes in what has come.
    ///
    /// # Errors
    ///
    /// When the budget has no room for it.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), BodyError> {
        self.reserved.take(data.len())?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// The first message, and whether it is compressed; none while part of it is missing.
    ///
    /// # Errors
    ///
    /// When it is none, or over the limit.
    pub(super) fn take(&mut self, limit: usize) -> Result<Option<(bool, Upload)>, Refused> {
        let Some(head) = Head::read(&self.bytes).map_err(CallError::from)? else {
            return Ok(None);
        };
        if head.length > limit {
            return Err(BodyError::TooLarge { limit }.into());
        }
        if self.bytes.len() < PREFIX + head.length {
            return Ok(None);
        }
        self.bytes.advance(PREFIX);
        drop(self.reserved.split(PREFIX));
        let message = cut(&mut self.bytes, head.length);
        let message = Upload::new(message, self.reserved.split(head.length));
        Ok(Some((head.compressed, message)))
    }
}

/// So many of the first bytes, in a block of which they are half at least. Whichever part is the smaller is
/// copied, so that all of it takes time in proportion to what comes in.
fn cut(bytes: &mut BytesMut, length: usize) -> Bytes {
    if length < bytes.len() - length {
        let message = Bytes::copy_from_slice(&bytes[..length]);
        bytes.advance(length);
        message
    } else {
        let rest = BytesMut::from(&bytes[length..]);
        let mut message = std::mem::replace(bytes, rest);
        message.truncate(length);
        message.freeze()
    }
}

#[cfg(test)]
mod tests {
    use aegis_protocol::grpc::{Target, frame};

    use super::super::super::uploads::Uploads;
    use super::*;

    fn messages(sizes: &[usize]) -> Vec<Bytes> {
        let message = |&size| {
            let model = "m".repeat(size);
            let version = String::new();
            frame(&Target { model, version })
        };
        sizes.iter().map(message).collect()
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_were_cut() {
        let sizes = [0, 3, 70_000, 1, 1, 9_000, 0, 12];
        let sent = messages(&sizes);
        for piece in [1, 7, 16_384, usize::MAX] {
            let uploads = Uploads::new(usize::MAX);
            let mut unread = Unread::new(Reserved::none(&uploads));
            let mut got = Vec::new();
            for data in sent.concat().chunks(piece) {
                unread.push(data).unwrap();
                while let Some((is_compressed, message)) = unread.take(1 << 20).unwrap() {
                    assert!(!is_compressed);
                    got.push(message.bytes.clone());
                }
            }
            let expected: Vec<_> = sent.iter().map(|message| message.slice(PREFIX..)).collect();
            assert!(got == expected, "in pieces of {piece}");
            assert!(unread.is_empty());
            assert_eq!(uploads.used(), 0);
        }
    }

    #[test]
    fn a_small_message_does_not_keep_the_block_of_a_large_one_and_a_large_one_is_not_copied() {
        let uploads = Uploads::new(usize::MAX);
        let mut unread = Unread::new(Reserved::none(&uploads));
        for message in messages(&[10, 100_000, 10]) {
            unread.push(&message).unwrap();
        }
        let block = unread.bytes.as_ptr_range();
        let mut next = || unread.take(1 << 20).unwrap().expect("a message").1.bytes;
        let (first, large, last) = (next(), next(), next());
        assert!(!block.contains(&first.as_ptr()), "it keeps what follows");
        assert!(block.contains(&large.as_ptr()), "it was copied");
        assert!(!block.contains(&last.as_ptr()), "it keeps the large one");
        assert!(!block.contains(&unread.bytes.as_ptr()), "so does the next");
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix_alone() {
        let mut unread = Unread::new(Reserved::none(&Uploads::new(100)));
        unread.push(&[0, 0, 0, 1]).unwrap();
        assert!(unread.take(255).unwrap().is_none());
        unread.push(&[0]).unwrap();
        assert!(unread.take(256).unwrap().is_none());
        assert!(matches!(
            unread.take(255),
            Err(Refused::Body(BodyError::TooLarge { limit: 255 }))
        ));
    }
}
