//! What is read, and what is refused.

use super::*;

const GOOD: &str = "\
# HELP requests_total Requests, by code.
# TYPE requests_total counter
requests_total{model=\"a, \\\"b\\\"\",code=\"200\"} 3
requests_total{model=\"c\",code=\"200\"} 4 1700000000000
# TYPE latency_seconds histogram
latency_seconds_bucket{le=\"0.5\"} 1
latency_seconds_bucket{le=\"+Inf\"} 2
latency_seconds_sum 0.75
latency_seconds_count 2
# a remark

# TYPE temperature gauge
temperature -Inf
";

fn error(text: &str) -> String {
    text.parse::<Scrape>().unwrap_err().to_string()
}

#[test]
fn values_are_found_by_name_and_labels() {
    let scrape: Scrape = GOOD.parse().unwrap();
    assert_eq!(
        scrape.count("requests_total", &[("code", "200")]).unwrap(),
        7
    );
    assert_eq!(
        scrape.value("requests_total", &[("model", "a, \"b\"")]),
        Some(3.0)
    );
    assert_eq!(
        scrape.value("requests_total", &[]),
        None,
        "two samples are no value"
    );
    assert_eq!(scrape.value("latency_seconds_count", &[]), Some(2.0));
    assert_eq!(scrape.value("temperature", &[]), Some(f64::NEG_INFINITY));
    assert_eq!(
        scrape.families()["requests_total"].help,
        "Requests, by code."
    );
    assert_eq!(scrape.families()["latency_seconds"].kind, Kind::Histogram);
}

#[test]
fn what_is_outside_the_grammar_is_refused() {
    let bad = [
        ("# TYPE a counter\na 1", "does not end"),
        ("# TYPE a bounter\n", "a type"),
        ("# TYPE a counter\n1a 1\n", "a name"),
        ("# TYPE a counter\na{b=\"c} 1\n", "closing quote"),
        ("# TYPE a counter\na{b=\"\\t\"} 1\n", "an escape"),
        ("# TYPE a counter\na{b=\"c\" d=\"e\"} 1\n", "`,` or `}`"),
        ("# TYPE a counter\na one\n", "a number"),
        ("# TYPE a counter\na infinity\n", "a number"),
        ("# TYPE a counter\na 1 soon\n", "a time"),
        ("# TYPE a counter\na 1 2 3\n", "the end"),
    ];
    for (text, expected) in bad {
        assert!(error(text).contains(expected), "{text:?}: {}", error(text));
    }
}

#[test]
fn what_would_mislead_a_scraper_is_refused() {
    let bad = [
        ("a 1\n", "outside the block"),
        ("# TYPE a counter\na 1\na 2\n", "same labels twice"),
        (
            "# TYPE a counter\n# TYPE b counter\na 1\n",
            "outside the block",
        ),
        ("# TYPE a counter\na 1\n# TYPE a counter\n", "second"),
        ("# TYPE a counter\na{b=\"1\",b=\"2\"} 1\n", "label b twice"),
        ("# TYPE a counter\na -1\n", "a counter of -1"),
        ("# TYPE a histogram\na 1\n", "outside the block"),
    ];
    for (text, expected) in bad {
        assert!(error(text).contains(expected), "{text:?}: {}", error(text));
    }
}

#[test]
fn a_histogram_must_be_cumulative_and_whole() {
    let with = |body: &str| format!("# TYPE a histogram\n{body}");
    let falls = "a_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 2\n";
    assert!(error(&with(falls)).contains("do not grow"));
    let endless = "a_bucket{le=\"1\"} 3\na_sum 1\na_count 3\n";
    assert!(error(&with(endless)).contains("+Inf"));
    let other = "a_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 3\n";
    assert!(error(&with(other)).contains("a count other"));
    let bare = "a_bucket 2\na_sum 1\na_count 2\n";
    assert!(error(&with(bare)).contains("without `le`"));
}
