//! The header `Forwarded`: `for=192.0.2.60;proto=http, for="[2001:db8::1]:4711"`.
//!
//! Only `for` is read. Values may be quoted, and a quoted one may hold what
//! otherwise separates.

use std::net::IpAddr;

/// The hops of a header, the oldest first.
pub(super) fn hops(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(header, b',')
}

/// The value of `for` in a hop.
pub(super) fn for_of(hop: &[u8]) -> Option<&[u8]> {
    split(hop, b';').find_map(|pair| {
        let (name, value) = pair.split_at_checked(4)?;
        if !name.eq_ignore_ascii_case(b"for=") {
            return None;
        }
        let inner = value
            .strip_prefix(b"\"")
            .and_then(|v| v.strip_suffix(b"\""));
        Some(inner.unwrap_or(value))
    })
}

/// A hop of our own.
pub(super) fn hop(peer: IpAddr) -> String {
    match peer {
        IpAddr::V4(peer) => format!("for={peer}"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\""),
    }
}

/// Splits at a separator that stands outside quotes, and trims the parts.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |byte| {
        let is_escaped = std::mem::take(&mut escaped);
        match byte {
            b'\\' if quoted => escaped = !is_escaped,
            b'"' if !is_escaped => quoted = !quoted,
            _ => {}
        }
        !quoted && *byte == separator
    })
    .map(<[u8]>::trim_ascii)
}
