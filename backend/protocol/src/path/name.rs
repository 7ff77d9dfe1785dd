//! Names of models and versions as path segments (RFC 3986, section 2.1).

use std::borrow::Cow;
use std::fmt::Write;

/// The longest name, in bytes: it ends up in labels, logs and paths.
const MAX_NAME: usize = 256;

/// Decodes one segment; none where it is no usable name.
pub(super) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    let name = if segment.contains('%') {
        Cow::Owned(unescape(segment)?)
    } else {
        Cow::Borrowed(segment)
    };
    is_name(&name).then_some(name)
}

/// Appends a name, escaping all but RFC 3986's unreserved characters.
pub(super) fn encode(path: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= MAX_NAME
        && !name.chars().any(char::is_control)
}

fn unescape(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let (digits, tail) = tail.split_first_chunk::<2>()?;
            bytes.push(hex(digits[0])? << 4 | hex(digits[1])?);
            rest = tail;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
