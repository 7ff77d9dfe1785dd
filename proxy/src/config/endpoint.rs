//! Addresses, as people write them.

use std::net::SocketAddr;

use super::place::{HostName, HostNameError, Place};

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
    #[error(
        "host names are not resolved here; expected an address such as 10.0.0.1:8000, got {0:?}"
    )]
    HostName(String),
    #[error("expected an address such as 10.0.0.1:8000 or a host name and a port, got {0:?}: {1}")]
    BadHostName(String, #[source] HostNameError),
    #[error("a server needs a port from 1 to 65535, got 0")]
    PortZero,
}

/// An address to listen on; port 0 takes a free one.
pub(super) fn listener(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| explain(text))
}

/// The address of a server that is asked.
pub(super) fn server(text: &str) -> Result<SocketAddr, AddressError> {
    match listener(text)? {
        address if address.port() == 0 => Err(AddressError::PortZero),
        address => Ok(address),
    }
}

/// An address to connect to, or a name that stands for some.
pub(super) fn endpoint(text: &str) -> Result<Place, AddressError> {
    let (place, port) = match listener(text) {
        Ok(address) => (Place::Address(address), address.port()),
        Err(AddressError::HostName(_)) => named(text)?,
        Err(other) => return Err(other),
    };
    if port == 0 {
        return Err(AddressError::PortZero);
    }
    Ok(place)
}

fn named(text: &str) -> Result<(Place, u16), AddressError> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = port
        .parse()
        .map_err(|_| AddressError::Port(port.to_owned()))?;
    let host =
        HostName::new(host).map_err(|error| AddressError::BadHostName(text.to_owned(), error))?;
    Ok((Place::Named { host, port }, port))
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
    use super::{AddressError, HostNameError, endpoint, listener};

    #[test]
    fn both_families_and_names_are_taken() {
        for text in ["10.0.0.1:80", "[fd00::1]:80", "pods.models.svc:80"] {
            assert_eq!(endpoint(text).unwrap().to_string(), text);
        }
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
            ("10.0.0.1:0", AddressError::PortZero),
            ("backend:0", AddressError::PortZero),
            (
                "10.0.0.256:80",
                AddressError::BadHostName(s("10.0.0.256:80"), HostNameError::Number),
            ),
            (
                "no such:80",
                AddressError::BadHostName(s("no such:80"), HostNameError::Character),
            ),
        ] {
            assert_eq!(endpoint(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_listener_has_no_name() {
        let error = AddressError::HostName("backend:8000".to_owned());
        assert_eq!(listener("backend:8000"), Err(error));
    }
}
