//! Who is believed, and what a server is told.

use pretty::*;

use super::*;
use crate::request::Seen;

/// Small words for long tests.
mod pretty {
    use super::*;

    pub(super) fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    pub(super) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(super) fn request(headers: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        let mut request = HeaderMap::new();
        for (name, value) in pairs {
            request.append(name, value);
        }
        request
    }

    pub(super) fn all(request: &HeaderMap, name: &str) -> Vec<String> {
        let values = request.get_all(name).iter();
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    }
}

/// Who asked, and what the server is told.
fn seen(peer: &str, headers: &[(&'static str, &str)]) -> (IpAddr, HeaderMap) {
    let trusted = [net("10.0.0.0/8"), net("fd00::/8")];
    let mut request = request(headers);
    let origin = Origin::of(Some(ip(peer)), false, &request, &trusted);
    let any = Seen::of(&request).forwarded;
    origin.write(&mut request, any);
    (origin.client().unwrap(), request)
}

#[test]
fn a_stranger_is_not_believed() {
    let (client, told) = seen(
        "192.0.2.9",
        &[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-prefix", "/evil"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("host", "models.example"),
        ],
    );
    assert_eq!(client, ip("192.0.2.9"));
    assert_eq!(all(&told, "x-forwarded-for"), ["192.0.2.9"]);
    assert_eq!(all(&told, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&told, "host"), ["models.example"]);
    for name in [
        "x-forwarded-host",
        "x-forwarded-prefix",
        "x-forwarded-port",
        "x-real-ip",
        "forwarded",
    ] {
        assert!(all(&told, name).is_empty(), "{name}");
    }
}

#[test]
fn a_trusted_proxy_is_believed_and_what_it_says_is_gone_on_with() {
    let (client, told) = seen(
        "10.0.0.7",
        &[
            ("x-forwarded-for", "1.1.1.1, 198.51.100.3"),
            ("x-forwarded-for", "10.9.9.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "models.example"),
            ("host", "inner"),
        ],
    );
    assert_eq!(client, ip("198.51.100.3"), "1.1.1.1 is hearsay");
    assert_eq!(
        all(&told, "x-forwarded-for"),
        ["1.1.1.1, 198.51.100.3, 10.9.9.9, 10.0.0.7"]
    );
    assert_eq!(all(&told, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&told, "x-forwarded-host"), ["models.example"]);
    assert!(all(&told, "forwarded").is_empty());
}

#[test]
fn what_cannot_be_read_ends_the_search_at_who_wrote_it() {
    for (chain, expected) in [
        ("198.51.100.3, unknown", "10.0.0.7"),
        ("198.51.100.3, unknown, 10.1.1.1", "10.1.1.1"),
        ("", "10.0.0.7"),
        (",", "10.0.0.7"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("198.51.100.3:4711", "198.51.100.3"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:198.51.100.3", "198.51.100.3"),
    ] {
        let (client, _) = seen("10.0.0.7", &[("x-forwarded-for", chain)]);
        assert_eq!(client, ip(expected), "{chain:?}");
    }
}

#[test]
fn forwarded_is_read_where_it_stands_alone_and_gone_on_with() {
    let header = "for=\"[2001:db8::1]:4711\";proto=https;by=\"a,b;for=9.9.9.9\", For=10.3.3.3";
    let (client, told) = seen("fd00::7", &[("forwarded", header)]);
    assert_eq!(client, ip("2001:db8::1"));
    assert_eq!(
        all(&told, "forwarded"),
        [format!("{header}, for=\"[fd00::7]\"")]
    );
    assert_eq!(all(&told, "x-forwarded-for"), ["2001:db8::1, fd00::7"]);
    for (header, expected) in [
        ("for=unknown", "10.0.0.7"),
        ("for=_hidden, for=10.3.3.3", "10.3.3.3"),
        ("proto=http", "10.0.0.7"),
        ("for=\"\\\"", "10.0.0.7"),
    ] {
        let (client, _) = seen("10.0.0.7", &[("forwarded", header)]);
        assert_eq!(client, ip(expected), "{header:?}");
    }
}

#[test]
fn a_peer_of_either_spelling_is_trusted_and_one_without_an_address_is_not() {
    let (client, _) = seen("::ffff:10.0.0.7", &[("x-forwarded-for", "1.1.1.1")]);
    assert_eq!(client, ip("1.1.1.1"));
    let mut request = request(&[("x-forwarded-for", "1.1.1.1")]);
    let origin = Origin::of(None, true, &request, &[net("0.0.0.0/0")]);
    origin.write(&mut request, true);
    assert_eq!(origin.client(), None);
    assert!(all(&request, "x-forwarded-for").is_empty());
    assert_eq!(all(&request, "x-forwarded-proto"), ["https"]);
}
