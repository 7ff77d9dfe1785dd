//! The grammar: lines into families.

use std::collections::{BTreeMap, BTreeSet};

use super::{Family, Kind, Labels, Sample, ScrapeError};

/// What is left of one line.
struct Cursor<'a> {
    line: usize,
    rest: &'a str,
}

/// What has been read, and the family that is open.
#[derive(Default)]
struct Reader {
    families: BTreeMap<String, Family>,
    helps: BTreeMap<String, String>,
    open: Option<String>,
    series: BTreeSet<(String, Labels)>,
}

/// Reads a whole exposition.
pub(super) fn families(text: &str) -> Result<BTreeMap<String, Family>, ScrapeError> {
    if !text.is_empty() && !text.ends_with('\n') {
        let fault = "the last line does not end".to_owned();
        return Err(ScrapeError::Meaning {
            line: text.lines().count(),
            fault,
        });
    }
    let mut reader = Reader::default();
    for (index, line) in text.lines().enumerate() {
        let mut cursor = Cursor {
            line: index + 1,
            rest: line,
        };
        if cursor.take("# TYPE ") {
            reader.kind(&mut cursor)?;
        } else if cursor.take("# HELP ") {
            reader.help(&mut cursor)?;
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            reader.sample(&mut cursor)?;
        }
    }
    Ok(reader.families)
}

// === impl Reader ===

impl Reader {
    fn help(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScrapeError> {
        let name = cursor.name(true)?;
        cursor.take(" ");
        let text = cursor.rest.to_owned();
        if self.families.contains_key(name) || self.helps.insert(name.to_owned(), text).is_some() {
            return Err(cursor.meaning(format!("help for {name} twice or too late")));
        }
        Ok(())
    }

    fn kind(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScrapeError> {
        let name = cursor.name(true)?;
        cursor.expect(" ")?;
        let kind = cursor
            .rest
            .parse::<Kind>()
            .map_err(|()| cursor.syntax("a type"))?;
        let help = self.helps.remove(name).unwrap_or_default();
        let family = Family {
            kind,
            help,
            samples: Vec::new(),
        };
        if self.families.insert(name.to_owned(), family).is_some() {
            return Err(cursor.meaning(format!("a second type, or a second block, for {name}")));
        }
        self.open = Some(name.to_owned());
        Ok(())
    }

    fn sample(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScrapeError> {
        let name = cursor.name(true)?;
        let labels = if cursor.take("{") {
            cursor.labels()?
        } else {
            Labels::new()
        };
        cursor.expect(" ")?;
        let value = cursor.value()?;
        let sample = Sample {
            name: name.to_owned(),
            labels,
            value,
        };
        if !self
            .series
            .insert((sample.name.clone(), sample.labels.clone()))
        {
            return Err(cursor.meaning(format!("{name} with the same labels twice")));
        }
        let owner = self
            .open
            .as_ref()
            .and_then(|open| Some((open, self.families.get_mut(open)?)));
        match owner {
            Some((open, family)) if owns(open, family.kind, name) => family.samples.push(sample),
            _ => return Err(cursor.meaning(format!("{name} outside the block of its type"))),
        }
        Ok(())
    }
}

/// Whether a sample of this name belongs to the family.
fn owns(family: &str, kind: Kind, sample: &str) -> bool {
    sample
        .strip_prefix(family)
        .is_some_and(|suffix| kind.suffixes().contains(&suffix))
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    fn syntax(&self, expected: &'static str) -> ScrapeError {
        ScrapeError::Syntax {
            line: self.line,
            expected,
            rest: self.rest.to_owned(),
        }
    }

    fn meaning(&self, fault: String) -> ScrapeError {
        ScrapeError::Meaning {
            line: self.line,
            fault,
        }
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &'static str) -> Result<(), ScrapeError> {
        if self.take(text) {
            Ok(())
        } else {
            Err(self.syntax(text))
        }
    }

    /// A name; only a metric's may hold colons.
    fn name(&mut self, colons: bool) -> Result<&'a str, ScrapeError> {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.syntax("a name"));
        }
        self.rest = rest;
        Ok(name)
    }

    /// Labels up to and with the closing brace.
    fn labels(&mut self) -> Result<Labels, ScrapeError> {
        let mut labels = Labels::new();
        while !self.take("}") {
            let name = self.name(false)?;
            self.expect("=\"")?;
            let value = self.quoted()?;
            if labels.insert(name.to_owned(), value).is_some() {
                return Err(self.meaning(format!("label {name} twice")));
            }
            if !self.take(",") && !self.rest.starts_with('}') {
                return Err(self.syntax("`,` or `}`"));
            }
        }
        Ok(labels)
    }

    /// A label's value up to and with the closing quote.
    fn quoted(&mut self) -> Result<String, ScrapeError> {
        let mut value = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('"' | '\\')) => c,
                    _ => return Err(self.syntax("an escape")),
                }),
                Some(c) => value.push(c),
                None => return Err(self.syntax("a closing quote")),
            }
        }
        self.rest = chars.as_str();
        Ok(value)
    }

    /// The value, and the time of the sample if one is given.
    fn value(&mut self) -> Result<f64, ScrapeError> {
        let mut fields = self.rest.split_ascii_whitespace();
        let value = fields
            .next()
            .and_then(number)
            .ok_or_else(|| self.syntax("a number"))?;
        if fields
            .next()
            .is_some_and(|time| time.parse::<i64>().is_err())
        {
            return Err(self.syntax("a time in milliseconds"));
        }
        if fields.next().is_some() {
            return Err(self.syntax("the end of the line"));
        }
        Ok(value)
    }
}

/// A number as Go writes it; Rust's own grammar also takes `infinity` and the like.
pub(super) fn number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text
            .parse()
            .ok()
            .filter(|_| !text.contains(['i', 'n', 'I', 'N'])),
    }
}
