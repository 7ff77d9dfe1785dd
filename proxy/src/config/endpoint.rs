//! Addresses, as people write them.

use std::net::SocketAddr;

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("expected an address and a port such as 10.0.0.1:8000, got an empty string")]
    Empty,
    #[error("expected a port after the address, as in {0}:8000")]
    NoPort(String),
    #[error("an IPv6 address with a port needs brackets, as in [fd00::1]:8000, got {0:?}")]
    Brackets(String),
    #[error("expected a port from 0 to 65535, got {0:?}")]
    Port(String),
    #[error("host names are not resolved; expected an address such as 10.0.0.1:8000, got {0:?}")]
    HostName(String),
    #[error("an endpoint needs a port from 1 to 65535, got 0")]
    PortZero,
}

/// An address to listen on; port 0 takes a free one.
pub(super) fn listener(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| explain(text))
}

/// An address to connect to.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, AddressError> {
    let address = listener(text)?;
    if address.port() == 0 {
        return Err(AddressError::PortZero);
    }
    Ok(address)
}

/// Says what is wrong with a text that does not parse.
fn explain(text: &str) -> AddressError {
    let Some((host, port)) = text.rsplit_once(':') else {
        return if text.is_empty() {
            AddressError::Empty
        } else {
            AddressError::NoPort(text.to_owned())
        };
    };
    if host.contains(':') && !host.starts_with('[') {
        AddressError::Brackets(text.to_owned())
    } else if text.ends_with(']') {
        AddressError::NoPort(text.to_owned())
    } else if port.parse::<u16>().is_err() {
        AddressError::Port(port.to_owned())
    } else {
        AddressError::HostName(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressError, endpoint, listener};

    #[test]
    fn both_families_are_taken() {
        assert_eq!(endpoint("10.0.0.1:80").unwrap().port(), 80);
        assert!(endpoint("[fd00::1]:80").unwrap().is_ipv6());
        assert_eq!(listener("0.0.0.0:0").unwrap().port(), 0);
    }

    #[test]
    fn a_text_that_is_not_an_address_is_told_what_it_lacks() {
        let s = str::to_owned;
        for (text, expected) in [
            ("", AddressError::Empty),
            ("10.0.0.1", AddressError::NoPort(s("10.0.0.1"))),
            ("[::1]", AddressError::NoPort(s("[::1]"))),
            ("::1:80", AddressError::Brackets(s("::1:80"))),
            ("10.0.0.1:x", AddressError::Port(s("x"))),
            ("10.0.0.1:70000", AddressError::Port(s("70000"))),
            ("backend:8000", AddressError::HostName(s("backend:8000"))),
            ("10.0.0.1:0", AddressError::PortZero),
        ] {
            assert_eq!(endpoint(text), Err(expected), "{text}");
        }
    }
}
