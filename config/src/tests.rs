//! The three passes together, on texts with faults of every kind.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use crate::{Fault, Faults, KeyPath, MAX_FAULTS, Rejected, load};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    listen: Option<String>,
    models: BTreeMap<String, RawModel>,
    rules: Vec<RawRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawModel {
    weight: Option<f64>,
    endpoints: Vec<String>,
    max: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRule {
    percent: Option<u8>,
}

fn validate(raw: Raw, faults: &mut Faults<'_>) -> Option<Raw> {
    if raw.listen.is_none() {
        faults.at("listen", "missing");
    }
    for (name, model) in &raw.models {
        let path = KeyPath::from(["models", name]);
        match model.weight {
            Some(weight) if weight >= 0.0 => {}
            Some(weight) => faults.at(path.key("weight"), format!("negative: {weight}")),
            None => faults.at(path.key("weight"), "missing"),
        }
        for (i, endpoint) in model.endpoints.iter().enumerate() {
            if !endpoint.contains(':') {
                faults.at(
                    path.key("endpoints").index(i),
                    format!("no port in {endpoint}"),
                );
            }
        }
        let endpoints = path.key("endpoints");
        if model.endpoints.is_empty() && !faults.failed_near(&endpoints) {
            faults.at(endpoints, "no endpoint");
        }
    }
    faults.is_empty().then_some(raw)
}

fn check(text: &str) -> Result<Raw, Rejected> {
    load("f.toml", text, validate)
}

/// `line: path: start of message`, one a line, as a test reads it best.
#[track_caller]
fn assert_faults(text: &str, expected: &[(usize, &str, &str)]) {
    let rejected = check(text).expect_err("has faults");
    let found: Vec<(usize, &str, &str)> = rejected
        .faults
        .iter()
        .map(|fault| {
            (
                fault.line.unwrap_or_default(),
                fault.path.as_str(),
                fault.message.as_str(),
            )
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{rejected}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1), (expected.0, expected.1), "{rejected}");
        assert!(found.2.contains(expected.2), "{rejected}");
    }
}

const GOOD: &str = r#"listen = "a:1"
[models.digits]
weight = 1
endpoints = ["a:1", "b:2"]
[[rules]]
percent = 3
"#;

#[test]
fn a_good_text_is_taken() {
    let raw = check(GOOD).unwrap();
    assert_eq!(raw.models["digits"].weight, Some(1.0));
    assert_eq!(raw.rules[0].percent, Some(3));
}

#[test]
fn every_syntax_error_is_named_at_once() {
    assert_faults(
        "listen = \n[models.digits]\nweight = 1\nweight = 2\nmax = 1x\n",
        &[(1, "", ""), (4, "", "duplicate key `weight`"), (5, "", "")],
    );
}

#[test]
fn every_fault_of_shape_and_of_meaning_is_named_at_once() {
    let text = r#"
lissen = "a:1"
[models.digits]
wieght = "x"
weight = -3
endpoints = ["a", 7, "b:1", "c"]
max = 70_000
[models."a.b"]
weight = true
endpoints = 5
[[rules]]
percent = 1
[[rules]]
percent = 256
extra = {}
[other]
x = 1
"#;
    assert_faults(
        text,
        &[
            (2, "lissen", "unknown key `lissen`, did you mean `listen`?"),
            (4, "models.digits.wieght", "did you mean `weight`?"),
            (5, "models.digits.weight", "negative: -3"),
            (6, "models.digits.endpoints[1]", "expected a string, got 7"),
            (6, "models.digits.endpoints[0]", "no port in a"),
            (6, "models.digits.endpoints[3]", "no port in c"),
            (7, "models.digits.max", "from 0 to 65535, got 70000"),
            (9, "models.\"a.b\".weight", "expected a number, got true"),
            (10, "models.\"a.b\".endpoints", "expected an array, got 5"),
            (14, "rules[1].percent", "from 0 to 255, got 256"),
            (15, "rules[1].extra", "unknown key"),
            (16, "other", "unknown key"),
            (0, "listen", "missing"),
        ],
    );
}

#[test]
fn an_element_that_fails_does_not_shift_the_ones_behind_it() {
    assert_faults(
        "listen = \"a:1\"\n[models.m]\nweight = 1\nendpoints = [\n  1,\n  \"x\",\n  2,\n  \"y\",\n]\n",
        &[
            (5, "models.m.endpoints[0]", "expected a string, got 1"),
            (6, "models.m.endpoints[1]", "no port in x"),
            (7, "models.m.endpoints[2]", "expected a string, got 2"),
            (8, "models.m.endpoints[3]", "no port in y"),
        ],
    );
}

#[test]
fn what_follows_from_a_known_fault_is_not_said() {
    // The one endpoint has the wrong type, so "no endpoint" would be noise.
    assert_faults(
        "listen = \"a:1\"\n[models.m]\nweight = \"x\"\nendpoints = [1]\n",
        &[
            (3, "models.m.weight", "expected a number"),
            (4, "models.m.endpoints[0]", "expected a string"),
        ],
    );
}

#[test]
fn a_missing_key_is_shown_at_its_table() {
    assert_faults(
        "listen = \"a:1\"\n\n[models.m]\nendpoints = [\"a:1\"]\n",
        &[(3, "models.m.weight", "missing")],
    );
}

#[test]
fn dotted_and_inline_tables_are_found_too() {
    assert_faults(
        "listen = \"a:1\"\nmodels.m.weight = \"x\"\nmodels.m.endpoints = [\"a:1\"]\nrules = [{ percent = 1 },\n  { percnt = 1 }]\n",
        &[
            (2, "models.m.weight", "expected a number"),
            (5, "rules[1].percnt", "did you mean `percent`?"),
        ],
    );
}

/// More pieces than a report holds.
fn many(piece: impl Fn(usize) -> String) -> String {
    let pieces: Vec<String> = (0..MAX_FAULTS + 20).map(piece).collect();
    pieces.concat()
}

#[test]
fn a_report_is_bounded_and_says_that_it_is() {
    let text = format!(
        "listen = \"a:1\"\n{}",
        many(|i| format!("unknown{i} = 1\n"))
    );
    let rejected = check(&text).unwrap_err();
    assert_eq!(rejected.faults.len(), MAX_FAULTS + 1);
    assert!(rejected.faults[MAX_FAULTS].message.contains("more than"));

    let text = format!(
        "listen = \"a:1\"\n{}",
        many(|i| format!("[models.m{i}]\nweight = -1\nendpoints = [\"a:1\"]\n"))
    );
    let rejected = check(&text).unwrap_err();
    assert_eq!(rejected.faults.len(), MAX_FAULTS + 1);
    assert!(rejected.faults[MAX_FAULTS].message.contains("more than"));
}

#[test]
fn a_large_file_with_many_faults_is_told_in_part_and_soon() {
    let mut text = String::from("listen = \"a:1\"\n");
    text.push_str(&many(|i| format!("unknown{i} = 1\n")));
    text.push_str(&"# padding\n".repeat(100_000));
    let rejected = check(&text).unwrap_err();
    let last = rejected.faults.last().unwrap();
    assert_eq!(last.message, "there may be more faults; mend these first");
    assert!((4..20).contains(&rejected.faults.len()), "{rejected}");
}

#[test]
fn a_validator_that_gives_up_in_silence_is_not_a_valid_file() {
    let rejected = load::<Raw, ()>("f.toml", "", |_, _| None).unwrap_err();
    assert_eq!(rejected.faults.len(), 1);
}

#[test]
fn a_fault_reads_as_one_line() {
    let rejected = Rejected {
        origin: "proxy.toml".into(),
        faults: vec![
            Fault {
                path: "a.b".into(),
                line: Some(12),
                message: "expected a number >= 0, got -3".into(),
            },
            Fault {
                path: String::new(),
                line: None,
                message: "no models".into(),
            },
        ],
    };
    assert_eq!(
        rejected.to_string(),
        "proxy.toml:12: a.b: expected a number >= 0, got -3\nproxy.toml: no models"
    );
}

/// A fault that can be put into a file of `models` models, and what it is called.
#[derive(Clone, Debug)]
enum Injected {
    UnknownKey,
    WrongType,
    Negative,
    NoPort,
    ElementType,
}

fn injected() -> impl Strategy<Value = Option<Injected>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Injected::UnknownKey)),
        1 => Just(Some(Injected::WrongType)),
        1 => Just(Some(Injected::Negative)),
        1 => Just(Some(Injected::NoPort)),
        1 => Just(Some(Injected::ElementType)),
    ]
}

/// Writes one model, and where its fault must be found.
fn write_model(text: &mut String, name: &str, fault: Option<&Injected>) -> Option<(usize, String)> {
    let line = text.matches('\n').count() + 1;
    let (weight, endpoint, extra) = match fault {
        Some(Injected::WrongType) => ("[]", "\"a:1\"", ""),
        Some(Injected::Negative) => ("-1", "\"a:1\"", ""),
        Some(Injected::NoPort) => ("1", "\"a\"", ""),
        Some(Injected::ElementType) => ("1", "{}", ""),
        Some(Injected::UnknownKey) => ("1", "\"a:1\"", "what = 1\n"),
        None => ("1", "\"a:1\"", ""),
    };
    let model = format!(
        "[models.{name}]\nweight = {weight}\nendpoints = [\n\"z:1\",\n{endpoint}]\n{extra}\n"
    );
    text.push_str(&model);
    fault.map(|fault| match fault {
        Injected::WrongType | Injected::Negative => (line + 1, format!("models.{name}.weight")),
        Injected::NoPort | Injected::ElementType => {
            (line + 4, format!("models.{name}.endpoints[1]"))
        }
        Injected::UnknownKey => (line + 5, format!("models.{name}.what")),
    })
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused_without_a_panic(text in "\\PC*") {
        if let Err(rejected) = check(&text) {
            prop_assert!(!rejected.faults.is_empty());
        }
    }

    #[test]
    fn any_toml_like_text_is_taken_or_refused_without_a_panic(
        text in proptest::collection::vec(
            prop_oneof![
                Just("[".to_owned()), Just("]".to_owned()), Just("[[".to_owned()),
                Just("]]".to_owned()), Just("{".to_owned()), Just("}".to_owned()),
                Just("=".to_owned()), Just(".".to_owned()), Just(",".to_owned()),
                Just("\n".to_owned()), Just("\"".to_owned()), Just("'''".to_owned()),
                Just("models".to_owned()), Just("weight".to_owned()), Just("rules".to_owned()),
                Just("listen".to_owned()), Just("1".to_owned()), Just("-inf".to_owned()),
                Just("1979-05-27".to_owned()), Just("#".to_owned()), Just("\\u00".to_owned()),
                Just("\r\n".to_owned()), Just("\u{feff}".to_owned()), Just("é".to_owned()),
            ],
            0..40,
        )
    ) {
        let text = text.concat();
        if let Err(rejected) = check(&text) {
            prop_assert!(!rejected.faults.is_empty());
            let lines = text.matches('\n').count() + 1;
            for fault in &rejected.faults {
                prop_assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{rejected}");
            }
        }
    }

    #[test]
    fn every_injected_fault_is_found_at_its_line(
        faults in proptest::collection::vec(injected(), 1..12)
    ) {
        let mut text = String::from("listen = \"a:1\"\n");
        let mut expected: Vec<(usize, String)> = faults
            .iter()
            .enumerate()
            .filter_map(|(i, fault)| write_model(&mut text, &format!("m{i}"), fault.as_ref()))
            .collect();
        expected.sort();
        let mut found: Vec<(usize, String)> = match check(&text) {
            Ok(_) => Vec::new(),
            Err(rejected) => rejected
                .faults
                .into_iter()
                .map(|fault| (fault.line.unwrap_or_default(), fault.path))
                .collect(),
        };
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
