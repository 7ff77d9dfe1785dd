use proptest::prelude::*;

use super::*;

fn infer_of(model: &'static str, version: Option<&'static str>) -> Route<'static> {
    Route::Infer {
        model: model.into(),
        version: version.map(Into::into),
    }
}

#[test]
fn every_path_of_the_protocol_has_its_route() {
    let model = || Cow::from("digits");
    assert_eq!(parse("/v2"), Some(Route::Server));
    assert_eq!(parse("/v2/"), Some(Route::Server));
    assert_eq!(parse(LIVE), Some(Route::Live));
    assert_eq!(parse(READY), Some(Route::Ready));
    assert_eq!(
        parse("/v2/models/digits"),
        Some(Route::Model {
            model: model(),
            version: None
        })
    );
    assert_eq!(
        parse("/v2/models/digits/versions/2/ready"),
        Some(Route::ModelReady {
            model: model(),
            version: Some("2".into())
        })
    );
    assert_eq!(
        parse("/v2/models/digits/infer"),
        Some(infer_of("digits", None))
    );
    assert_eq!(
        parse("/v2/models/digits/versions/2/infer"),
        Some(infer_of("digits", Some("2")))
    );
}

#[test]
fn what_a_model_writes_has_a_path_for_all_of_it_and_one_for_its_events() {
    for stream in [false, true] {
        let expected = Route::Generate {
            model: "m".into(),
            version: Some("2".into()),
            stream,
        };
        assert_eq!(parse(&generate("m", Some("2"), stream)), Some(expected));
    }
    assert_eq!(parse("/v2/models/m/generated"), None);
}

#[test]
fn the_repository_has_an_index_and_paths_that_load_and_unload() {
    assert_eq!(parse(REPOSITORY_INDEX), Some(Route::RepositoryIndex));
    let model = || "a/b".into();
    let load = Some(Route::RepositoryLoad { model: model() });
    assert_eq!(parse(&repository_load("a/b")), load);
    let unload = Some(Route::RepositoryUnload { model: model() });
    assert_eq!(parse(&repository_unload("a/b")), unload);
    for path in [
        "/v2/repository",
        "/v2/repository/",
        "/v2/repository/index/",
        "/v2/repository/models/m",
        "/v2/repository/models/m/reload",
        "/v2/repository/models//load",
        "/v2/repository/models/../load",
        "/v2/repository/models/m/versions/1/load",
    ] {
        assert_eq!(parse(path), None, "{path}");
    }
}

#[test]
fn only_work_is_posted() {
    assert_eq!(infer_of("digits", None).method(), Method::POST);
    assert_eq!(Route::Ready.method(), Method::GET);
}

#[test]
fn an_escaped_slash_stays_inside_the_name() {
    assert_eq!(parse("/v2/models/a%2Fb/infer"), Some(infer_of("a/b", None)));
}

#[test]
fn what_is_no_path_of_the_protocol_has_no_route() {
    for path in [
        "",
        "/",
        "/v1",
        "/v2x",
        "/v2/health",
        "/v2/models",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/../infer",
        "/v2/models/%2e%2E/infer",
        "/v2/models/m/infer/",
        "/v2/models/m/versions",
        "/v2/models/m/versions/",
        "/v2/models/m/versions//infer",
        "/v2/models/m/train",
        "/v2/models/%zz/infer",
        "/v2/models/%f/infer",
        "/v2/models/%ff/infer",
        "/v2/models/a%0Ab/infer",
    ] {
        assert_eq!(parse(path), None, "{path}");
    }
    assert_eq!(parse(&format!("/v2/models/{}", "m".repeat(257))), None);
}

proptest! {
    #[test]
    fn a_written_path_is_read_back(
        model in r"[^\p{C}]{1,40}",
        version in proptest::option::of(r"[^\p{C}]{1,40}"),
    ) {
        prop_assume!(![".", ".."].contains(&model.as_str()));
        prop_assume!(!matches!(version.as_deref(), Some("." | "..")));
        let route = Route::Infer {
            model: model.as_str().into(),
            version: version.as_deref().map(Into::into),
        };
        let written = infer(&model, version.as_deref());
        prop_assert!(written.is_ascii());
        prop_assert_eq!(parse(&written), Some(route));
    }

    #[test]
    fn no_text_makes_the_parser_panic(path in r"(/v2/models/)?.{0,60}") {
        let _ = parse(&path);
    }
}
