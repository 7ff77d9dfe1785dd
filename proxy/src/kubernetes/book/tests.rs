//! What is kept of a service, and for how long.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    config::Label,
    kubernetes::{Listing, Member, Port},
};

fn service(name: &str) -> ServiceName {
    ServiceName {
        namespace: Some(Label::new("models").unwrap()),
        name: Label::new(name).unwrap(),
    }
}

fn slice(name: &str, last: u8, condition: Condition) -> Slice {
    Slice {
        name: name.into(),
        ports: vec![Port {
            name: "http".into(),
            number: Some(80),
        }],
        members: vec![Member {
            ip: [10, 0, 0, last].into(),
            condition,
            zone: None,
            target: None,
        }],
    }
}

fn listed(slices: Vec<Slice>) -> News {
    News::Listed(Listing {
        version: "1".into(),
        slices,
        left_out: 0,
    })
}

fn addresses(book: &Book, service: &ServiceName) -> Option<Vec<String>> {
    let pods = book.pods(service, &ServicePort::Only)?;
    Some(pods.iter().map(|pod| pod.address.to_string()).collect())
}

fn failed() -> News {
    News::Failed(WatchError::Timeout)
}

struct Rig {
    book: Book,
    service: ServiceName,
    start: Instant,
}

impl Rig {
    fn new() -> Self {
        let (book, service) = (Book::default(), service("digits"));
        book.follow(&BTreeSet::from([&service]));
        Self {
            book,
            service,
            start: crate::clock::now(),
        }
    }

    fn take(&self, news: News) -> u32 {
        self.take_at(news, 0)
    }

    fn take_at(&self, news: News, seconds: u64) -> u32 {
        let now = self.start + Duration::from_secs(seconds);
        self.book.take(&self.service, news, now).unwrap()
    }

    fn addresses(&self) -> Option<Vec<String>> {
        addresses(&self.book, &self.service)
    }

    fn status_at(&self, seconds: u64) -> ServiceStatus {
        let now = self.start + Duration::from_secs(seconds);
        self.book.status(now)["models/digits"].clone()
    }
}

#[test]
fn changes_are_made_to_what_was_listed_and_a_list_replaces_it() {
    let rig = Rig::new();
    assert_eq!(rig.addresses(), None, "before the first list");
    let (a, b) = (
        slice("a", 1, Condition::Ready),
        slice("b", 2, Condition::Ready),
    );
    rig.take(listed(vec![a.clone(), b.clone()]));
    assert_eq!(rig.addresses().unwrap(), ["10.0.0.1:80", "10.0.0.2:80"]);
    rig.take(News::Put(slice("b", 3, Condition::Ready)));
    assert_eq!(rig.addresses().unwrap(), ["10.0.0.1:80", "10.0.0.3:80"]);
    rig.take(News::Gone("a".into()));
    assert_eq!(rig.addresses().unwrap(), ["10.0.0.3:80"]);
    rig.take(listed(vec![a]));
    assert_eq!(rig.addresses().unwrap(), ["10.0.0.1:80"]);
    rig.take(listed(Vec::new()));
    assert_eq!(rig.addresses().unwrap(), [""; 0], "scaled to 0");
}

#[test]
fn failures_change_nothing_but_the_status() {
    let rig = Rig::new();
    rig.take(listed(vec![slice("a", 1, Condition::Ready)]));
    assert_eq!(rig.status_at(5).heard, Some(Duration::from_secs(5)));
    assert_eq!(rig.status_at(5).stale, None);
    for n in 1..=3 {
        assert_eq!(rig.take_at(failed(), 10 * u64::from(n)), n);
    }
    assert_eq!(rig.addresses().unwrap(), ["10.0.0.1:80"]);
    let status = rig.status_at(60);
    assert_eq!(
        status.stale,
        Some(Duration::from_secs(50)),
        "since the first"
    );
    assert_eq!(status.heard, Some(Duration::from_mins(1)));
    assert_eq!(status.error, Some(WatchError::Timeout));
    assert_eq!(status.failures, 3);
    assert_eq!(rig.take_at(News::Watched, 61), 3, "had failed");
    let status = rig.status_at(61);
    assert_eq!((status.stale, status.error), (None, None));
    assert_eq!(status.failures, 0);
}

#[test]
fn a_service_that_can_be_listed_and_not_watched_goes_on_failing() {
    let rig = Rig::new();
    let turns = [0, 10, 20].map(|at| {
        let pods = vec![slice("a", 1, Condition::Ready)];
        assert_eq!(rig.take_at(listed(pods), at), 0, "nothing is watched again");
        rig.take_at(failed(), at + 1)
    });
    assert_eq!(turns, [1, 2, 3]);
    rig.take_at(listed(vec![slice("a", 2, Condition::Ready)]), 30);
    assert_eq!(rig.addresses().unwrap(), ["10.0.0.2:80"], "it is used");
    let status = rig.status_at(400);
    assert_eq!(status.heard, Some(Duration::from_secs(370)));
    assert_eq!(status.stale, Some(Duration::from_secs(399)));
    assert_eq!(
        (status.failures, status.error),
        (3, Some(WatchError::Timeout))
    );
    assert_eq!(rig.take_at(News::Watched, 401), 3);
    assert_eq!(rig.status_at(401).stale, None);
}

#[test]
fn pods_are_counted_by_what_they_do() {
    let rig = Rig::new();
    assert!(!rig.status_at(0).listed);
    rig.take(listed(vec![
        slice("a", 1, Condition::Ready),
        slice("b", 1, Condition::Gone),
        slice("c", 2, Condition::Leaving),
        slice("d", 3, Condition::Unready),
    ]));
    let status = rig.status_at(0);
    assert!(status.listed);
    assert_eq!((status.slices, status.ready), (4, 1));
    assert_eq!((status.terminating, status.unready), (1, 1));
    assert_eq!(status.ports, ["http=80"]);
}

#[test]
fn too_many_slices_are_left_out_until_a_list_finds_room() {
    let rig = Rig::new();
    let slices = |count: usize| -> Vec<Slice> {
        let slice = |n: usize| slice(&format!("s{n:04}"), 1, Condition::Ready);
        (0..count).map(slice).collect()
    };
    rig.take(listed(slices(MAX_SLICES + 2)));
    let status = rig.status_at(0);
    assert_eq!((status.slices, status.slices_left_out), (MAX_SLICES, 2));
    assert!(rig.book.lacks_some(&rig.service));
    rig.take(News::Put(slice("one more", 2, Condition::Ready)));
    rig.take(News::Put(slice("s0000", 3, Condition::Ready)));
    let status = rig.status_at(0);
    assert_eq!((status.slices, status.slices_left_out), (MAX_SLICES, 3));
    rig.take(listed(slices(MAX_SLICES)));
    assert!(!rig.book.lacks_some(&rig.service));
}

/// Few slices, so that they meet.
fn any_change() -> impl Strategy<Value = News> {
    let name = (0..4_u8).prop_map(|n| n.to_string());
    prop_oneof![
        3 => (name.clone(), 1..9_u8).prop_map(|(name, last)| News::Put(slice(&name, last, Condition::Ready))),
        1 => name.prop_map(|name| News::Gone(name.as_str().into())),
        1 => Just(News::Watched),
        1 => Just(failed()),
    ]
}

proptest! {
    #[test]
    fn changes_lead_to_what_a_list_would_say(changes in vec(any_change(), 0..30)) {
        let (told, listing) = (Rig::new(), Rig::new());
        told.take(listed(Vec::new()));
        let mut slices: BTreeMap<Arc<str>, Slice> = BTreeMap::new();
        for change in changes {
            match &change {
                News::Put(slice) => drop(slices.insert(Arc::clone(&slice.name), slice.clone())),
                News::Gone(name) => drop(slices.remove(name)),
                _ => {}
            }
            told.take(change);
            listing.take(listed(slices.values().cloned().collect()));
            prop_assert_eq!(told.addresses(), listing.addresses());
        }
    }
}

#[test]
fn only_what_is_followed_is_kept() {
    let rig = Rig::new();
    rig.take(listed(vec![slice("a", 1, Condition::Ready)]));
    let other = service("other");
    let now = rig.start;
    assert_eq!(rig.book.take(&other, failed(), now), None);
    rig.book.follow(&BTreeSet::from([&rig.service, &other]));
    assert!(rig.addresses().is_some(), "what stays is known still");
    rig.book.follow(&BTreeSet::from([&other]));
    assert_eq!(rig.addresses(), None);
}
