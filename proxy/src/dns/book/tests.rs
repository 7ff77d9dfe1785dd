use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::clock;

const FORGET_AFTER: u32 = 2;

fn host() -> HostName {
    HostName::new("pods").unwrap()
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn answer(last: &[u8]) -> Answer {
    Answer {
        addresses: last.iter().copied().map(ip).collect(),
        ..Answer::default()
    }
}

fn book() -> Book {
    let book = Book::default();
    book.follow(&BTreeSet::from([&host()]));
    book
}

fn take(book: &Book, outcome: &Result<Answer, LookupError>) -> Option<u32> {
    book.take(&host(), outcome, FORGET_AFTER, clock::now())
}

fn known(book: &Book) -> Vec<IpAddr> {
    book.addresses(&host()).expect("the name was answered")
}

#[test]
fn a_name_has_no_addresses_before_its_first_answer() {
    let book = book();
    assert_eq!(book.addresses(&host()), None);
    assert_eq!(take(&book, &Err(LookupError::Timeout)), Some(1));
    assert_eq!(book.addresses(&host()), None);
    take(&book, &Ok(answer(&[1])));
    assert_eq!(known(&book), [ip(1)]);
}

#[test]
fn failures_change_no_address_and_are_counted_until_an_answer() {
    let book = book();
    take(&book, &Ok(answer(&[1, 2])));
    for n in 1..=10 {
        assert_eq!(take(&book, &Err(LookupError::NoSuchName)), Some(n));
    }
    assert_eq!(known(&book), [ip(1), ip(2)]);
    assert_eq!(book.failing(), 1);
    let status = &book.status(clock::now())["pods"];
    assert_eq!(status.error, Some(LookupError::NoSuchName));
    assert_eq!(take(&book, &Ok(answer(&[1, 2]))), Some(10));
    assert_eq!(book.failing(), 0);
}

#[test]
fn an_address_goes_when_answers_in_a_row_lack_it() {
    let book = book();
    take(&book, &Ok(answer(&[1, 2])));
    take(&book, &Ok(answer(&[1, 3])));
    assert_eq!(known(&book), [ip(1), ip(2), ip(3)]);
    assert_eq!(book.status(clock::now())["pods"].missing, 1);
    take(&book, &Ok(answer(&[1, 3])));
    assert_eq!(known(&book), [ip(1), ip(3)]);
}

#[test]
fn a_name_server_that_answers_in_turns_moves_nothing() {
    let book = book();
    take(&book, &Ok(answer(&[1, 2])));
    take(&book, &Ok(answer(&[3, 4])));
    for _ in 0..10 {
        take(&book, &Ok(answer(&[1, 2])));
        assert_eq!(known(&book), [ip(1), ip(2), ip(3), ip(4)]);
        take(&book, &Ok(answer(&[3, 4])));
        assert_eq!(known(&book), [ip(1), ip(2), ip(3), ip(4)]);
    }
}

#[test]
fn a_family_that_could_not_be_asked_for_stays_as_it_was() {
    let book = book();
    let six = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
    let both = Answer {
        addresses: BTreeSet::from([ip(1), six]),
        ..Answer::default()
    };
    let four = Answer {
        addresses: BTreeSet::from([ip(2)]),
        unknown: Some(Family::V6),
        ..Answer::default()
    };
    take(&book, &Ok(both));
    for _ in 0..5 {
        take(&book, &Ok(four.clone()));
    }
    assert_eq!(known(&book), [ip(2), six]);
}

#[test]
fn a_name_with_too_many_addresses_keeps_those_that_it_has() {
    let book = book();
    let many = |range: std::ops::Range<u32>| {
        let addresses = range.map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        Ok(Answer {
            addresses: addresses.collect(),
            ..Answer::default()
        })
    };
    take(&book, &many(500..1_500));
    let before = known(&book);
    take(&book, &many(0..1_500));
    assert_eq!(known(&book), before);
    assert_eq!(book.left_out(), 500);
    take(&book, &many(500..600));
    assert_eq!(book.left_out(), 0);
}

#[test]
fn names_that_are_not_followed_any_more_are_forgotten() {
    let book = book();
    take(&book, &Ok(answer(&[1])));
    book.follow(&BTreeSet::from([&host()]));
    assert_eq!(known(&book), [ip(1)], "it was followed all along");
    book.follow(&BTreeSet::new());
    assert_eq!(take(&book, &Ok(answer(&[1]))), None);
    assert!(book.status(clock::now()).is_empty());
}

proptest! {
    /// The reference remembers the last answers and unites them.
    #[test]
    fn what_is_known_is_the_union_of_the_last_answers(
        answers in proptest::collection::vec(
            prop_oneof![
                3 => proptest::collection::btree_set(0..8_u8, 1..6).prop_map(Some),
                1 => Just(None),
            ],
            1..40,
        ),
        forget_after in 1..5_u32,
    ) {
        let book = book();
        let mut last: VecDeque<BTreeSet<IpAddr>> = VecDeque::new();
        for round in &answers {
            let outcome = match round {
                Some(addresses) => {
                    let addresses: BTreeSet<_> = addresses.iter().copied().map(ip).collect();
                    last.push_back(addresses.clone());
                    if last.len() > forget_after as usize {
                        last.pop_front();
                    }
                    Ok(Answer { addresses, ..Answer::default() })
                }
                None => Err(LookupError::Timeout),
            };
            book.take(&host(), &outcome, forget_after, clock::now());
            let union: BTreeSet<IpAddr> = last.iter().flatten().copied().collect();
            let known = book.addresses(&host()).unwrap_or_default();
            prop_assert_eq!(known, union.into_iter().collect::<Vec<_>>());
        }
    }
}
