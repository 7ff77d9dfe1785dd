//! What is asked, and when, is of the seed alone, whatever becomes of the requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aegis_loadtest::{Load, Manner, Part, Pattern, Plan, Questions, Schedule, Spacing, Sticky};
use parking_lot::Mutex;

use crate::server::{Asked, Server, USER, right};
use crate::{digits, rate, target};

/// What was asked: the path, and the example's digit.
type What = (String, String);

/// Sends two kinds of requests, each of which names its own number as its user; gives what each user asked.
async fn asked(max_in_flight: usize, takes: Duration) -> (BTreeMap<String, What>, u64) {
    let heard = Arc::new(Mutex::new(BTreeMap::new()));
    let server = {
        let heard = Arc::clone(&heard);
        Server::start(move |asked: Asked| {
            let what = (asked.path.clone(), asked.digit.to_string());
            let user = asked.user.clone().expect("a user");
            let again = heard.lock().insert(user, what);
            assert_eq!(again, None, "a user of its own for each request");
            async move {
                tokio::time::sleep(takes).await;
                Some(right(&asked))
            }
        })
        .await
    };
    let parts = [("1", 3.0), ("2", 1.0)].map(|(version, weight)| Part {
        name: version.to_owned(),
        weight,
        target: target(&server.url).pinned(version),
        questions: Questions::Table(digits()),
        manner: Manner {
            sticky: Some(Sticky {
                header: USER.parse().expect("a header"),
                keys: u64::MAX,
            }),
            ..Manner::default()
        },
    });
    let profile = aegis_loadtest::Profile::constant(rate(400.0), Duration::from_millis(500));
    let schedule = Schedule::Drawn {
        profile,
        spacing: Spacing::Even,
    };
    let pattern = Pattern::Open {
        schedule,
        warmup: Duration::ZERO,
    };
    let mut plan = Plan::of(parts.into(), pattern);
    plan.max_in_flight = max_in_flight;
    plan.timeout = Duration::from_secs(30);
    let mut load = Load::new(plan).expect("a plan that can run").start();
    load.finished().await;
    let summary = load.stop().await.summary;
    let heard = heard.lock().clone();
    assert_eq!(heard.len() as u64, summary.ok, "{summary}");
    (heard, summary.client.dropped)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_makes_requests_be_dropped_is_asked_what_another_is_at_the_same_time() {
    let (all, dropped) = asked(4096, Duration::ZERO).await;
    assert_eq!((all.len(), dropped), (200, 0));
    let (few, dropped) = asked(3, Duration::from_millis(40)).await;
    assert!(dropped > 0 && few.len() > 10, "{dropped} dropped: {few:?}");
    for (user, what) in &few {
        assert_eq!(Some(what), all.get(user), "user {user}");
    }
    let versions: std::collections::BTreeSet<_> = few.values().map(|(path, _)| path).collect();
    assert_eq!(versions.len(), 2, "{versions:?}");
}
