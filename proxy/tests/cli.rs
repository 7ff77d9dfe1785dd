//! The command line, as a shell sees it: exit codes, stdout, stderr.

use std::process::{Command, Output};

/// Runs the program to its end.
fn aegis_proxy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aegis-proxy"))
        .args(args)
        .output()
        .expect("the program starts")
}

/// Exit code, stdout, stderr.
fn parts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_good_file_is_counted() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/proxy.toml");
    let (code, out, err) = parts(&aegis_proxy(&["check", shipped]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("{shipped}: ok, 1 model")), "{out}");
    assert!(out.contains("3 endpoints"), "{out}");
}

#[test]
fn every_fault_of_a_bad_file_is_told_on_stderr_by_check_and_by_serve() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[listne]\n[models.a.versions.1]\nweight = -1\n").unwrap();
    let file = file.to_str().unwrap();
    for args in [&["check", file][..], &["serve", "--config", file]] {
        let (code, out, err) = parts(&aegis_proxy(args));
        assert_eq!((code, out.as_str()), (Some(78), ""), "{args:?}: {err}");
        let starts = [
            "1: listne: unknown key `listne`, did you mean `listen`?",
            "2: models.a.versions.1.endpoints: expected at least one endpoint",
            "3: models.a.versions.1.weight: expected a number from 0 to 1000000, got -1",
        ];
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), starts.len(), "{err}");
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(&format!("{file}:{start}")), "{line}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_fault_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.toml");
    let (code, _, err) = parts(&aegis_proxy(&["check", file.to_str().unwrap()]));
    assert_eq!(code, Some(78));
    assert!(
        err.contains("none.toml: cannot be read: No such file"),
        "{err}"
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let text = format!(
        "[listen]\ndata = \"127.0.0.1:0\"\nadmin = \"{address}\"\n\
         [models.a.versions.1]\nweight = 1\nendpoints = [\"127.0.0.1:1\"]\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = aegis_proxy(&["serve", "--config", file.to_str().unwrap()]);
    let (code, out, err) = parts(&output);
    assert_eq!((code, out.as_str()), (Some(69), ""), "{err}");
    assert!(err.contains(&address.to_string()), "{err}");
    assert!(err.contains("listen.admin"), "{err}");
}

#[test]
fn a_difference_is_told_in_shares() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, weight: u32, more: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "{more}[models.a.versions.1]\nweight = 90\nendpoints = [\"127.0.0.1:1\"]\n\
             [models.a.versions.2]\nweight = {weight}\nendpoints = [\"127.0.0.1:2\"]\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (file("old", 10, ""), file("new", 30, ""));
    let (code, out, err) = parts(&aegis_proxy(&["diff", &old, &new]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let expected = [
        "models.a.versions.1.weight: still 90 (90.0 % -> 75.0 %)",
        "models.a.versions.2.weight: 10 -> 30 (10.0 % -> 25.0 %)",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    let (code, out, _) = parts(&aegis_proxy(&["diff", &old, &old]));
    assert_eq!((code, out.trim()), (Some(0), "no difference"));
    let fixed = file("fixed", 10, "log_format = \"json\"\n");
    let (_, out, _) = parts(&aegis_proxy(&["diff", &old, &fixed]));
    assert!(out.contains("needs a restart"), "{out}");
    let (code, out, err) = parts(&aegis_proxy(&["diff", &old, "/nonexistent"]));
    assert_eq!((code, out.as_str()), (Some(78), ""), "{err}");
}

#[test]
fn the_schema_is_printed_as_it_ships() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/proxy.schema.json");
    let (code, out, _) = parts(&aegis_proxy(&["schema"]));
    assert_eq!(code, Some(0));
    assert_eq!(out, std::fs::read_to_string(shipped).unwrap());
}

#[test]
fn a_wrong_command_line_is_64_and_help_is_not() {
    for args in [
        &[][..],
        &["serve"],
        &["check"],
        &["nope"],
        &["check", "a", "b"],
    ] {
        let (code, _, err) = parts(&aegis_proxy(args));
        assert_eq!(code, Some(64), "{args:?}: {err}");
        assert!(err.contains("Usage"), "{err}");
    }
    let (code, out, err) = parts(&aegis_proxy(&["--help"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("check") && out.contains("schema"), "{out}");
}

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/proxy.toml");

#[test]
fn a_configuration_is_tried_on_a_scenario_and_the_seed_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (plot, json) = (path("plot.svg"), path("figures.json"));
    let run = |seed: &str| {
        let args = [
            "simulate",
            "--config",
            SHIPPED,
            "--scenario",
            "slow",
            "--seed",
            seed,
        ];
        parts(&aegis_proxy(
            &[&args[..], &["--plot", &plot, "--json", &json]].concat(),
        ))
    };
    let (code, out, err) = run("1");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.contains("breakers    1 opened, 0 of them at healthy"),
        "{out}"
    );
    let drawn = std::fs::read_to_string(&plot).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("p99"));
    let figures = std::fs::read(&json).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&figures).unwrap();
    assert_eq!(report["series"].as_array().unwrap().len(), 10);
    assert_eq!(report["ejections"]["opened"], 1);
    assert_eq!(run("1").1, out);
    assert_eq!(std::fs::read_to_string(&plot).unwrap(), drawn);
    assert_ne!(run("2").1, out);
}

#[test]
fn the_zone_that_vanishes_is_one_that_the_configuration_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zones.toml");
    let text = std::fs::read_to_string(SHIPPED).unwrap();
    let text = text.replace("zone = \"b\"", "zone = \"eu-1b\"");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let args = ["simulate", "--config", file, "--scenario", "zone-gone"];
    let (code, out, err) = parts(&aegis_proxy(&args));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let line = "fault       zone eu-1b is gone, 5 s to 25 s";
    assert!(out.contains(line), "{out}");
}

#[cfg(feature = "kubernetes")]
#[test]
fn the_pods_of_a_service_are_one_endpoint_that_is_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.toml");
    let text = std::fs::read_to_string(SHIPPED).unwrap();
    let text = text.replace("endpoints = [\"127.0.0.1:8003\"]\n", "");
    let text = text.replace("#service = \"\"", "service = \"digits-canary\"");
    std::fs::write(&file, text).unwrap();
    let (file, scenario) = (file.to_str().unwrap(), folder.path().join("calm.toml"));
    std::fs::write(&scenario, "rate = 100\nseconds = 4\nwarmup_seconds = 1\n").unwrap();
    let scenario = scenario.to_str().unwrap();
    let args = ["simulate", "--config", file, "--scenario", scenario];
    let (code, out, err) = parts(&aegis_proxy(&args));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("version     2 answered "), "{out}");
    assert!(out.contains("%, on 1 endpoint"), "{out}");
}

#[test]
fn what_is_expected_of_a_scenario_and_does_not_come_true_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hard.toml");
    let text = "rate = 100\nseconds = 4\nwarmup_seconds = 1\n[[faults]]\nkind = \"down\"\nshare = 1\n\
                [expect]\navailability = 0.99\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let args = ["simulate", "--config", SHIPPED, "--scenario", file];
    let (code, out, err) = parts(&aegis_proxy(&args));
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    assert!(out.contains("missed      availability"), "{out}");
}

#[test]
fn a_scenario_with_a_fault_or_that_does_not_fit_is_exit_code_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let file = file.to_str().unwrap();
    for (text, expected) in [
        (
            "rate = -1\n",
            format!("{file}:1: rate: expected a number from 0.1"),
        ),
        (
            "rate = 9\n[[faults]]\nkind = \"hung\"\nversion = \"9\"\n",
            format!("{file}: faults[0].version: no version \"9\""),
        ),
    ] {
        std::fs::write(file, text).unwrap();
        let args = ["simulate", "--config", SHIPPED, "--scenario", file];
        let (code, out, err) = parts(&aegis_proxy(&args));
        assert_eq!((code, out.as_str()), (Some(78), ""), "{err}");
        assert!(err.starts_with(&expected), "{err}");
    }
    let (code, out, _) = parts(&aegis_proxy(&["simulate", "--list"]));
    assert_eq!(code, Some(0));
    assert!(out.contains("zone-gone        A zone vanishes"), "{out}");
}
