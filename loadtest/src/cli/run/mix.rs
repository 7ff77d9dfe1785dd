//! The file of a mix: kinds of requests and their weights, taken whole or refused with every fault.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis_config::{Faults, KeyPath, Rejected, read_file};
use anyhow::Result;
use schemars::JsonSchema;
use serde::Deserialize;

use super::asked;
use crate::{Manner, Target};

/// The most kinds of requests.
const MAX_PARTS: usize = 64;

/// The longest deadline.
const MAX_MS: u64 = 3_600_000;

/// A kind of request, before anybody was asked what its model takes.
#[derive(Debug)]
pub(in crate::cli) struct Wanted {
    pub(super) name: String,
    pub(super) weight: f64,
    pub(in crate::cli) target: Target,
    /// The input that takes the values of a file; none leaves it to the signature.
    pub(super) input: Option<String>,
    /// What to send; none draws it.
    pub(super) data: Option<PathBuf>,
    pub(super) manner: Manner,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawMix {
    /// Kinds of requests.
    requests: Vec<RawPart>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawPart {
    /// What it is called in reports; the model when left out.
    name: Option<String>,
    /// How often it is sent, beside the others. 1 when left out.
    weight: Option<f64>,
    /// The model to ask.
    model: Option<String>,
    /// The version to ask for; the server chooses when left out.
    version: Option<String>,
    /// What to send, as `--data`; relative to this file's folder. Drawn when left out.
    data: Option<PathBuf>,
    /// The input that takes the values of a .csv, .npy or .png.
    input: Option<String>,
    /// The output that is compared with the label.
    output: Option<String>,
    /// How long its requests may take, which the server is told, in milliseconds.
    deadline_ms: Option<u64>,
    /// `parameters.priority`, from 1, the first, to 10.
    priority: Option<u8>,
    /// A header that says who asks, and of how many users: "x-user-id=1000".
    sticky: Option<String>,
}

/// The JSON Schema of the file.
#[must_use]
pub fn schema() -> String {
    aegis_config::schema::<RawMix>("aegis-loadtest mix.toml")
}

/// Reads a mix for one address.
pub(super) fn read(path: &Path, address: &Target) -> Result<Vec<Wanted>> {
    let origin = path.display().to_string();
    let text = read_file(path).map_err(|error| error.rejected(&origin))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(parse(&origin, &text, folder, address)?)
}

fn parse(
    origin: &str,
    text: &str,
    folder: &Path,
    address: &Target,
) -> Result<Vec<Wanted>, Rejected> {
    aegis_config::load(origin, text, |raw: RawMix, faults| {
        let got = raw.requests.len();
        let path = KeyPath::from("requests");
        if !(1..=MAX_PARTS).contains(&got) && !faults.failed_near(&path) {
            let expected = format!("expected 1 to {MAX_PARTS} kinds of requests, got {got}");
            faults.at(path, expected);
        }
        let parts = raw.requests.into_iter().enumerate();
        let parts = parts.map(|(index, raw)| part(index, raw, folder, address, faults));
        let parts: Vec<_> = parts.collect();
        let parts: Vec<Wanted> = parts.into_iter().collect::<Option<_>>()?;
        for (index, part) in parts.iter().enumerate() {
            if parts
                .iter()
                .take(index)
                .any(|other| other.name == part.name)
            {
                let at = KeyPath::from("requests").index(index).key("name");
                faults.at(at, format!("`{}` is there twice", part.name));
            }
        }
        Some(parts)
    })
}

fn part(
    index: usize,
    raw: RawPart,
    folder: &Path,
    address: &Target,
    faults: &mut Faults<'_>,
) -> Option<Wanted> {
    let at = |key: &str| KeyPath::from("requests").index(index).key(key);
    let weight = raw.weight.unwrap_or(1.0);
    if !(weight > 0.0 && weight.is_finite()) {
        faults.at(
            at("weight"),
            format!("expected a number over 0, got {weight}"),
        );
    }
    if let Some(got) = raw.deadline_ms.filter(|ms| !(1..=MAX_MS).contains(ms)) {
        faults.at(
            at("deadline_ms"),
            format!("expected 1 to {MAX_MS}, got {got}"),
        );
    }
    if let Some(got) = raw.priority.filter(|level| !(1..=10).contains(level)) {
        faults.at(at("priority"), format!("expected 1 to 10, got {got}"));
    }
    let sticky = match raw.sticky.as_deref().map(asked::sticky).transpose() {
        Ok(sticky) => sticky,
        Err(error) => faults.refuse(at("sticky"), error),
    };
    let Some(model) = raw.model.filter(|model| !model.is_empty()) else {
        return faults.refuse(at("model"), "missing");
    };
    let mut target = address.with_model(&model);
    if let Some(version) = raw.version {
        target = target.pinned(version);
    }
    if let Some(output) = raw.output {
        target.output = output;
    }
    Some(Wanted {
        name: raw.name.unwrap_or(model),
        weight,
        target,
        input: raw.input,
        data: raw.data.map(|data| folder.join(data)),
        manner: Manner {
            deadline: raw.deadline_ms.map(Duration::from_millis),
            priority: raw.priority,
            sticky,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Wanted>, Rejected> {
        let address = Target::new("http://h", "").unwrap();
        parse("mix.toml", text, Path::new("folder"), &address)
    }

    #[test]
    fn a_part_has_a_model_and_all_else_has_a_default() {
        let text = "[[requests]]\nmodel = \"a\"\n[[requests]]\nname = \"b\"\nmodel = \"a\"\nversion = \"2\"\n\
                    data = \"x.csv\"\nweight = 3\ndeadline_ms = 300\npriority = 1\nsticky = \"x-user=10\"";
        let parts = read(text).unwrap();
        assert_eq!((parts[0].name.as_str(), parts[0].weight), ("a", 1.0));
        assert_eq!(parts[0].manner, Manner::default());
        assert_eq!(parts[1].target.version(), Some("2"));
        assert_eq!(parts[1].data.as_deref(), Some(Path::new("folder/x.csv")));
        assert_eq!(parts[1].manner.deadline, Some(Duration::from_millis(300)));
        assert_eq!(parts[1].manner.sticky.as_ref().unwrap().keys, 10);
    }

    #[test]
    fn every_fault_is_named_by_key_and_line() {
        let text = "[[requests]]\nweight = 0\npriority = 11\n[[requests]]\nmodel = \"a\"\nsticky = \"x\"\n\
                    deadline_ms = 0\n[[requests]]\nmodle = \"a\"";
        let faults = read(text).unwrap_err().to_string();
        for fault in [
            "mix.toml:2: requests[0].weight: expected a number over 0, got 0",
            "mix.toml:3: requests[0].priority: expected 1 to 10, got 11",
            "requests[0].model: missing",
            "mix.toml:6: requests[1].sticky: expected a header and a number of users",
            "mix.toml:7: requests[1].deadline_ms: expected 1 to 3600000, got 0",
            "did you mean `model`?",
        ] {
            assert!(faults.contains(fault), "{fault}\n{faults}");
        }
        let none = read("").unwrap_err().to_string();
        assert!(
            none.contains("expected 1 to 64 kinds of requests, got 0"),
            "{none}"
        );
        let twice = read("requests = [{ model = \"a\" }, { model = \"a\" }]").unwrap_err();
        assert!(
            twice
                .to_string()
                .contains("requests[1].name: `a` is there twice"),
            "{twice}"
        );
    }
}
