use super::*;

fn parse(text: &str) -> Result<Config, Rejected> {
    Config::parse("b.toml", text, Path::new("etc"))
}

/// The faults of a text, one line each.
#[track_caller]
fn faults(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const MODEL: &str = "[models.m]\nversions = [\"1\"]\n";

#[test]
fn defaults_are_taken_and_paths_are_relative_to_the_files_folder() {
    let config = parse(MODEL).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.grpc_listen, None);
    assert_eq!(config.model_repository, Path::new("etc/models"));
    assert_eq!(config.http.body_bytes, 67_108_864);
    assert_eq!(config.queue.requests, 1024);
    assert_eq!(config.drain.delay, Duration::from_secs(3));
    let absolute = parse(&format!("model_repository = \"/srv/m\"\n{MODEL}")).unwrap();
    assert_eq!(absolute.model_repository, Path::new("/srv/m"));
}

#[test]
fn every_fault_is_listed_at_once_with_its_line() {
    let text = "listen = \"here\"\ngrpc_listen = \"8001\"\nmax_body_bytes = 0\ngrace_ms = 1000\n\
                idle_timeout_ms = 0\n[models.m]\nversions = [\"1\", \"1\", \"a/b\"]\n";
    let faults = faults(text);
    let lines: Vec<_> = faults.lines().collect();
    let expected = [
        "b.toml:1: listen: expected an address such as 127.0.0.1:8000, got `here`",
        "b.toml:2: grpc_listen: expected an address such as 127.0.0.1:8000, got `8001`",
        "b.toml:3: max_body_bytes: expected a number >= 1, got 0",
        "b.toml:5: idle_timeout_ms: expected milliseconds from 1 to 86400000, got 0",
        "b.toml:7: models.m.versions[1]: version `1` is listed twice",
        "b.toml:7: models.m.versions[2]: expected a name of 1 to 100 letters",
        "b.toml: drain_delay_ms: expected less than grace_ms, which is 1000, got 3000",
    ];
    assert_eq!(lines.len(), expected.len(), "{faults}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn to_verify_takes_a_key_that_is_trusted() {
    for verify in ["warn", "required"] {
        let faults = faults(&format!(
            "verify = \"{verify}\"\nmax_model_bytes = 0\n{MODEL}"
        ));
        assert!(
            faults.contains("trusted_keys: expected at least one"),
            "{faults}"
        );
        assert!(
            faults.contains("b.toml:2: max_model_bytes: expected"),
            "{faults}"
        );
    }
    let text =
        format!("verify = \"required\"\ntrusted_keys = [\"keys/a.pub\", \"/b.pub\"]\n{MODEL}");
    let integrity = parse(&text).unwrap().integrity;
    assert_eq!(integrity.verify, Verify::Required);
    assert_eq!(
        integrity.trusted_keys,
        [Path::new("etc/keys/a.pub"), Path::new("/b.pub")]
    );
}

#[test]
fn a_source_is_an_address_or_a_path_with_a_digest() {
    let sha256 = "ab".repeat(32);
    let source = |version: &str, from: &str, sha256: &str| {
        format!("{MODEL}[models.m.sources.{version}]\nfrom = \"{from}\"\nsha256 = \"{sha256}\"\n")
    };
    let config = parse(&source("1", "https://h/m.tar", &sha256)).unwrap();
    let expected = Location::Http("https://h/m.tar".to_owned());
    assert_eq!(config.models[0].sources["1"].from, expected);
    let config = parse(&source("1", "mounted/m.tar", &sha256)).unwrap();
    let expected = Location::File("etc/mounted/m.tar".into());
    assert_eq!(config.models[0].sources["1"].from, expected);
    let faults = faults(&source("2", "", "ab"));
    for expected in [
        "models.m.sources.2: `2` is none of `versions`",
        "models.m.sources.2.from: expected an address or a path, got none",
        "models.m.sources.2.sha256: expected 64 hexadecimal digits, got 2 characters",
    ] {
        assert!(faults.contains(expected), "{faults}");
    }
}

#[test]
fn a_server_without_models_or_versions_is_refused() {
    assert!(faults("").contains("models: expected at least one model"));
    assert!(faults("[models.m]").contains("models.m.versions: expected at least one version"));
}

#[test]
fn a_wrong_type_is_one_fault_and_hides_what_follows_from_it() {
    let faults = faults("[models.m]\nversions = \"1\"");
    assert_eq!(faults.lines().count(), 1, "{faults}");
}

#[test]
fn names_that_would_leave_the_repository_are_refused() {
    for name in ["..", ".hidden", "a/b", "", "a b", "é"] {
        let text = format!("[models.{name:?}]\nversions = [\"1\"]");
        assert!(
            faults(&text).contains("expected a name of 1 to 100 letters"),
            "{name}"
        );
    }
}

#[test]
fn times_and_connections_have_an_upper_bound() {
    let text = format!("max_connections = 1000001\nrequest_timeout_ms = 86400001\n{MODEL}");
    let faults = faults(&text);
    assert!(
        faults.contains("max_connections: expected at most 1000000"),
        "{faults}"
    );
    assert!(
        faults.contains("request_timeout_ms: expected milliseconds"),
        "{faults}"
    );
}

#[test]
fn one_body_of_the_largest_size_fits_the_budget_of_all() {
    let faults = faults(&format!(
        "max_body_bytes = 1000\nmax_upload_bytes = 999\n{MODEL}"
    ));
    assert_eq!(
        faults,
        "b.toml:2: max_upload_bytes: expected at least max_body_bytes, which is 1000, got 999"
    );
}
