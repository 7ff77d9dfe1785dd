use super::*;

fn faults(text: &str) -> String {
    Scenario::parse("s.toml", text).unwrap_err().to_string()
}

#[test]
fn every_scenario_that_ships_is_valid_and_says_what_it_is_about() {
    for builtin in BUILTIN {
        let scenario = Scenario::parse(builtin.name, builtin.text).unwrap();
        assert!(scenario.about.ends_with('.'), "{}", builtin.name);
        assert!(scenario.expect.availability.is_some(), "{}", builtin.name);
    }
    assert!(BUILTIN.is_sorted_by_key(|builtin| builtin.name));
}

#[test]
fn every_file_that_ships_is_built_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/scenarios");
    let files = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = files
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into()
        })
        .collect();
    names.sort();
    let built_in: Vec<&str> = BUILTIN.iter().map(|builtin| builtin.name).collect();
    assert_eq!(names, built_in);
}

#[test]
fn every_fault_is_told_by_its_key_and_line() {
    let text = "rate = 0
pods.parallel = 0
[[faults]]
kind = \"slow\"
status = 500
[[faults]]
kind = \"failing\"
status = 200
zone = \"a\"
count = 3
[[load]]
factor = 3
";
    let said = faults(text);
    for expected in [
        "s.toml:1: rate: expected a number from 0.1 to 1000000, got 0",
        "s.toml:2: pods.parallel: expected a number from 1 to 10000, got 0",
        "s.toml:5: faults[0].status: says nothing for this kind of fault",
        "faults[0].service_ms: missing",
        "s.toml:8: faults[1].status: expected a status from 400 to 599, got 200",
        "s.toml:9: faults[1].zone: expected one of `count`, `share`, `zone` and `nth_zone`",
        "load[0].for_seconds: missing",
    ] {
        assert!(said.contains(expected), "{expected}\nis not in\n{said}");
    }
    assert!(faults("rate = 1\nendpoint = 3").contains("did you mean `endpoints`?"));
    assert!(faults("seconds = 3").contains("rate: missing"));
}

#[test]
fn trouble_lasts_from_the_first_to_the_last() {
    let text =
        "rate = 1\nseconds = 40\n[[faults]]\nkind = \"hung\"\nat_seconds = 9\nfor_seconds = 4
[[load]]\nfactor = 2\nat_seconds = 3\nfor_seconds = 5";
    let scenario = Scenario::parse("s.toml", text).unwrap();
    let seconds = |s| Duration::from_secs(s);
    assert_eq!(scenario.trouble(), Some((seconds(3), seconds(13))));
}
