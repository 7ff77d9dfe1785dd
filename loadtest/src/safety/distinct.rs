//! Cases that ask the same are one: a server that is asked again shows nothing new.
//!
//! A bound of so many cases takes them for independent of each other, and three thousand lines with one request are
//! one. Requests are the same when a model would be given the same, however their JSON is written and whatever
//! `id` they have; bodies that are no request, when their bytes are. What was judged differently from time to time
//! is judged by the worst of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use aegis_protocol::InferRequest;
use bytes::Bytes;

use super::{Case, Fate};

/// The different ones of judged cases, in their order, and how many were the same as one before.
pub(super) fn distinct<'c>(
    judged: impl Iterator<Item = (&'c Case, Fate)>,
) -> (Vec<(&'c Case, Fate)>, u64) {
    let mut places = HashMap::new();
    let mut different: Vec<(&Case, Fate)> = Vec::new();
    let mut repeats = 0;
    for (case, fate) in judged {
        // One that is said to be both safe and unsafe is judged as either.
        match places.entry((case.expect.is_empty(), asks(case))) {
            Entry::Vacant(place) => {
                place.insert(different.len());
                different.push((case, fate));
            }
            Entry::Occupied(place) => {
                repeats += 1;
                let known = different.get_mut(*place.get());
                if let Some(known) =
                    known.filter(|known| badness(case, &fate) > badness(known.0, &known.1))
                {
                    *known = (case, fate);
                }
            }
        }
    }
    (different, repeats)
}

/// What a model would be given.
fn asks(case: &Case) -> Bytes {
    let request = InferRequest::from_json(&case.body).ok();
    let anonymous = request.and_then(|request| {
        let request = InferRequest {
            id: None,
            ..request
        };
        request.to_json().ok()
    });
    anonymous.map_or_else(|| case.body.clone(), Bytes::from)
}

/// How bad it is that this became of a case; the higher the worse.
fn badness(case: &Case, fate: &Fate) -> u8 {
    let other = |reasons: &[String]| !reasons.iter().any(|reason| case.expect.contains(reason));
    match (case.expect.is_empty(), fate) {
        (true, Fate::Passed) => 0,
        (true, Fate::Unjudged(_)) => 1,
        (true, Fate::Flagged(_)) => 2,
        (true, Fate::Blocked(_)) => 3,
        (false, Fate::Blocked(reasons)) => u8::from(other(reasons)),
        (false, Fate::Flagged(reasons)) => 2 + u8::from(other(reasons)),
        (false, Fate::Unjudged(_)) => 4,
        (false, Fate::Passed) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(expect: &[&str], body: &str) -> Case {
        Case {
            name: body.to_owned(),
            expect: expect.iter().map(|reason| (*reason).to_owned()).collect(),
            body: body.to_owned().into(),
        }
    }

    fn request(more: &str, data: &str) -> String {
        format!(
            r#"{{{more}"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":{data}}}]}}"#
        )
    }

    fn blocked(reason: &str) -> Fate {
        Fate::Blocked(vec![reason.to_owned()])
    }

    #[test]
    fn requests_are_the_same_when_a_model_would_be_given_the_same() {
        let bodies = [
            request("", "[1,2]"),
            request("", "[1.0, 2.00]"),
            request("\"id\":\"a\",", "[[1,2]]"),
            request("", "[1,3]"),
            request("\"parameters\":{\"priority\":1},", "[1,2]"),
            // No requests: by their bytes.
            request("", "[NaN,2]"),
            request("", "[NaN, 2]"),
            request("", "[NaN,2]"),
            "{".to_owned(),
            "{".to_owned(),
        ];
        let cases: Vec<_> = bodies.iter().map(|body| case(&["range"], body)).collect();
        let judged = cases.iter().map(|case| (case, blocked("range")));
        let (different, repeats) = distinct(judged);
        let names: Vec<_> = different.iter().map(|(case, _)| &case.name).collect();
        let kept = [0, 3, 4, 5, 6, 8].map(|at| &bodies[at]);
        assert_eq!((names, repeats), (kept.to_vec(), 4));
    }

    #[test]
    fn a_repeat_counts_once_and_by_the_worst_that_became_of_it() {
        let of = |expect: &[&str], fates: &[Fate]| {
            let case = case(expect, "x");
            let judged = fates.iter().map(|fate| (&case, fate.clone()));
            let (different, repeats) = distinct(judged);
            assert_eq!((different.len(), repeats), (1, fates.len() as u64 - 1));
            different[0].1.clone()
        };
        let lost = Fate::Unjudged("503".to_owned());
        let flagged = Fate::Flagged(vec!["range".to_owned()]);
        let unsafe_ = [
            blocked("range"),
            blocked("other"),
            flagged.clone(),
            lost.clone(),
            Fate::Passed,
        ];
        let safe = [Fate::Passed, lost, flagged, blocked("range")];
        for (expect, order) in [(&["range"][..], &unsafe_[..]), (&[][..], &safe[..])] {
            for worst in 1..order.len() {
                let mut fates = order[..=worst].to_vec();
                assert_eq!(of(expect, &fates), order[worst]);
                fates.reverse();
                assert_eq!(of(expect, &fates), order[worst]);
            }
        }
    }

    #[test]
    fn one_that_is_called_both_safe_and_unsafe_is_two() {
        let [safe, unsafe_] = [case(&[], "x"), case(&["range"], "x")];
        let judged = [(&safe, Fate::Passed), (&unsafe_, Fate::Passed)];
        assert_eq!(distinct(judged.into_iter()).1, 0);
    }
}
