//! Reads the text format of Prometheus as far as samples go: names, labels, values.
//!
//! `prometheus-parse` cuts labels at commas and skips what it does not understand, which would show a broken
//! server as an idle one. Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::collections::BTreeMap;

/// The samples of one scrape.
#[derive(Debug)]
pub(crate) struct Exposition(Vec<Metric>);

/// One line with a value.
#[derive(Debug)]
pub(crate) struct Metric {
    name: String,
    labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Says where a text is no exposition.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected a sample such as `name{{label=\"value\"}} 1`, got `{got}`")]
pub(crate) struct SyntaxError {
    line: usize,
    got: String,
}

// === impl Exposition ===

impl Exposition {
    pub(crate) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let lines = text.lines().enumerate();
        let lines = lines.map(|(index, line)| (index, line.trim()));
        let samples = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let metrics = samples.map(|(index, line)| {
            metric(line).ok_or_else(|| SyntaxError {
                line: index + 1,
                got: aegis_protocol::excerpt(line).to_string(),
            })
        });
        metrics.collect::<Result<_, _>>().map(Self)
    }

    /// The samples of that name whose labels include these.
    pub(crate) fn of<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Metric> {
        // NaN and infinities are values of the format, and no place on a plot.
        let is_it = move |metric: &&Metric| metric.name == name && metric.value.is_finite();
        let metrics = self.0.iter().filter(is_it);
        metrics.filter(move |metric| {
            let mut labels = labels.iter();
            labels.all(|(label, value)| metric.label(label) == Some(value))
        })
    }

    /// The sum of those samples; none where there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.of(name, labels).map(|metric| metric.value).peekable();
        values.peek()?;
        Some(values.sum())
    }
}

// === impl Metric ===

impl Metric {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }
}

fn metric(line: &str) -> Option<Metric> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at_checked(end)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A timestamp may follow.
    let value = rest.split_whitespace().next()?;
    Some(Metric {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// The labels behind an opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

/// A value up to its closing quote, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a b\n# TYPE a gauge\na 1\n\na{m=\"x,} \\\"y\\\"\",n=\"\\\\\"} 2.5e1 1700000000\nb{} +Inf\n";
        let exposition = Exposition::parse(text).unwrap();
        assert_eq!(exposition.sum("a", &[]), Some(26.0));
        assert_eq!(exposition.sum("a", &[("m", "x,} \"y\"")]), Some(25.0));
        // It is read, and has no place on a plot.
        assert_eq!(exposition.sum("b", &[]), None);
        assert_eq!(exposition.sum("c", &[]), None);
    }

    #[test]
    fn what_is_no_exposition_is_refused_with_its_line() {
        for (text, line) in [
            ("<html>", 1),
            ("a 1\nb{", 2),
            ("a{b=\"c} 1", 1),
            ("a{b} 1", 1),
            ("a x", 1),
            ("a{b=\"c\"}", 1),
        ] {
            let error = Exposition::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a{}=\"\\\\, \n1#é]{0,60}") {
            let _ = Exposition::parse(&text);
        }
    }
}
