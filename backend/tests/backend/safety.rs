//! Safety checks over the wire: what is blocked, what is flagged, and whom it costs.

use std::sync::Arc;

use aegis_backend::model::{Factory, Model, ModelError, scripted};
use aegis_backend::repository::Platform;
use aegis_protocol::{Tensor, path};
use serde_json::json;

use crate::support::{Backend, ECHO, Reply, Setup, echo_body, until};

/// [`ECHO`] with these checks.
fn echo(checks: &str) -> String {
    format!("{ECHO}\n[safety]\n{checks}")
}

fn flags(reply: &Reply) -> Option<&str> {
    reply.header("x-aegis-safety-flags")
}

async fn counted(backend: &Backend, reason: &str, action: &str) -> String {
    let series = format!(
        "aegis_safety_flags_total{{action=\"{action}\",model=\"m\",model_version=\"1\",\
         reason=\"{reason}\"}}"
    );
    backend.metric(&series).await.to_string()
}

#[tokio::test]
async fn a_row_out_of_range_blocks_its_request_and_says_why() {
    let model = echo("range = [{ input = \"x\", min = 0, max = 16 }]");
    let backend = Backend::ready(&[("m", &model)]).await;
    let good = backend.infer("m", echo_body(&[0.0, 16.0])).await;
    assert_eq!((good.status.as_u16(), flags(&good)), (200, None));
    assert!(good.json().get("parameters").is_none(), "{}", good.text());
    let bad = backend.infer("m", echo_body(&[3.0, 17.0])).await;
    assert_eq!(bad.status, 422);
    assert_eq!(bad.header("x-aegis-reason"), Some("safety"));
    assert_eq!(flags(&bad), Some("range"));
    assert_eq!(
        bad.error(),
        "input `x`: expected numbers from 0 to 16, got 17 at element 2"
    );
    assert_eq!(counted(&backend, "range", "block").await, "1");
}

#[tokio::test]
async fn what_is_flagged_is_answered_and_names_reasons_and_rows() {
    let model = echo(
        "range = [{ input = \"x\", max = 1, action = \"flag\" }]\n\
         low_confidence = [{ output = \"y\", min = 0.5, action = \"flag\" }]\n\
         output_range = [{ output = \"y\", max = 2, action = \"log\" }]",
    );
    let backend = Backend::ready(&[("m", &model)]).await;
    let reply = backend.infer("m", echo_body(&[0.75, 3.0, 0.125])).await;
    assert_eq!(reply.output(0), [0.75, 0.75, 3.0, 3.0, 0.125, 0.125]);
    assert_eq!(flags(&reply), Some("range,low_confidence"));
    assert_eq!(
        reply.json()["parameters"]["safety_flags"],
        "range=1 low_confidence=2"
    );
    for (reason, action) in [
        ("range", "flag"),
        ("low_confidence", "flag"),
        ("output_range", "log"),
    ] {
        assert_eq!(counted(&backend, reason, action).await, "1", "{reason}");
    }
}

/// A row of 3 for [`ECHO`], with these parameters.
fn with_parameters(parameters: &str) -> String {
    let body = echo_body(&[3.0]);
    let rest = body.strip_prefix('{').unwrap();
    format!("{{\"parameters\": {parameters}, {rest}")
}

#[tokio::test]
async fn what_is_found_is_counted_though_the_deadline_passes_before_the_request_is_queued() {
    let model = echo("range = [{ input = \"x\", max = 1, action = \"flag\" }]");
    let backend = Backend::ready(&[("m", &model)]).await;
    // A microsecond from its arrival, which decoding alone takes longer than.
    let late = backend
        .infer("m", with_parameters("{\"timeout\": 1}"))
        .await;
    assert_eq!(late.status, 504, "{}", late.text());
    assert_eq!(counted(&backend, "range", "flag").await, "1");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_not_looked_at() {
    let model =
        echo("size = { max_rows = 8, action = \"flag\" }\nrange = [{ input = \"x\", max = 1 }]");
    let backend = Backend::ready(&[("m", &model)]).await;
    let bad = backend
        .infer("m", with_parameters("{\"priority\": 11}"))
        .await;
    assert_eq!((bad.status.as_u16(), flags(&bad)), (400, None));
    assert!(
        bad.error().starts_with("parameters.priority"),
        "{}",
        bad.error()
    );
    assert_eq!(counted(&backend, "range", "block").await, "0");
    let unsafe_ = backend
        .infer("m", with_parameters("{\"priority\": 1}"))
        .await;
    assert_eq!(flags(&unsafe_), Some("range"));
    assert_eq!(counted(&backend, "range", "block").await, "1");
}

#[tokio::test]
async fn a_blocked_answer_costs_nothing_to_its_neighbours_in_the_batch() {
    let model = echo("output_range = [{ output = \"y\", max = 16 }]")
        .replace("[scripted]", "[scripted]\nbatch_ms = 50.0");
    let backend = Backend::ready(&[("m", &model)]).await;
    let values = [1.0, 99.0, 2.0, 3.0];
    let asked = values.map(|value| backend.infer("m", echo_body(&[value])));
    let [a, bad, c, d] = futures::future::join_all(asked).await.try_into().unwrap();
    assert_eq!(bad.status, 422);
    assert_eq!(flags(&bad), Some("output_range"));
    for (reply, value) in [(a, 1.0), (c, 2.0), (d, 3.0)] {
        assert_eq!(reply.output(0), [value; 2]);
    }
}

#[tokio::test]
async fn a_large_request_is_refused_by_its_rows_and_another_shape_is_counted_as_schema() {
    let model = echo("size = { max_rows = 2 }");
    let backend = Backend::ready(&[("m", &model)]).await;
    let large = backend.infer("m", echo_body(&[0.0; 3])).await;
    assert_eq!(large.error(), "request: expected at most 2 rows, got 3");
    assert_eq!(counted(&backend, "size", "block").await, "1");
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0] }] });
    let other = backend.infer("m", body.to_string()).await;
    assert_eq!(
        (other.status.as_u16(), flags(&other)),
        (400, Some("schema"))
    );
    assert_eq!(counted(&backend, "schema", "block").await, "1");
}

/// One text in, and out again.
const TEXT: &str = r#"
platform = "scripted"
[[inputs]]
name = "text"
datatype = "BYTES"
shape = [-1]
[[outputs]]
name = "echo"
datatype = "BYTES"
shape = [-1]
[scripted]
answer = "identity"
[safety]
blocklist = [{ input = "text", words = ["attack"] }]
pattern = [{ input = "text", patterns = ['\d{4}-\d{4}'], action = "flag" }]
"#;

#[tokio::test]
async fn words_and_patterns_are_found_in_text() {
    let backend = Backend::ready(&[("m", TEXT)]).await;
    let ask = async |texts: &[&str]| {
        let shape = [texts.len()];
        let body = json!({ "inputs": [{ "name": "text", "datatype": "BYTES", "shape": shape, "data": texts }] });
        backend.infer("m", body.to_string()).await
    };
    assert_eq!(flags(&ask(&["hello"]).await), None);
    let blocked = ask(&["hello", "an ATTACK"]).await;
    assert_eq!(flags(&blocked), Some("blocklist"));
    assert_eq!(
        blocked.error(),
        "input `text`: term 0 of the blocklist is in element 1",
        "the text itself is not repeated"
    );
    let flagged = ask(&["card 1234-5678"]).await;
    assert_eq!(
        (flagged.status.as_u16(), flags(&flagged)),
        (200, Some("pattern"))
    );
}

/// The score is the sum of a row.
const GUARD: &str = r#"
platform = "scripted"
[[inputs]]
name = "features"
datatype = "FP32"
shape = [-1, 2]
[[outputs]]
name = "score"
datatype = "FP32"
shape = [-1, 1]
[scripted]
answer = "sum"
"#;

fn guarded(more: &str) -> String {
    echo(&format!(
        "{more}\nguard = [{{ model = \"g\", inputs = {{ features = \"x\" }}, output = \"score\", max = 10 }}]"
    ))
}

#[tokio::test]
async fn a_guard_models_score_decides() {
    let backend = Backend::ready(&[("g", GUARD), ("m", &guarded(""))]).await;
    assert_eq!(backend.infer("m", echo_body(&[5.0])).await.status, 200);
    let blocked = backend.infer("m", echo_body(&[1.0, 5.5])).await;
    assert_eq!(
        (blocked.status.as_u16(), flags(&blocked)),
        (422, Some("guard"))
    );
    assert_eq!(
        blocked.error(),
        "guard model `g`: expected a score of at most 10, got 11.0000 in row 1"
    );
    assert_eq!(counted(&backend, "guard", "block").await, "1");
}

#[tokio::test]
async fn a_guard_that_fails_is_what_on_error_says() {
    let broken = GUARD.replace("[scripted]", "[scripted]\nfail_every = 1");
    for (on_error, status) in [("block", 422), ("flag", 200), ("log", 200)] {
        let model = guarded(&format!("on_error = \"{on_error}\""));
        let backend = Backend::ready(&[("g", &broken), ("m", &model)]).await;
        let reply = backend.infer("m", echo_body(&[1.0])).await;
        assert_eq!(reply.status, status, "{on_error}: {}", reply.text());
        let told = (on_error != "log").then_some("guard");
        assert_eq!(flags(&reply), told, "{on_error}");
        assert_eq!(
            counted(&backend, "guard", on_error).await,
            "1",
            "{on_error}"
        );
    }
}

/// Loads the versions of one model alone, to be run by this in place of what it says, where it is given.
fn load_alone(backend: &Backend, model: &str, factory: Option<&Factory>) {
    for served in backend.app.models.all() {
        if served.name != model {
            continue;
        }
        let spec = served.spec().unwrap();
        let Platform::Scripted(script) = &spec.platform else {
            panic!("it is scripted")
        };
        let own = || scripted::factory(script.clone(), (*spec.signature).clone());
        let factory = factory.map_or_else(own, Arc::clone);
        served.load(Ok(factory), &Arc::default());
    }
}

/// Panics at its first request.
struct Panics;

impl Model for Panics {
    fn run(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        panic!("a panic that the test asked for")
    }

    fn warm_up(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        let rows = batch[0].rows().unwrap();
        Ok(vec![Tensor::from_f32([rows, 1], &vec![0.0; rows]).unwrap()])
    }
}

/// That it is not ready, for this reason, and that another try may help.
#[track_caller]
fn assert_unguarded(reply: &Reply, reason: &str) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.header("x-aegis-reason"), Some("not_ready"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(flags(reply), None);
    let expected = format!("model `m` version `1` is not ready: guard model `g`: {reason}");
    assert_eq!(reply.error(), expected);
}

#[tokio::test]
async fn while_its_guard_is_not_ready_a_model_is_not_either() {
    let backend = Setup {
        keys: "",
        models: &[("g", GUARD), ("m", &guarded(""))],
    }
    .listen()
    .await;
    load_alone(&backend, "m", None);
    let reply = backend.infer("m", echo_body(&[1.0])).await;
    assert_unguarded(&reply, "it is loading");
    let ready = backend.get("/v2/models/m/ready").await;
    assert_unguarded(&ready, "it is loading");
    let health = backend.get("/health").await;
    assert_eq!(health.status, 503);
    let models = health.json()["models"].clone();
    let own = models
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "m");
    assert_eq!(own.unwrap()["reason"], "guard model `g`: it is loading");
    assert_eq!(counted(&backend, "guard", "block").await, "0");
    // The rest.
    backend.load();
    let backend = backend.when_ready().await;
    assert_eq!(backend.get("/v2/models/m/ready").await.status, 200);
    assert_eq!(backend.infer("m", echo_body(&[1.0])).await.status, 200);
}

#[tokio::test]
async fn a_model_that_answers_without_its_guard_is_ready_without_it() {
    let backend = Setup {
        keys: "",
        models: &[("g", GUARD), ("m", &guarded("on_error = \"flag\""))],
    }
    .listen()
    .await;
    load_alone(&backend, "m", None);
    assert_eq!(backend.get("/v2/models/m/ready").await.status, 200);
    let reply = backend.infer("m", echo_body(&[1.0])).await;
    assert_eq!((reply.status.as_u16(), flags(&reply)), (200, Some("guard")));
}

#[tokio::test]
async fn a_guard_that_has_died_blocks_nobody_for_good() {
    let backend = Setup {
        keys: "",
        models: &[("g", GUARD), ("m", &guarded(""))],
    }
    .listen()
    .await;
    load_alone(&backend, "m", None);
    let panics: Factory = Arc::new(|| Ok(Box::new(Panics)));
    load_alone(&backend, "g", Some(&panics));
    // The rows may be what killed it.
    let first = backend.infer("m", echo_body(&[1.0])).await;
    assert_eq!((first.status.as_u16(), flags(&first)), (422, Some("guard")));
    let broken = || async { backend.get("/v2/models/g/ready").await.status == 503 };
    until(broken).await;
    let reply = backend.infer("m", echo_body(&[1.0])).await;
    assert_unguarded(&reply, "the model has stopped");
    let ready = backend.get("/v2/models/m/ready").await;
    assert_unguarded(&ready, "instance 0 of g/1 panicked");
}

#[tokio::test]
async fn a_guard_that_is_unloaded_takes_its_model_out_until_it_is_back() {
    let keys = "model_control = \"explicit\"";
    let backend = Backend::ready_with(keys, &[("g", GUARD), ("m", &guarded(""))]).await;
    let reply = backend.post(&path::repository_unload("g"), "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = backend.infer("m", echo_body(&[1.0])).await;
    assert_unguarded(&reply, "it is not served here");
    let ready = backend.get("/v2/health/ready").await;
    assert_unguarded(&ready, "it is not served here");
    let index = backend.post(path::REPOSITORY_INDEX, "").await.json();
    assert_eq!(index[0]["state"], "UNAVAILABLE", "{index}");
    assert_eq!(index[0]["reason"], "guard model `g`: it is not served here");
    let reply = backend.post(&path::repository_load("g"), "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(backend.infer("m", echo_body(&[1.0])).await.status, 200);
    assert_eq!(backend.get("/v2/health/ready").await.status, 200);
}

#[tokio::test]
async fn a_guard_has_no_more_time_than_the_request() {
    let slow = GUARD.replace("[scripted]", "[scripted]\nbatch_ms = 20000.0");
    let model = guarded("");
    // Warm-up of a scripted model takes no time.
    let backend = Backend::ready(&[("g", &slow), ("m", &model)]).await;
    let mut request = crate::support::infer("m", echo_body(&[1.0]));
    let headers = request.headers_mut();
    headers.insert("x-request-timeout-ms", "100".parse().unwrap());
    let reply = backend.send(request).await;
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert_eq!(counted(&backend, "guard", "block").await, "0");
}

#[tokio::test]
async fn a_model_whose_guard_is_missing_or_unfit_is_not_loaded() {
    let unfit = GUARD.replace("features", "text");
    for (models, reason) in [
        (
            vec![("m", guarded(""))],
            "guard model `g`: it is not served here",
        ),
        (
            vec![("g", unfit), ("m", guarded(""))],
            "guard model `g`: its input `text` is not given",
        ),
        (
            vec![(
                "g",
                echo(
                    "guard = [{ model = \"g\", inputs = { x = \"x\" }, output = \"y\", max = 1 }]",
                ),
            )],
            "guard model `g`: a model cannot guard itself",
        ),
    ] {
        let models: Vec<_> = models
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let backend = Setup {
            keys: "",
            models: &models,
        }
        .start()
        .await;
        until(|| async { backend.get("/health").await.text().contains(reason) }).await;
        assert_eq!(backend.get("/v2/health/ready").await.status, 503);
    }
}

const STATISTICS: &str = r#"{"format":"aegis-safety-1","provenance":{"program":"p","data":[],
    "fitted_rows":3,"calibrated_rows":1,"false_positive_rate":0.01},
    "inputs":{"x":{"method":"mahalanobis","limit":3.0,"shrinkage":0.1,"mean":[1,1],"cholesky":[1,0,1]}}}"#;

#[tokio::test]
async fn statistics_beside_a_version_decide_what_is_strange_and_without_them_it_is_not_loaded() {
    let model = echo("ood_input = [{ input = \"x\" }]");
    let models = [("m", model.as_str())];
    let setup = Setup {
        keys: "",
        models: &models,
    };
    let backend = setup.listen().await;
    let version = backend.folder.path().join("models/m/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("safety.json"), STATISTICS).unwrap();
    backend.load();
    let has = |part: &'static str| {
        let backend = &backend;
        move || async move { backend.get("/health").await.text().contains(part) }
    };
    until(has("the model's safety checks need safety.json")).await;
    let path = "/v2/models/m/versions/1/ready";
    until(|| async { backend.get(path).await.status == 200 }).await;
    assert_eq!(backend.infer("m", echo_body(&[2.0])).await.status, 200);
    let strange = backend.infer("m", echo_body(&[1.0, 4.0])).await;
    assert_eq!(flags(&strange), Some("ood_input"));
    assert_eq!(
        strange.error(),
        "input `x`: expected a distance of at most 3.0000 from what the model knows, got 4.2426 in row 1"
    );
}

#[tokio::test]
async fn every_reason_and_action_is_there_at_0() {
    let backend = Backend::ready(&[("m", ECHO)]).await;
    for reason in aegis_backend::safety::Check::ALL {
        for action in aegis_backend::safety::Action::ALL {
            assert_eq!(counted(&backend, reason.name(), action.name()).await, "0");
        }
    }
}
