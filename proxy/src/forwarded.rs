//! Who asked, when another proxy stands in between, and what servers are told of it.
//!
//! Anybody can write `X-Forwarded-For: 10.0.0.1` into a request. It is believed
//! only from a peer that the configuration trusts, and then from the right:
//! each trusted proxy has added the address that it saw, so the right-most one
//! that is not trusted is the client, and what stands left of it is hearsay. From
//! everybody else, all such headers are replaced by what we see ourselves.
//!
//! `X-Forwarded-For` and `-Proto` are what servers read, so they are always sent.
//! `-Host` is not: `Host` itself goes through as it came. `Forwarded` (RFC 7239) is
//! read where a trusted proxy sends only that, and continued where it is there.

mod rfc7239;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

use crate::text::AddressText;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Whether a header is what anybody might say of the way here.
#[must_use]
pub fn is_hearsay(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip") || name.starts_with("x-forwarded-")
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The other end of the connection; none where the system does not know.
    peer: Option<IpAddr>,
    /// What it says of others is believed.
    trusted: bool,
    /// Who asked.
    client: Option<IpAddr>,
    /// The connection is encrypted.
    tls: bool,
}

// === impl Origin ===

impl Origin {
    /// Reads a request's headers, as far as its peer is believed.
    #[must_use]
    pub fn of(peer: Option<IpAddr>, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.map(|peer| peer.to_canonical());
        let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
        let believed = peer.is_some_and(is_trusted);
        let client = if believed {
            reported(headers, is_trusted).or(peer)
        } else {
            peer
        };
        Self {
            peer,
            trusted: believed,
            client,
            tls,
        }
    }

    /// Who asked.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Tells the server behind. `any` says that some such header is there already.
    pub fn write(&self, headers: &mut HeaderMap, any: bool) {
        if any && self.trusted {
            self.go_on(headers);
            if headers.contains_key(PROTO) {
                return;
            }
        } else {
            if any {
                let names = headers.keys().filter(|name| is_hearsay(name.as_str()));
                for name in names.cloned().collect::<Vec<_>>() {
                    headers.remove(name);
                }
            }
            if let Some(peer) = self.peer {
                headers.insert(FOR, value(peer));
            }
        }
        let proto = if self.tls { "https" } else { "http" };
        headers.insert(PROTO, HeaderValue::from_static(proto));
    }

    /// Adds what we see to what a trusted proxy said.
    fn go_on(&self, headers: &mut HeaderMap) {
        let Some(peer) = self.peer else {
            return;
        };
        let mut chain = joined(headers, &FOR);
        if let (true, Some(client)) = (chain.is_empty(), self.client.filter(|c| *c != peer)) {
            // It came in `Forwarded` alone, which few servers read.
            chain = client.to_string().into_bytes();
        }
        add(&mut chain, peer.to_string().as_bytes());
        let chain = HeaderValue::from_bytes(&chain);
        headers.insert(FOR, chain.unwrap_or_else(|_| value(peer)));
        if headers.contains_key(header::FORWARDED) {
            let mut hops = joined(headers, &header::FORWARDED);
            add(&mut hops, rfc7239::hop(peer).as_bytes());
            if let Ok(hops) = HeaderValue::from_bytes(&hops) {
                headers.insert(header::FORWARDED, hops);
            }
        }
    }
}

/// The right-most address that is not trusted, or else the left-most. What cannot
/// be read ends the search: who wrote it is the last that is known.
fn reported(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let chain = joined(headers, &FOR);
    let hops: Vec<Option<IpAddr>> = if !chain.is_empty() {
        chain.rsplit(|byte| *byte == b',').map(address).collect()
    } else {
        let hops = joined(headers, &header::FORWARDED);
        let mut hops: Vec<_> = rfc7239::hops(&hops)
            .map(|hop| rfc7239::for_of(hop).and_then(address))
            .collect();
        hops.reverse();
        hops
    };
    let mut last = None;
    for hop in hops {
        let Some(address) = hop else {
            break;
        };
        last = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    last
}

/// An address, perhaps with a port behind it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = || {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        inner.unwrap_or(text).parse::<IpAddr>().ok()
    };
    let address = bare().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

/// All values of a list, in one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        add(&mut all, value.as_bytes());
    }
    all
}

/// Adds to a list.
fn add(list: &mut Vec<u8>, value: &[u8]) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(value);
}

/// An address as a header's value, which it always makes.
fn value(address: IpAddr) -> HeaderValue {
    let text = HeaderValue::from_bytes(AddressText::of(address).as_bytes());
    text.unwrap_or(HeaderValue::from_static("unknown"))
}
