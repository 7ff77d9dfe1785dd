//! The document that says what the server answers, held against what it answers.
//!
//! It is written by hand, because that is what its readers want of it; so everything in it that the
//! code also knows is compared here: paths, methods, statuses, headers, reasons, datatypes, version.

use std::collections::BTreeSet;

use aegis_protocol::path::{self, Route};
use aegis_protocol::{Datatype, Reason};
use http::Request;
use http_body_util::Full;
use serde_json::Value;

use crate::support::{Backend, ECHO, Reply, echo_body, infer};

/// Where a model is that may be as you like.
const MODELS: [&str; 2] = [
    "/v2/models/{model}",
    "/v2/models/{model}/versions/{version}",
];

async fn document(backend: &Backend) -> Value {
    let reply = backend.get(path::OPENAPI).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    reply.json()
}

/// How the document writes the path of a route; none of one that we do not serve. The compiler asks
/// for every route that the protocol gets.
fn template(route: &Route<'_>) -> Option<String> {
    let of_model = |version: &Option<_>, rest: &str| {
        Some(format!("{}{rest}", MODELS[usize::from(version.is_some())]))
    };
    match route {
        Route::Server => Some(path::SERVER.to_owned()),
        Route::Live => Some(path::LIVE.to_owned()),
        Route::Ready => Some(path::READY.to_owned()),
        Route::Model { version, .. } => of_model(version, ""),
        Route::ModelReady { version, .. } => of_model(version, "/ready"),
        Route::Infer { version, .. } => of_model(version, "/infer"),
        Route::Generate { .. } => None,
        Route::RepositoryIndex => Some(path::REPOSITORY_INDEX.to_owned()),
        Route::RepositoryLoad { .. } => Some("/v2/repository/models/{model}/load".to_owned()),
        Route::RepositoryUnload { .. } => Some("/v2/repository/models/{model}/unload".to_owned()),
    }
}

/// One path of every route.
fn every_route() -> Vec<String> {
    let mut paths = vec![
        path::SERVER.to_owned(),
        path::LIVE.to_owned(),
        path::READY.to_owned(),
        path::REPOSITORY_INDEX.to_owned(),
        path::repository_load("m"),
        path::repository_unload("m"),
    ];
    for version in [None, Some("1")] {
        paths.push(path::model("m", version));
        paths.push(path::model_ready("m", version));
        paths.push(path::infer("m", version));
        paths.push(path::generate("m", version, false));
        paths.push(path::generate("m", version, true));
    }
    paths
}

/// The object that a reference leads to.
fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.strip_prefix('#').expect("it is in the document"))
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => value,
    }
}

#[tokio::test]
async fn the_document_has_the_paths_and_methods_of_the_router_and_no_others() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let document = document(&backend).await;
    let paths = document["paths"].as_object().unwrap();
    let ours =
        ["/health", "/metrics", path::OPENAPI].map(|path| (path.to_owned(), "get".to_owned()));
    let mut expected: BTreeSet<(String, String)> = ours.into();
    for path in every_route() {
        let route = path::parse(&path).expect("a path of the protocol");
        let method = route.method().as_str().to_lowercase();
        expected.extend(template(&route).map(|template| (template, method)));
    }
    let documented = paths.iter().flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys();
        methods.map(|method| (path.clone(), method.clone()))
    });
    assert_eq!(documented.collect::<BTreeSet<_>>(), expected);
    // And the server says the same: another method is told the documented one.
    for (path, method) in &expected {
        let path = path.replace("{model}", "echo").replace("{version}", "1");
        let request = Request::delete(&path).body(Full::default()).unwrap();
        let reply = backend.send(request).await;
        assert_eq!(reply.status, 405, "{path}");
        let allowed = if method == "get" { "GET, HEAD" } else { "POST" };
        assert_eq!(reply.header("allow"), Some(allowed), "{path}");
        conforms(&document, &path, method, &reply);
    }
}

/// An answer has a documented status, and no header of ours that is not documented for it.
#[track_caller]
fn conforms(document: &Value, path: &str, method: &str, reply: &Reply) {
    let template = match path::parse(path) {
        Some(route) => template(&route).unwrap(),
        None => path.to_owned(),
    };
    let operation = &document["paths"][&template][method];
    let status = reply.status.as_str();
    let response = resolve(document, &operation["responses"][status]);
    assert!(
        response.is_object(),
        "{method} {template}: {status} is not documented"
    );
    let headers = response["headers"].as_object();
    let documented: Vec<String> = headers
        .into_iter()
        .flat_map(|headers| headers.keys().map(|name| name.to_lowercase()))
        .collect();
    let common = ["content-type", "content-length", "date", "connection"];
    for name in reply.headers.keys().map(http::HeaderName::as_str) {
        let known = common.contains(&name) || documented.iter().any(|other| other == name);
        assert!(
            known,
            "{method} {template} {status}: {name} is not documented"
        );
    }
    if reply.status.as_u16() >= 400 && path != path::HEALTH {
        assert!(!reply.error().is_empty());
        assert!(reply.header("x-aegis-reason").is_some());
    }
}

#[tokio::test]
async fn every_answer_that_is_provoked_is_documented_with_its_headers() {
    let keys = "max_body_bytes = 40000\nmax_upload_bytes = 40000";
    let backend = Backend::ready_with(keys, &[("echo", ECHO)]).await;
    let document = document(&backend).await;
    let get = [
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/health",
        "/metrics",
        path::OPENAPI,
    ];
    for path in get
        .into_iter()
        .chain(["/v2/models/echo", "/v2/models/echo/versions/2/ready"])
    {
        let reply = backend.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        conforms(&document, path, "get", &reply);
    }
    for path in ["/v2/models/none", "/v2/models/echo/versions/9/ready"] {
        let reply = backend.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        conforms(&document, path, "get", &reply);
    }
    let body = echo_body(&[1.0]);
    let long = echo_body(&vec![0.25; 3_600]);
    for (name, value, body, status) in [
        ("endpoint-load-metrics-format", "text", &body, 200),
        ("accept-encoding", "gzip", &long, 200),
        ("content-type", "text/plain", &body, 415),
        ("content-encoding", "br", &body, 415),
        ("x-request-timeout-ms", "soon", &body, 400),
        ("x-other", "x", &" ".repeat(50_000), 413),
    ] {
        let mut request = infer("echo", body.clone());
        request.headers_mut().insert(name, value.parse().unwrap());
        let reply = backend.send(request).await;
        assert_eq!(reply.status, status, "{name}: {value}");
        conforms(&document, "/v2/models/echo/infer", "post", &reply);
    }
    for (path, status) in [
        (path::REPOSITORY_INDEX, 200),
        ("/v2/repository/models/echo/load", 403),
        ("/v2/repository/models/echo/unload", 403),
    ] {
        let reply = backend
            .send(Request::post(path).body(Full::default()).unwrap())
            .await;
        assert_eq!(reply.status, status, "{path}");
        conforms(&document, path, "post", &reply);
    }
}

#[tokio::test]
async fn the_documents_lists_are_those_of_the_code() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let document = document(&backend).await;
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let components = &document["components"];
    let names = |pointer: &str| -> Vec<String> {
        let list = components
            .pointer(pointer)
            .and_then(Value::as_array)
            .unwrap();
        let name = |value: &Value| value.as_str().unwrap().to_owned();
        list.iter().map(name).collect()
    };
    assert_eq!(
        names("/schemas/Datatype/enum"),
        Datatype::ALL.map(Datatype::name)
    );
    let reasons = Reason::ALL.map(Reason::name);
    assert_eq!(names("/headers/x-aegis-reason/schema/enum"), reasons);
    // No reference leads nowhere, and none is there for nothing.
    let text = document.to_string();
    for (kind, entries) in components.as_object().unwrap() {
        for name in entries.as_object().unwrap().keys() {
            let reference = format!("\"#/components/{kind}/{name}\"");
            assert!(text.contains(&reference), "{reference} is used nowhere");
        }
    }
    for part in text.split("\"#/").skip(1) {
        let pointer = format!("/{}", part.split('"').next().unwrap());
        assert!(
            document.pointer(&pointer).is_some(),
            "{pointer} leads nowhere"
        );
    }
}
