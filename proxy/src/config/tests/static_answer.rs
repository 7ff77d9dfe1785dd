//! The static answer: what may be in it, and how a change of it is told.

use http::StatusCode;

use super::{GOOD, assert_faults, good};

fn with(table: &str) -> String {
    format!("{GOOD}[models.digits.static_answer]\n{table}")
}

#[test]
fn a_static_answer_is_taken_as_it_stands() {
    let text = with(
        "status = 200\nbody = '{\"label\": null}'\n\
         headers = [\"content-type: application/json\", \"Set-Cookie: a=b: c\", \"set-cookie: d\"]\n",
    );
    let config = good(&text);
    let answer = config.models["digits"].static_answer.as_ref().unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, "{\"label\": null}");
    let headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        headers,
        [
            ("content-type", "application/json"),
            ("set-cookie", "a=b: c"),
            ("set-cookie", "d"),
        ]
    );
    assert_eq!(good(GOOD).models["digits"].static_answer, None);
}

#[test]
fn a_status_that_ends_no_exchange_is_refused() {
    let at = "models.digits.static_answer.status";
    for status in [100, 101, 199, 600, 65_736] {
        let text = with(&format!("status = {status}\n"));
        assert_faults(&text, &[(6, at, "expected 200 to 599")]);
    }
    let text = with("body = \"a body, and no status to send it with\"\n");
    assert_faults(&text, &[(5, at, "expected 200 to 599, got 0")]);
}

#[test]
fn a_body_is_bounded_and_absent_where_the_status_allows_none() {
    let at = "models.digits.static_answer.body";
    let longest = "x".repeat(64 * 1024);
    good(&with(&format!("status = 503\nbody = \"{longest}\"\n")));
    let text = with(&format!("status = 503\nbody = \"{longest}y\"\n"));
    assert_faults(&text, &[(7, at, "at most 65536 bytes, got 65537")]);
    for status in [204, 205, 304] {
        good(&with(&format!("status = {status}\n")));
        let text = with(&format!("status = {status}\nbody = \"b\"\n"));
        assert_faults(&text, &[(7, at, "at most 0 bytes, got 1")]);
    }
}

#[test]
fn headers_that_the_proxy_writes_itself_and_such_as_are_none_are_refused() {
    let own = "is written by the proxy itself";
    for (header, message) in [
        ("Content-Length: 3", own),
        ("transfer-encoding: chunked", own),
        ("connection: close", own),
        ("Keep-Alive: 5", own),
        ("upgrade: x", own),
        ("X-Aegis-Route: split", own),
        ("x-aegis-reason: none", own),
        ("no colon", "expected \\\"name: value\\\""),
        ("a b: c", "expected the name of a header"),
        (": c", "expected the name of a header"),
        ("x: \\u0007", "expected printable ASCII"),
        ("x: a\\r\\nx-evil: b", "expected printable ASCII"),
        ("x: \u{fc}", "expected printable ASCII"),
    ] {
        let text = with(&format!(
            "status = 200\nheaders = [\"a: b\", \"{header}\"]\n"
        ));
        let message = message.replace("\\\"", "\"");
        let at = "models.digits.static_answer.headers[1]";
        assert_faults(&text, &[(7, at, &message)]);
    }
    let many = vec!["\"a: b\""; 33].join(", ");
    let text = with(&format!("status = 200\nheaders = [{many}]\n"));
    let at = "models.digits.static_answer.headers";
    assert_faults(&text, &[(7, at, "at most 32 headers, got 33")]);
}

#[test]
fn a_version_cannot_have_the_name_that_metrics_give_the_static_answer() {
    let text = with("status = 200\n").replace("versions.1", "versions.static");
    let at = "models.digits.versions";
    assert_faults(
        &text,
        &[(2, at, "could not be told from the static answer")],
    );
    good(&GOOD.replace("versions.1", "versions.static"));
}

#[test]
fn a_change_of_it_is_told_and_a_long_body_is_not_told_whole() {
    let off = good(GOOD);
    let on = good(&with(
        "status = 200\nbody = \"hello\"\nheaders = [\"a: b\"]\n",
    ));
    assert_eq!(
        on.diff(&off),
        [
            "models.digits.static_answer.body: \"\" -> \"hello\"",
            "models.digits.static_answer.headers: [] -> [\"a: b\"]",
            "models.digits.static_answer.status: 0 -> 200",
        ]
    );
    let long = good(&with(&format!(
        "status = 200\nbody = \"{}\"\n",
        "\u{fc}".repeat(9_999)
    )));
    let lines = long.diff(&off);
    assert!(lines[0].ends_with("... (20000 bytes)"), "{}", lines[0]);
    assert!(lines.iter().all(|line| line.len() < 400), "{lines:?}");
}
