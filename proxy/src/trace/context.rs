//! The header `traceparent`: which trace, which span of it, and whether it is recorded.
//!
//! Versions that are not known yet are read as far as the first one goes, as the
//! specification asks; whatever breaks its rules counts as not there.
//!
//! Source: W3C Trace Context, 3.2; of its second level, that the flag which says how
//! random a trace's id is goes on with that id.

use aegis_protocol::headers;
use http::{HeaderMap, HeaderValue};
use rand::{Rng, RngExt};

use super::nonzero;
use crate::request_id::hex;

/// A version, a trace, a parent and flags, with dashes between.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 0b01;
/// The flag of a trace whose id is random.
const RANDOM: u8 = 0b10;

/// A span, by which others are found to be below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace; not 0.
    pub trace: u128,
    /// The span; not 0.
    pub span: u64,
    /// [`SAMPLED`] and [`RANDOM`], and no other.
    flags: u8,
}

/// The parts of a value that keeps the rules.
struct Fields<'a> {
    trace: &'a [u8],
    span: &'a [u8],
    flags: &'a [u8],
}

/// The trace's id in the value of a `traceparent`: 32 hexadecimal digits. None where
/// the value breaks the rules, since nobody else will take it for that trace then.
#[must_use]
pub fn trace_id(value: &[u8]) -> Option<&[u8]> {
    Fields::of(value).map(|fields| fields.trace)
}

// === impl Fields ===

impl<'a> Fields<'a> {
    fn of(value: &'a [u8]) -> Option<Self> {
        let (known, further) = value.split_at_checked(LENGTH)?;
        let version = &known[..2];
        // A later version may say more, behind a dash; the first says no more.
        let ends = match further {
            [] => true,
            [b'-', ..] => version != b"00",
            _ => false,
        };
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let (trace, span, flags) = (&known[3..35], &known[36..52], &known[53..]);
        let hex = [version, trace, span, flags].into_iter().all(is_hex);
        let some = [trace, span]
            .iter()
            .all(|id| id.iter().any(|&digit| digit != b'0'));
        let valid = ends && dashes && hex && some && version != b"ff";
        valid.then_some(Self { trace, span, flags })
    }
}

fn is_hex(digits: &[u8]) -> bool {
    digits
        .iter()
        .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// The number that hexadecimal digits are.
fn number(digits: &[u8]) -> Option<u128> {
    u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

// === impl Parent ===

impl Parent {
    /// Reads a request's headers; none where they say nothing that is valid, or
    /// say it twice.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(headers::TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.as_bytes()),
            _ => None,
        }
    }

    /// Reads the value of one header.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let fields = Fields::of(value)?;
        let flags = u8::try_from(number(fields.flags)?).ok()?;
        Some(Self {
            trace: number(fields.trace)?,
            span: number(fields.span)?.try_into().ok()?,
            flags: flags & (SAMPLED | RANDOM),
        })
    }

    /// A new trace, of which `share` are recorded.
    pub fn new(rng: &mut impl Rng, share: f64) -> Self {
        let sampled = rng.random::<f64>() < share;
        Self {
            trace: nonzero(|| rng.random()),
            span: nonzero(|| rng.random()),
            flags: if sampled { SAMPLED } else { 0 },
        }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(self, span: u64) -> Self {
        Self { span, ..self }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The header's value.
    #[must_use]
    pub fn value(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&hex(self.trace));
        text[36..52].copy_from_slice(&hex(self.span.into())[16..]);
        text[54] = b'0' + self.flags;
        // Digits, letters and dashes make a header's value.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("00"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_span_is_read_from_what_keeps_the_rules() {
        for (value, flags) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), SAMPLED),
            (format!("01-{TRACE}-00f067aa0ba902b7-00"), 0),
            (format!("00-{TRACE}-00f067aa0ba902b7-03"), SAMPLED | RANDOM),
            (format!("00-{TRACE}-00f067aa0ba902b7-fc"), 0),
            (
                format!("cc-{TRACE}-00f067aa0ba902b7-01-what.comes.later"),
                SAMPLED,
            ),
        ] {
            let parent = Parent::parse(value.as_bytes()).expect(&value);
            assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
            assert_eq!((parent.span, parent.flags), (0x00f0_67aa_0ba9_02b7, flags));
            let id = trace_id(value.as_bytes());
            assert_eq!(id, Some(TRACE.as_bytes()), "{value}");
        }
    }

    #[test]
    fn what_breaks_them_names_no_trace() {
        let zeros = "0".repeat(32);
        let upper = TRACE.to_uppercase();
        for value in [
            String::new(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}-00f067aa0ba902b7-01more"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01.more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{upper}-00f067aa0ba902b7-01"),
            format!("00_{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902bg-01"),
            format!("00-+{}-00f067aa0ba902b7-01", &TRACE[1..]),
            format!("00-{TRACE}-00f067aa0ba902b7-0x"),
            "ü".repeat(40),
        ] {
            assert_eq!(Parent::parse(value.as_bytes()), None, "{value}");
            assert_eq!(trace_id(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn two_headers_are_none() {
        let value = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let mut headers = HeaderMap::new();
        headers.append(headers::TRACEPARENT, value.parse().unwrap());
        assert_eq!(Parent::of(&headers), Parent::parse(value.as_bytes()));
        headers.append(headers::TRACEPARENT, value.parse().unwrap());
        assert_eq!(Parent::of(&headers), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(trace in 1_u128.., span in 1_u64.., flags in 0_u8..4) {
            let parent = Parent { trace, span, flags };
            prop_assert_eq!(Parent::parse(parent.value().as_bytes()), Some(parent));
        }
    }
}
