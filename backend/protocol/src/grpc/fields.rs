//! The fields of a message, one after the other, none of which is decoded.
//!
//! What is not looked at is skipped by its length: tensors stay where they are. A field that reaches past
//! the end of its message is refused here, where a decoder finds it only when it has read that far.

use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

/// What is left of a message.
pub(super) struct Fields<'a>(&'a [u8]);

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its number.
    pub(super) tag: u32,
    /// What it holds, where that has a length of its own: a text, bytes, a message or a packed list.
    pub(super) bytes: Option<&'a [u8]>,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub(super) const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<Field<'a>, DecodeError> {
        let (tag, wire) = decode_key(&mut self.0)?;
        let mut value = self.0;
        skip_field(wire, tag, &mut self.0, DecodeContext::default())?;
        let bytes = if wire == WireType::LengthDelimited {
            decode_varint(&mut value)?;
            value.get(..value.len() - self.0.len())
        } else {
            None
        };
        Ok(Field { tag, bytes })
    }
}

impl<'a> Iterator for Fields<'a> {
    /// After an error there are no more: nothing behind it can be told apart.
    type Item = Result<Field<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_is_passed_by_its_length() {
        // 1: varint 300; 2: 8 bytes; 3: "ab"; 4: a group with a varint in it; 5: 4 bytes; 6: nothing.
        let message =
            b"\x08\xac\x02\x11\0\0\0\0\0\0\0\0\x1a\x02ab\x23\x08\x01\x24\x2d\0\0\0\0\x32\0";
        let read: Result<Vec<_>, _> = Fields::of(message).collect();
        let field = |(tag, bytes)| Field { tag, bytes };
        let expected = [
            (1, None),
            (2, None),
            (3, Some(&b"ab"[..])),
            (4, None),
            (5, None),
            (6, Some(&[][..])),
        ];
        assert_eq!(read.unwrap(), expected.map(field));
    }

    #[test]
    fn what_reaches_past_the_end_or_is_no_key_ends_it() {
        for message in [
            &b"\x1a\x03ab"[..],
            b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x08",
            b"\x2d\0\0\0",
            b"\x23\x08\x01",
            b"\x07\0",
            b"\0\0",
        ] {
            let mut fields = Fields::of(message);
            assert!(
                fields.next().is_some_and(|read| read.is_err()),
                "{message:?}"
            );
            assert!(fields.next().is_none(), "{message:?}");
        }
    }
}
