//! What a server says of its own load beside an answer, so that whoever chooses
//! among servers need not guess.
//!
//! The Open Request Cost Aggregation standard (ORCA): a client asks with
//! `endpoint-load-metrics-format: text` or `json`, and the answer carries
//! `endpoint-load-metrics: TEXT key=value, …` or `JSON {…}`. The text form is the
//! one that is read here. Source:
//! <https://github.com/envoyproxy/envoy/issues/6614>.
//!
//! A report is advice: what cannot be read in it is left out, and the rest is
//! taken.

use std::{fmt, time::Duration};

/// Longer reports are not read.
const MAX_BYTES: usize = 4_096;

/// A server's load at the moment of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Requests that are accepted and not yet running.
    pub queue_depth: Option<f64>,
    /// Requests that are accepted and not yet answered.
    pub in_flight: Option<f64>,
    /// How long a new request would wait before it runs.
    pub expected_wait: Option<Duration>,
    /// Busy share, 1 being all there is; more where it is overloaded.
    pub utilization: Option<f64>,
}

// === impl LoadReport ===

impl LoadReport {
    /// Reads a header's value. None when there is nothing in it that is known.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let text = text.strip_prefix("TEXT").unwrap_or(text);
        let mut report = Self::default();
        for entry in text.split(',') {
            let Some((key, value)) = entry.split_once('=') else {
                continue;
            };
            let Some(value) = number(value) else {
                continue;
            };
            match key.trim() {
                "named_metrics.queue_depth" => report.queue_depth = Some(value),
                "named_metrics.in_flight" => report.in_flight = Some(value),
                "named_metrics.expected_wait_ms" => {
                    report.expected_wait = Duration::try_from_secs_f64(value / 1e3).ok();
                }
                "application_utilization" => report.utilization = Some(value),
                _ => {}
            }
        }
        (report != Self::default()).then_some(report)
    }

    /// Writes it in the JSON form of a header's value.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut named = serde_json::Map::new();
        let mut top = serde_json::Map::new();
        for (key, value) in self.entries() {
            match key.strip_prefix("named_metrics.") {
                Some(name) => named.insert(name.to_owned(), value.into()),
                None => top.insert(key.to_owned(), value.into()),
            };
        }
        top.insert("named_metrics".to_owned(), named.into());
        format!("JSON {}", serde_json::Value::from(top))
    }

    /// What is known, by its key on the wire.
    fn entries(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let wait = self.expected_wait.map(|wait| wait.as_secs_f64() * 1e3);
        let entries = [
            ("named_metrics.queue_depth", self.queue_depth),
            ("named_metrics.in_flight", self.in_flight),
            ("named_metrics.expected_wait_ms", wait),
            ("application_utilization", self.utilization),
        ];
        entries.into_iter().filter_map(|(k, v)| Some((k, v?)))
    }
}

/// A number that means something: finite, and not negative.
fn number(text: &str) -> Option<f64> {
    let value: f64 = text.trim().parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TEXT")?;
        for (i, (key, value)) in self.entries().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} {key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_is_read_with_and_without_its_prefix() {
        let expected = LoadReport {
            queue_depth: Some(3.0),
            in_flight: Some(7.0),
            expected_wait: Some(Duration::from_micros(12_500)),
            utilization: Some(0.8),
        };
        let text = "named_metrics.queue_depth=3, named_metrics.in_flight=7, \
                    named_metrics.expected_wait_ms=12.5, application_utilization=0.8";
        assert_eq!(LoadReport::parse(text), Some(expected));
        assert_eq!(LoadReport::parse(&format!("TEXT {text}")), Some(expected));
        assert_eq!(expected.to_string(), format!("TEXT {text}"));
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        for text in [
            "",
            "TEXT",
            "JSON {\"cpu_utilization\": 0.3}",
            "named_metrics.queue_depth=-1",
            "named_metrics.queue_depth=NaN",
            "named_metrics.in_flight=inf",
            "named_metrics.expected_wait_ms=1e300",
            "cpu_utilization=0.3",
        ] {
            assert_eq!(LoadReport::parse(text), None, "{text}");
        }
        let partly = LoadReport::parse("TEXT x, =, named_metrics.queue_depth=2, y=z").unwrap();
        assert_eq!(partly.queue_depth, Some(2.0));
    }

    #[test]
    fn the_json_form_names_the_same_things() {
        let report = LoadReport {
            queue_depth: Some(3.0),
            utilization: Some(0.5),
            ..LoadReport::default()
        };
        assert_eq!(
            report.to_json(),
            r#"JSON {"application_utilization":0.5,"named_metrics":{"queue_depth":3.0}}"#
        );
    }

    /// Entries as a server might write them, right and wrong.
    fn entry() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            Just("named_metrics.queue_depth"),
            Just("named_metrics.in_flight"),
            Just("named_metrics.expected_wait_ms"),
            Just("application_utilization"),
            Just("cpu_utilization"),
        ];
        let value = prop_oneof![any::<f64>().prop_map(|v| v.to_string()), ".{0,12}"];
        (key, value).prop_map(|(key, value)| format!("{key}={value}"))
    }

    proptest! {
        #[test]
        fn what_is_read_makes_sense(entries in prop::collection::vec(entry(), 0..6)) {
            let Some(report) = LoadReport::parse(&entries.join(", ")) else {
                return Ok(());
            };
            prop_assert_ne!(report, LoadReport::default());
            for value in [report.queue_depth, report.in_flight, report.utilization] {
                prop_assert!(value.is_none_or(|value| value.is_finite() && value >= 0.0));
            }
        }

        #[test]
        fn what_is_written_is_read_again(
            queue_depth in prop::option::of(0.0..1e9),
            in_flight in prop::option::of(0.0..1e9),
            wait_us in prop::option::of(0..3_600_000_000_u64),
            utilization in prop::option::of(0.0..100.0),
        ) {
            let expected_wait = wait_us.map(Duration::from_micros);
            let report = LoadReport { queue_depth, in_flight, expected_wait, utilization };
            let known = report != LoadReport::default();
            prop_assert_eq!(LoadReport::parse(&report.to_string()), known.then_some(report));
        }
    }
}
