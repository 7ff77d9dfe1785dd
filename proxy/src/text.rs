//! Numbers and addresses as text, without the machinery of formatting.
//!
//! A request writes an address or two into its headers and a dozen numbers into its
//! line of the log: `fmt` would be one of the larger items on its bill.

use std::{
    fmt,
    io::Write,
    net::{IpAddr, SocketAddr},
};

use bytes::BufMut;

/// The longest address: of IPv6, with a zone and a port.
const LONGEST: usize = 64;

/// An address as text, on the stack.
#[derive(Clone, Copy)]
pub struct AddressText {
    bytes: [u8; LONGEST],
    length: usize,
}

// === impl AddressText ===

impl AddressText {
    /// The text of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let mut bytes = [0; LONGEST];
        let mut rest = &mut bytes[..];
        put_address(&mut rest, address);
        let length = LONGEST - rest.len();
        Self { bytes, length }
    }

    /// Its bytes, which are ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Debug for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// Writes a whole number.
pub fn put_number(out: &mut impl BufMut, number: impl itoa::Integer) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes an address.
pub fn put_address(out: &mut impl BufMut, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.put_u8(b'.');
                }
                put_number(out, octet);
            }
        }
        // Memory does not fail.
        IpAddr::V6(address) => drop(write!(out.writer(), "{address}")),
    }
}

/// Writes an address and its port.
pub fn put_socket(out: &mut impl BufMut, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            put_address(out, IpAddr::V4(*v4.ip()));
            out.put_u8(b':');
            put_number(out, v4.port());
        }
        SocketAddr::V6(address) => drop(write!(out.writer(), "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_the_standard_library_writes_them() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "10.20.3.100",
            "::",
            "2001:db8::1",
            "::ffff:192.0.2.128",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(AddressText::of(address).as_bytes(), text.as_bytes());
            let socket = SocketAddr::new(address, 65_535);
            let mut out = Vec::new();
            put_socket(&mut out, socket);
            assert_eq!(out, socket.to_string().as_bytes());
        }
    }
}
