//! From the slices of a service to the pods that requests may go to.
//!
//! A service has several slices: one for 100 pods or so, and others for the other family
//! of addresses. While pods move between slices an address may be in two of them, and the
//! better of what they say holds. A pod that has an address of both families is one
//! endpoint, by its IPv4 address: counted twice, it would get twice its share.
//!
//! Source: the descriptions of `discovery.k8s.io/v1` in the Kubernetes API.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::config::{Name, ServicePort};

/// A part of a service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Its name.
    pub name: Arc<str>,
    /// Where its members listen, by TCP.
    pub ports: Vec<Port>,
    /// The members.
    pub members: Vec<Member>,
}

/// A port of every member of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty where the service gives none.
    pub name: Arc<str>,
    /// Its number; none stands for every port.
    pub number: Option<u16>,
}

/// A pod, mostly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub ip: IpAddr,
    /// Whether it takes requests.
    pub condition: Condition,
    /// Where it runs.
    pub zone: Option<Name>,
    /// What it is: the same for all addresses of one pod.
    pub target: Option<Arc<str>>,
}

/// Whether a member takes requests, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It does.
    Ready,
    /// It is terminating, and still answers.
    Leaving,
    /// It is not ready, or not any more.
    Unready,
    /// It is terminating, and answers no more.
    Gone,
}

/// A pod that requests may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it runs.
    pub zone: Option<Name>,
    /// The best that Kubernetes says of any pod of the service.
    pub condition: Condition,
}

// === impl Condition ===

impl Condition {
    /// What the three conditions of an endpoint come to; each may be unknown.
    #[must_use]
    pub fn of(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Self {
        let ready = ready.unwrap_or(true);
        let serving = serving.unwrap_or(ready);
        match (terminating.unwrap_or(false), serving, ready) {
            (true, true, _) => Self::Leaving,
            (true, false, _) => Self::Gone,
            (false, _, true) => Self::Ready,
            (false, _, false) => Self::Unready,
        }
    }
}

// === impl Slice ===

impl Slice {
    /// The number of a port; none where the slice does not have it.
    fn number_of(&self, port: &ServicePort) -> Option<u16> {
        match port {
            ServicePort::Only => match self.ports.as_slice() {
                [only] => only.number,
                _ => None,
            },
            ServicePort::Named(name) => {
                let named = |port: &&Port| *port.name == *name.as_ref();
                self.ports.iter().find(named)?.number
            }
            ServicePort::Number(number) => {
                let number = number.get();
                let has = |port: &Port| port.number.is_none_or(|has| has == number);
                // A headless service need not say on which ports its pods listen.
                (self.ports.is_empty() || self.ports.iter().any(has)).then_some(number)
            }
        }
    }
}

/// The pods of a service that requests may go to, at one of its ports, in order: those that
/// are ready; or else those that are leaving; or else all that are not ready, since a probe
/// that fails everywhere says more of the probe than of the pods, and the proxy has checks
/// of its own.
#[must_use]
pub fn pods<'a>(slices: impl Iterator<Item = &'a Slice>, port: &ServicePort) -> Vec<Pod> {
    let mut members: BTreeMap<SocketAddr, &Member> = BTreeMap::new();
    for slice in slices {
        let Some(number) = slice.number_of(port) else {
            continue;
        };
        for member in &slice.members {
            let at = SocketAddr::new(member.ip, number);
            let known = members.entry(at).or_insert(member);
            if member.condition < known.condition {
                *known = member;
            }
        }
    }
    members.retain(|_, member| member.condition != Condition::Gone);
    let best = members.values().map(|member| member.condition).min();
    members.retain(|_, member| Some(member.condition) == best);
    let has_four: HashSet<Arc<str>> = members
        .iter()
        .filter(|(at, _)| at.is_ipv4())
        .filter_map(|(_, member)| member.target.clone())
        .collect();
    let twice = |at: &SocketAddr, member: &Member| {
        let target = member.target.as_ref();
        at.is_ipv6() && target.is_some_and(|target| has_four.contains(target))
    };
    members
        .into_iter()
        .filter(|(at, member)| !twice(at, member))
        .map(|(address, member)| Pod {
            address,
            zone: member.zone.clone(),
            condition: member.condition,
        })
        .collect()
}

/// Why a service that was listed has no pod at a port, where it has none: for whoever
/// has to mend it.
#[must_use]
pub fn problem<'a>(
    slices: impl Iterator<Item = &'a Slice> + Clone,
    port: &ServicePort,
) -> Option<String> {
    if !pods(slices.clone(), port).is_empty() {
        return None;
    }
    let members: usize = slices.clone().map(|slice| slice.members.len()).sum();
    if members == 0 {
        return Some("it has no pods, or there is no such service".to_owned());
    }
    if slices.clone().any(|slice| slice.number_of(port).is_some()) {
        let all = if members == 1 { "pod" } else { "pods" };
        return Some(format!("none of its {members} {all} answers any more"));
    }
    let has = ports(slices);
    let has = if has.is_empty() {
        "none".to_owned()
    } else {
        has.join(", ")
    };
    Some(match port {
        ServicePort::Only => format!("it has several ports or none; name one of: {has}"),
        port => format!("it has no port {port}; its pods have: {has}"),
    })
}

/// The most ports that are named in a message.
const NAMED: usize = 16;

/// What ports there are, as `name=number`.
pub(super) fn ports<'a>(slices: impl Iterator<Item = &'a Slice>) -> Vec<String> {
    let ports: BTreeSet<_> = slices
        .flat_map(|slice| &slice.ports)
        .map(|port| (Arc::clone(&port.name), port.number))
        .collect();
    let text = |(name, number): (Arc<str>, Option<u16>)| match number {
        None => format!("{name}=any"),
        Some(number) if name.is_empty() => number.to_string(),
        Some(number) => format!("{name}={number}"),
    };
    ports.into_iter().take(NAMED).map(text).collect()
}

#[cfg(test)]
mod tests;
