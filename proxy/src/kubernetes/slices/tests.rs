//! Slices, and what they come to.

use std::num::NonZeroU16;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::config::Label;

fn named(name: &str) -> ServicePort {
    ServicePort::Named(Label::new(name).unwrap())
}

fn number(number: u16) -> ServicePort {
    ServicePort::Number(NonZeroU16::new(number).unwrap())
}

fn port(name: &str, number: u16) -> Port {
    Port {
        name: name.into(),
        number: Some(number),
    }
}

fn member(ip: &str, condition: Condition) -> Member {
    Member {
        ip: ip.parse().unwrap(),
        condition,
        zone: None,
        target: None,
    }
}

fn slice(ports: &[Port], members: &[Member]) -> Slice {
    Slice {
        name: "s".into(),
        ports: ports.to_vec(),
        members: members.to_vec(),
    }
}

fn addresses(slices: &[Slice], port: &ServicePort) -> Vec<String> {
    let pods = pods(slices.iter(), port);
    pods.iter().map(|pod| pod.address.to_string()).collect()
}

#[test]
fn unknown_conditions_are_taken_as_the_api_says() {
    use Condition::{Gone, Leaving, Ready, Unready};
    let (yes, no) = (Some(true), Some(false));
    for (ready, serving, terminating, condition) in [
        (None, None, None, Ready),
        (yes, yes, no, Ready),
        // A service that publishes pods that are not ready: our own checks judge them.
        (yes, no, no, Ready),
        (no, no, no, Unready),
        (no, None, None, Unready),
        (no, yes, yes, Leaving),
        (no, no, yes, Gone),
        (no, None, yes, Gone),
        (None, None, yes, Leaving),
        (yes, yes, yes, Leaving),
    ] {
        let found = Condition::of(ready, serving, terminating);
        assert_eq!(found, condition, "{ready:?} {serving:?} {terminating:?}");
    }
}

#[test]
fn several_slices_make_one_pool_and_a_named_port_may_differ_between_them() {
    let slices = [
        slice(
            &[port("metrics", 9090), port("http", 8000)],
            &[member("10.0.0.2", Condition::Ready)],
        ),
        slice(
            &[port("http", 8001)],
            &[member("10.0.0.1", Condition::Ready)],
        ),
    ];
    let http = ["10.0.0.1:8001", "10.0.0.2:8000"];
    assert_eq!(addresses(&slices, &named("http")), http);
    assert_eq!(addresses(&slices, &named("metrics")), ["10.0.0.2:9090"]);
    assert_eq!(addresses(&slices, &number(8000)), ["10.0.0.2:8000"]);
    assert_eq!(addresses(&slices, &ServicePort::Only), ["10.0.0.1:8001"]);
    assert_eq!(addresses(&slices, &named("https")), [""; 0]);
}

#[test]
fn a_headless_service_may_leave_its_ports_open() {
    let any = Port {
        name: "".into(),
        number: None,
    };
    let pods = [member("10.0.0.1", Condition::Ready)];
    for ports in [&[][..], &[any]] {
        let slices = [slice(ports, &pods)];
        assert_eq!(addresses(&slices, &number(8000)), ["10.0.0.1:8000"]);
        assert_eq!(addresses(&slices, &ServicePort::Only), [""; 0]);
    }
}

#[test]
fn an_address_in_two_slices_is_one_endpoint_by_the_better_word() {
    for (a, b) in [
        (Condition::Ready, Condition::Gone),
        (Condition::Unready, Condition::Ready),
    ] {
        let at = |condition| slice(&[port("", 80)], &[member("10.0.0.1", condition)]);
        let slices = [at(a), at(b)];
        assert_eq!(addresses(&slices, &ServicePort::Only), ["10.0.0.1:80"]);
    }
}

#[test]
fn a_pod_that_terminates_is_used_only_when_it_is_the_last_that_serves_and_one_that_is_unready_after_it()
 {
    let all = [
        member("10.0.0.1", Condition::Ready),
        member("10.0.0.2", Condition::Leaving),
        member("10.0.0.3", Condition::Unready),
        member("10.0.0.4", Condition::Gone),
    ];
    let http = [port("http", 80)];
    let slices = [slice(&http, &all)];
    assert_eq!(addresses(&slices, &ServicePort::Only), ["10.0.0.1:80"]);
    let slices = [slice(&http, &all[1..])];
    let found = pods(slices.iter(), &ServicePort::Only);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].address.to_string(), "10.0.0.2:80");
    assert_eq!(found[0].condition, Condition::Leaving);
    let slices = [slice(&http, &all[2..])];
    let found = pods(slices.iter(), &ServicePort::Only);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].address.to_string(), "10.0.0.3:80");
    assert_eq!(found[0].condition, Condition::Unready);
    let slices = [slice(&http, &all[3..])];
    assert_eq!(addresses(&slices, &ServicePort::Only), [""; 0]);
}

#[test]
fn a_pod_of_both_families_is_one_endpoint() {
    let of = |pod: &str, ip: &str, condition| Member {
        target: Some(pod.into()),
        ..member(ip, condition)
    };
    let four = slice(
        &[port("", 80)],
        &[
            of("a", "10.0.0.1", Condition::Ready),
            of("c", "10.0.0.3", Condition::Unready),
        ],
    );
    let six = slice(
        &[port("", 80)],
        &[
            of("a", "fd00::1", Condition::Ready),
            of("b", "fd00::2", Condition::Ready),
            of("c", "fd00::3", Condition::Ready),
            member("fd00::4", Condition::Ready),
        ],
    );
    let found = addresses(&[six, four], &ServicePort::Only);
    let expected = [
        "10.0.0.1:80",
        "[fd00::2]:80",
        "[fd00::3]:80",
        "[fd00::4]:80",
    ];
    assert_eq!(found, expected);
}

#[test]
fn whoever_has_to_mend_an_empty_pool_is_told_what_is_wrong() {
    let http = [port("http", 8000), port("", 9090)];
    let ready = [member("10.0.0.1", Condition::Ready)];
    let gone = [member("10.0.0.1", Condition::Gone)];
    for (slices, port, expected) in [
        (vec![slice(&http, &ready)], named("http"), None),
        (vec![], named("http"), Some("no such service")),
        (vec![slice(&http, &[])], named("http"), Some("no pods")),
        (
            vec![slice(&http, &gone)],
            named("http"),
            Some("none of its 1 pod answers any more"),
        ),
        (
            vec![slice(&http, &ready)],
            named("grpc"),
            Some("it has no port grpc; its pods have: 9090, http=8000"),
        ),
        (
            vec![slice(&http, &ready)],
            number(80),
            Some("it has no port 80; its pods have"),
        ),
        (
            vec![slice(&http, &ready)],
            ServicePort::Only,
            Some("name one of: 9090, http=8000"),
        ),
        (
            vec![slice(&[], &ready)],
            ServicePort::Only,
            Some("name one of: none"),
        ),
    ] {
        let problem = problem(slices.iter(), &port);
        match expected {
            None => assert_eq!(problem, None),
            Some(part) => assert!(
                problem.as_deref().is_some_and(|is| is.contains(part)),
                "{problem:?}"
            ),
        }
    }
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let flag = || option::of(any::<bool>());
    (flag(), flag(), flag()).prop_map(|(a, b, c)| Condition::of(a, b, c))
}

/// Few addresses and pods, so that they meet.
fn any_member() -> impl Strategy<Value = Member> {
    let ip = prop_oneof![
        (0..6_u8).prop_map(|n| IpAddr::from([10, 0, 0, n])),
        (0..6_u16).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])),
    ];
    let target = option::of((0..4_u8).prop_map(|n| Arc::from(n.to_string())));
    (ip, any_condition(), target).prop_map(|(ip, condition, target)| Member {
        ip,
        condition,
        zone: None,
        target,
    })
}

fn any_slice() -> impl Strategy<Value = Slice> {
    let port = (prop_oneof!["", "a", "b"], option::of(1..4_u16));
    let port = port.prop_map(|(name, number)| Port {
        name: name.as_str().into(),
        number,
    });
    (vec(port, 0..3), vec(any_member(), 0..6)).prop_map(|(ports, members)| Slice {
        name: "s".into(),
        ports,
        members,
    })
}

fn any_port() -> impl Strategy<Value = ServicePort> {
    prop_oneof![
        Just(ServicePort::Only),
        Just(named("a")),
        Just(named("b")),
        (1..4_u16).prop_map(number),
    ]
}

proptest! {
    #[test]
    fn whatever_the_slices_say_the_rules_hold(slices in vec(any_slice(), 0..5), port in any_port()) {
        let found = pods(slices.iter(), &port);
        let says = |at: &SocketAddr| {
            let there = slices.iter().filter(|slice| slice.number_of(&port) == Some(at.port()));
            let members = there.flat_map(|slice| &slice.members).filter(|member| member.ip == at.ip());
            members.map(|member| member.condition).min()
        };
        // Each address once, and each because some slice says the best of it.
        let distinct: BTreeSet<_> = found.iter().map(|pod| pod.address).collect();
        prop_assert_eq!(distinct.len(), found.len());
        let there = slices.iter().filter_map(|slice| Some((slice.number_of(&port)?, slice)));
        let there = there.flat_map(|(number, slice)| {
            slice.members.iter().map(move |member| SocketAddr::new(member.ip, number))
        });
        let said = there.filter_map(|at| says(&at));
        let wanted = said.filter(|condition| *condition != Condition::Gone).min();
        for pod in &found {
            prop_assert_eq!(Some(pod.condition), wanted);
            prop_assert_eq!(says(&pod.address), wanted);
        }
        // The best is never left out, but as the other family of a pod that is there.
        let best = slices.iter().filter_map(|slice| Some((slice.number_of(&port)?, slice)));
        let best: Vec<_> = best
            .flat_map(|(number, slice)| slice.members.iter().map(move |m| (SocketAddr::new(m.ip, number), m)))
            .filter(|(at, _)| wanted.is_some() && says(at) == wanted)
            .collect();
        for (at, _) in &best {
            prop_assert!(distinct.contains(at) || (at.is_ipv6() && found.iter().any(|pod| pod.address.is_ipv4())));
        }
        prop_assert_eq!(best.is_empty(), found.is_empty());
        prop_assert_eq!(problem(slices.iter(), &port).is_none(), !found.is_empty());
    }

    #[test]
    fn the_order_of_slices_changes_nothing(slices in vec(any_slice(), 0..5), port in any_port()) {
        let addresses = |slices: &[Slice]| addresses(slices, &port);
        let mut reversed = slices.clone();
        reversed.reverse();
        // Which zone and pod a twice-named address has may differ; without pods nothing does.
        let anonymous = |slices: Vec<Slice>| -> Vec<Slice> {
            let mut slices = slices;
            for member in slices.iter_mut().flat_map(|slice| &mut slice.members) {
                member.target = None;
            }
            slices
        };
        prop_assert_eq!(addresses(&anonymous(slices)), addresses(&anonymous(reversed)));
    }
}
