//! The trace that a request belongs to, by its `traceparent`.
//!
//! The header passes through as it came: the proxy takes no part in a trace, but its
//! log names it, so that a line and a trace find each other.
//!
//! Source: W3C Trace Context, 3.2.2.

/// A version, a trace, a parent and flags, with dashes between.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

/// The trace's id in the value of a `traceparent`: 32 hexadecimal digits. None where
/// the value breaks the rules, since nobody else will take it for that trace then.
#[must_use]
pub fn trace_id(value: &[u8]) -> Option<&[u8]> {
    let (known, further) = value.split_at_checked(LENGTH)?;
    let version = &known[..2];
    // A later version may say more, behind a dash; the first says no more.
    let ends = match further {
        [] => true,
        [b'-', ..] => version != b"00",
        _ => false,
    };
    let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
    let (trace, parent, flags) = (&known[3..35], &known[36..52], &known[53..]);
    let hex = [version, trace, parent, flags].into_iter().all(is_hex);
    let some = [trace, parent]
        .iter()
        .all(|id| id.iter().any(|&digit| digit != b'0'));
    (ends && dashes && hex && some && version != b"ff").then_some(trace)
}

fn is_hex(digits: &[u8]) -> bool {
    digits
        .iter()
        .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::trace_id;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn the_trace_is_read_from_what_keeps_the_rules() {
        for value in [
            format!("00-{TRACE}-00f067aa0ba902b7-01"),
            format!("01-{TRACE}-00f067aa0ba902b7-00"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01-what.comes.later"),
        ] {
            assert_eq!(
                trace_id(value.as_bytes()),
                Some(TRACE.as_bytes()),
                "{value}"
            );
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
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{upper}-00f067aa0ba902b7-01"),
            format!("00_{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902bg-01"),
            "ü".repeat(40),
        ] {
            assert_eq!(trace_id(value.as_bytes()), None, "{value}");
        }
    }
}
