//! Versions that are served by the pods of a Kubernetes service.
#![cfg(feature = "kubernetes")]

use super::{assert_faults, good};
use crate::config::{Place, ServicePort};

fn version(kubernetes: &str) -> String {
    format!("[models.m.versions.1]\nweight = 1\n{kubernetes}\n")
}

#[test]
fn a_service_stands_in_place_of_endpoints_or_beside_them() {
    for (text, shown, endpoints) in [
        (
            r#"kubernetes = { service = "digits", namespace = "models", port = "http" }"#,
            "models/digits:http",
            1,
        ),
        (
            "endpoints = [\"10.0.0.1:1\"]\nkubernetes = { service = \"digits\", port = 8000 }",
            "digits:8000",
            2,
        ),
        (
            "[models.m.versions.1.kubernetes]\nservice = \"digits\"",
            "digits:*",
            1,
        ),
    ] {
        let config = good(&version(text));
        let version = &config.models["m"].versions["1"];
        assert_eq!(version.endpoints.len(), endpoints, "{text}");
        let place = &version.endpoints.last().unwrap().place;
        assert_eq!(place.to_string(), shown);
        assert_eq!(config.services().len(), 1);
    }
}

#[test]
fn two_versions_may_share_a_service_by_different_ports() {
    let text = r#"
[models.m.versions]
1 = { weight = 1, kubernetes = { service = "a", namespace = "n", port = 8000 } }
2 = { weight = 1, kubernetes = { service = "a", namespace = "n", port = "grpc" } }
"#;
    let config = good(text);
    assert_eq!(config.services().len(), 1, "watched once");
    let ports: Vec<_> = config.places().filter_map(Place::service).collect();
    assert!(matches!(ports[0].1, ServicePort::Number(port) if port.get() == 8000));
}

#[test]
fn every_fault_is_named_with_its_key_and_its_line() {
    let text = r#"
[kubernetes]
api_timeout_ms = 1
renew_after_ms = 999
retry_base_ms = 100
retry_max_ms = 50

[models.m.versions.1]
weight = 1
kubernetes = { service = "Digits", namespace = "a.b", port = 0 }

[models.m.versions.2]
weight = 1
kubernetes = { namespace = "models" }

[models.m.versions.3.kubernetes]
service = "digits"
port = "HTTP"

[models.m.versions.3]
weight = 1

[models.m.versions.4]
weight = 1
kubernetes = { service = "digits", port = 70000, pods = 3 }

[models.m.versions.5]
weight = 1
kubernetes = { service = "digits", port = true }

[models.m.versions.6]
weight = 1
"#;
    let path = |version: u32, key: &str| format!("models.m.versions.{version}.{key}");
    let rejected = crate::config::parse("proxy.toml", text).unwrap_err();
    let faults: Vec<(usize, String)> = rejected
        .faults
        .iter()
        .map(|fault| (fault.line.unwrap_or_default(), fault.path.clone()))
        .collect();
    for (line, path, message) in [
        (3, "kubernetes.api_timeout_ms".to_owned(), "100 to 60000"),
        (4, "kubernetes.renew_after_ms".to_owned(), "1000 to 600000"),
        (
            6,
            "kubernetes.retry_max_ms".to_owned(),
            "at least retry_base_ms",
        ),
        (10, path(1, "kubernetes.service"), "a-z 0-9"),
        (10, path(1, "kubernetes.namespace"), "got '.'"),
        (10, path(1, "kubernetes.port"), "1 to 65535"),
        (14, path(2, "kubernetes.service"), "missing"),
        (18, path(3, "kubernetes.port"), "got 'H'"),
        (25, path(4, "kubernetes.pods"), "unknown"),
        (25, path(4, "kubernetes.port"), "got 70000"),
        (29, path(5, "kubernetes.port"), "name of a port"),
        (31, path(6, "endpoints"), "or `kubernetes`"),
    ] {
        let at = faults
            .iter()
            .position(|fault| *fault == (line, path.clone()));
        let at = at.unwrap_or_else(|| panic!("nothing at {line}: {path} in\n{rejected}"));
        let told = &rejected.faults[at].message;
        assert!(told.contains(message), "{message:?} in\n{rejected}");
    }
}

#[test]
fn a_service_that_changes_is_named_in_the_audit() {
    let of = |service: &str| {
        good(&version(&format!(
            "kubernetes = {{ service = \"{service}\" }}"
        )))
    };
    assert_eq!(
        of("new").diff(&of("old")),
        [
            "models.m.versions.1.endpoints: added new:*",
            "models.m.versions.1.endpoints: removed old:*",
        ]
    );
}

#[test]
fn how_the_api_server_is_asked_cannot_change_while_running() {
    let text = version("kubernetes = { service = \"digits\" }");
    let running = good(&text);
    let changed = format!("[kubernetes]\nkubeconfig = \"/k\"\n{text}");
    let refused = crate::config::reload("proxy.toml", &changed, &running).unwrap_err();
    assert_eq!(refused.faults[0].path, "kubernetes.kubeconfig");
    assert_faults(
        "[kubernetes]\ntoken = \"x\"\n[models.m.versions.1]\nweight = 1\nendpoints = [\"a:1\"]\n",
        &[(2, "kubernetes.token", "unknown")],
    );
}
