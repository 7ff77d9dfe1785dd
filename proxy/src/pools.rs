//! Where each version runs at present: the file's addresses, and those that its
//! names and its Kubernetes services have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use crate::{
    config::{
        Config, HostName, MAX_ENDPOINTS, Name, Place, ServiceName, ServicePort, Version, is_itself,
    },
    dns,
    kubernetes::{self, Condition, Pod},
};

/// The endpoints of one version, with where they come from.
pub type Pool = BTreeMap<SocketAddr, Origin>;

/// Where an endpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file lists it.
    Listed,
    /// It is an address of this name.
    Named(Place),
    /// It is a pod of this service.
    Pod {
        /// The service.
        service: Place,
        /// Where Kubernetes says that it runs.
        zone: Option<Name>,
        /// The best that Kubernetes says of any pod of the service.
        condition: Condition,
    },
    /// It is there no more, and stays until this name is answered for the first time, or
    /// this service has given its first pod that serves.
    KeptFor(Place),
}

/// Tells what names and services stand for.
pub trait Known {
    /// The addresses of a name; none before its first answer.
    fn addresses(&self, host: &HostName) -> Option<Vec<IpAddr>>;

    /// The pods of a service; none before it was first listed.
    fn pods(&self, service: &ServiceName, port: &ServicePort) -> Option<Vec<Pod>>;
}

/// Every pool of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    /// By model, then by version.
    by_model: BTreeMap<Name, BTreeMap<Name, Pool>>,
    /// The services, with their ports, that have given a pod that serves since the file
    /// names them: where they have none now, it is because there is none.
    proven: BTreeSet<Place>,
    /// Addresses over the limit.
    left_out: usize,
}

/// All that is known of names and services.
#[derive(Debug, Default)]
pub struct Books {
    /// What names were answered.
    pub dns: dns::Book,
    /// What services were found to be.
    pub kubernetes: kubernetes::Book,
}

/// Builds [`Pools`] within the limit.
struct Builder<'a> {
    config: &'a Config,
    proven: BTreeSet<Place>,
    room: usize,
    left_out: usize,
}

// === impl Pools ===

impl Pools {
    /// The pools of `config`, where `known` tells what names and services stand for.
    /// `former` are the pools that run.
    ///
    /// Addresses that the file lists come first when there are too many.
    #[must_use]
    pub fn of(config: &Config, known: &impl Known, former: Option<&Self>) -> Self {
        let is_listed = |place: &&Place| matches!(place, Place::Address(_));
        let listed = config.places().filter(is_listed).count();
        let mut proven = former.map(|former| former.proven.clone());
        if let Some(proven) = &mut proven {
            let places: BTreeSet<&Place> = config.places().collect();
            proven.retain(|place| places.contains(place));
        }
        let mut builder = Builder {
            config,
            proven: proven.unwrap_or_default(),
            room: MAX_ENDPOINTS.saturating_sub(listed),
            left_out: 0,
        };
        let mut by_model = BTreeMap::new();
        for (name, model) in &config.models {
            let mut versions = BTreeMap::new();
            for (version_name, version) in &model.versions {
                let former = former.and_then(|former| former.pool(name, version_name));
                let pool = builder.pool(version, known, former);
                versions.insert(version_name.clone(), pool);
            }
            by_model.insert(name.clone(), versions);
        }
        Self {
            by_model,
            proven: builder.proven,
            left_out: builder.left_out,
        }
    }

    /// The pools of a configuration of whose names nothing is known.
    #[must_use]
    pub fn listed(config: &Config) -> Self {
        Self::of(config, &|_: &HostName| None, None)
    }

    /// The pool of a version.
    #[must_use]
    pub fn pool(&self, model: &str, version: &str) -> Option<&Pool> {
        self.by_model.get(model)?.get(version)
    }

    /// The addresses of a version, in order.
    #[must_use]
    pub fn addresses(&self, model: &str, version: &str) -> Vec<SocketAddr> {
        let pool = self.pool(model, version);
        pool.into_iter().flat_map(Pool::keys).copied().collect()
    }

    /// Every endpoint: model, version, address.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Name, &Name, SocketAddr)> {
        self.versions()
            .flat_map(|(model, version, pool)| pool.keys().map(move |at| (model, version, *at)))
    }

    /// Whether a model's pools are the same in both.
    #[must_use]
    pub fn same_for(&self, model: &str, other: &Self) -> bool {
        self.by_model.get(model) == other.by_model.get(model)
    }

    /// Addresses that are not used because there are too many in all.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// What changed since `old`, one line a version, for the audit log.
    #[must_use]
    pub fn diff(&self, old: &Self) -> Vec<String> {
        let empty = Pool::new();
        let mut lines = Vec::new();
        for (model, version, pool) in self.versions() {
            let old = old.pool(model, version).unwrap_or(&empty);
            let added = listed(pool.keys().filter(|at| !old.contains_key(at)));
            let removed = listed(old.keys().filter(|at| !pool.contains_key(at)));
            let mut line = format!("models.{model}.versions.{version}:");
            for (what, list) in [(" added ", &added), (" removed ", &removed)] {
                if !list.is_empty() {
                    line = [&line, what, list].concat();
                }
            }
            if !(added.is_empty() && removed.is_empty()) {
                lines.push(line);
            }
        }
        lines
    }

    fn versions(&self) -> impl Iterator<Item = (&Name, &Name, &Pool)> {
        self.by_model.iter().flat_map(|(model, versions)| {
            versions
                .iter()
                .map(move |(version, pool)| (model, version, pool))
        })
    }
}

/// What is known of names, where there are no services.
impl<F: Fn(&HostName) -> Option<Vec<IpAddr>>> Known for F {
    fn addresses(&self, host: &HostName) -> Option<Vec<IpAddr>> {
        self(host)
    }

    fn pods(&self, _: &ServiceName, _: &ServicePort) -> Option<Vec<Pod>> {
        None
    }
}

/// Addresses that one line names; the rest is counted.
const NAMED: usize = 16;

fn listed<'a>(addresses: impl Iterator<Item = &'a SocketAddr>) -> String {
    let mut names: Vec<String> = addresses.map(ToString::to_string).collect();
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        names.truncate(NAMED);
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

// === impl Books ===

impl Books {
    /// Knows what a configuration names, and nothing else.
    pub fn follow(&self, config: &Config) {
        self.dns.follow(&config.hosts());
        self.kubernetes.follow(&config.services());
    }
}

impl Known for Books {
    fn addresses(&self, host: &HostName) -> Option<Vec<IpAddr>> {
        self.dns.addresses(host)
    }

    fn pods(&self, service: &ServiceName, port: &ServicePort) -> Option<Vec<Pod>> {
        self.kubernetes.pods(service, port)
    }
}

// === impl Builder ===

impl Builder<'_> {
    fn pool(&mut self, version: &Version, known: &impl Known, former: Option<&Pool>) -> Pool {
        let mut pool = Pool::new();
        for place in version.places() {
            if let Place::Address(address) = place {
                pool.insert(*address, Origin::Listed);
            }
        }
        // Of these nothing is known, or nothing that could take the place of what runs.
        let mut unanswered = None;
        let mut unproven = Vec::new();
        for place in version.places() {
            match found(place, known) {
                Some(found) if self.is_proven(place, &found) => {
                    self.add_all(&mut pool, found);
                }
                found => {
                    unanswered = unanswered.or(Some(place));
                    unproven.extend(found.unwrap_or_default());
                }
            }
        }
        if let Some(place) = unanswered {
            let former = former.into_iter().flatten();
            let gone = former.filter(|(at, origin)| !is_current(origin, **at, version));
            let kept: Vec<_> = gone
                .map(|(at, _)| (*at, Origin::KeptFor(place.clone())))
                .collect();
            self.add_all(&mut pool, if kept.is_empty() { unproven } else { kept });
        }
        pool
    }

    /// Whether what was found of a place counts, whatever it is: a service must have given
    /// a pod that serves, now or before, or a wrong name would be one that was scaled to 0.
    fn is_proven(&mut self, place: &Place, found: &[(SocketAddr, Origin)]) -> bool {
        if place.service().is_none() || self.proven.contains(place) {
            return true;
        }
        let serves = found.iter().any(|(_, origin)| match origin {
            Origin::Pod { condition, .. } => *condition < Condition::Unready,
            _ => false,
        });
        if serves {
            self.proven.insert(place.clone());
        }
        serves
    }

    fn add_all(&mut self, pool: &mut Pool, all: Vec<(SocketAddr, Origin)>) {
        for (address, origin) in all {
            self.add(pool, address, origin);
        }
    }

    fn add(&mut self, pool: &mut Pool, address: SocketAddr, origin: Origin) {
        if pool.contains_key(&address) || is_itself(address, self.config.listen.data) {
            return;
        }
        if self.room == 0 {
            self.left_out += 1;
            return;
        }
        self.room -= 1;
        pool.insert(address, origin);
    }
}

/// What a place stands for; none where that is not known yet.
fn found(place: &Place, known: &impl Known) -> Option<Vec<(SocketAddr, Origin)>> {
    match place {
        Place::Address(address) => Some(vec![(*address, Origin::Listed)]),
        Place::Named { host, port } => {
            let ips = known.addresses(host)?.into_iter();
            let named = |ip| (SocketAddr::new(ip, *port), Origin::Named(place.clone()));
            Some(ips.map(named).collect())
        }
        Place::Service { service, port } => {
            let pods = known.pods(service, port)?.into_iter();
            let pod = |pod: Pod| {
                let origin = Origin::Pod {
                    service: place.clone(),
                    zone: pod.zone,
                    condition: pod.condition,
                };
                (pod.address, origin)
            };
            Some(pods.map(pod).collect())
        }
    }
}

/// Whether what an endpoint came from is in the file still: then that alone says
/// whether it stays.
fn is_current(origin: &Origin, address: SocketAddr, version: &Version) -> bool {
    match origin {
        Origin::Listed => version
            .places()
            .any(|place| *place == Place::Address(address)),
        Origin::Named(former)
        | Origin::Pod {
            service: former, ..
        } => version.places().any(|place| place == former),
        Origin::KeptFor(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn config(endpoints: &str) -> Config {
        let text = format!("[models.m.versions.1]\nweight = 1\nendpoints = [{endpoints}]\n");
        parse("test.toml", &text).unwrap()
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn named(pools: &Pools) -> Vec<String> {
        let addresses = pools.addresses("m", "1");
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_stands_for_its_addresses_at_its_port() {
        let config = config(r#""10.0.0.9:1", "pods:80", "pods:81""#);
        let pools = Pools::of(&config, &|_: &HostName| Some(vec![ip(1), ip(2)]), None);
        let expected = [
            "10.0.0.1:80",
            "10.0.0.1:81",
            "10.0.0.2:80",
            "10.0.0.2:81",
            "10.0.0.9:1",
        ];
        assert_eq!(named(&pools), expected);
        let pool = pools.pool("m", "1").unwrap();
        assert_eq!(pool[&"10.0.0.9:1".parse().unwrap()], Origin::Listed);
        let origin = &pool[&"10.0.0.2:81".parse().unwrap()];
        assert!(matches!(origin, Origin::Named(place) if place.to_string() == "pods:81"));
    }

    #[test]
    fn an_address_that_comes_twice_is_one_endpoint_and_the_proxy_itself_none() {
        let config = config(r#""10.0.0.1:80", "pods:80", "self:8080""#);
        let answered = |host: &HostName| {
            Some(match host.as_ref() {
                "self" => vec![IpAddr::from([127, 0, 0, 1])],
                _ => vec![ip(1)],
            })
        };
        let pools = Pools::of(&config, &answered, None);
        assert_eq!(named(&pools), ["10.0.0.1:80"]);
    }

    #[test]
    fn what_ran_stays_until_the_name_that_replaces_it_is_answered() {
        let old = Pools::listed(&config(r#""10.0.0.1:1", "10.0.0.2:1""#));
        let new = config(r#""10.0.0.2:1", "pods:80""#);
        let kept = Pools::of(&new, &|_: &HostName| None, Some(&old));
        assert_eq!(named(&kept), ["10.0.0.1:1", "10.0.0.2:1"]);
        let still = Pools::of(&new, &|_: &HostName| None, Some(&kept));
        assert_eq!(still, kept, "also after the next lookup that fails");
        let after = Pools::of(&new, &|_: &HostName| Some(vec![ip(3)]), Some(&still));
        assert_eq!(named(&after), ["10.0.0.2:1", "10.0.0.3:80"]);
        assert_eq!(
            after.diff(&still),
            ["models.m.versions.1: added 10.0.0.3:80 removed 10.0.0.1:1"]
        );
    }

    #[test]
    fn an_address_that_its_own_name_lost_is_not_kept_for_another() {
        let config = config(r#""pods:80", "never:80""#);
        let answer =
            |last: u8| move |host: &HostName| (host.as_ref() == "pods").then(|| vec![ip(last)]);
        let before = Pools::of(&config, &answer(1), None);
        let after = Pools::of(&config, &answer(2), Some(&before));
        assert_eq!(named(&after), ["10.0.0.2:80"]);
    }

    /// Knows one service, and no name.
    #[cfg(feature = "kubernetes")]
    struct OfService(Option<Vec<Pod>>);

    #[cfg(feature = "kubernetes")]
    impl Known for OfService {
        fn addresses(&self, _: &HostName) -> Option<Vec<IpAddr>> {
            None
        }

        fn pods(&self, _: &ServiceName, _: &ServicePort) -> Option<Vec<Pod>> {
            self.0.clone()
        }
    }

    #[cfg(feature = "kubernetes")]
    fn pod(last: u8, zone: &str) -> Pod {
        Pod {
            address: SocketAddr::new(ip(last), 80),
            zone: Name::new(zone).ok(),
            condition: Condition::Ready,
        }
    }

    #[cfg(feature = "kubernetes")]
    fn of_service(places: &str) -> Config {
        let text = format!("[models.m.versions.1]\nweight = 1\n{places}\n");
        parse("test.toml", &text).unwrap()
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn a_service_replaces_nothing_before_it_has_given_a_pod_that_serves() {
        let unready = Pod {
            condition: Condition::Unready,
            ..pod(3, "a")
        };
        let old = Pools::listed(&config("\"10.0.0.7:1\""));
        let new = of_service("kubernetes = { service = \"digitz\", port = 80 }");
        let mut pools = old;
        for nothing in [None, Some(Vec::new()), Some(vec![unready.clone()])] {
            pools = Pools::of(&new, &OfService(nothing), Some(&pools));
            assert_eq!(named(&pools), ["10.0.0.7:1"]);
            let origin = &pools.pool("m", "1").unwrap()[&"10.0.0.7:1".parse().unwrap()];
            assert!(matches!(origin, Origin::KeptFor(place) if place.to_string() == "digitz:80"));
        }
        let first = OfService(Some(vec![pod(2, "a")]));
        pools = Pools::of(&new, &first, Some(&pools));
        assert_eq!(named(&pools), ["10.0.0.2:80"]);
        // It is the one that was meant: what it says counts from now on.
        pools = Pools::of(&new, &OfService(Some(vec![unready])), Some(&pools));
        assert_eq!(named(&pools), ["10.0.0.3:80"]);
        let none = OfService(Some(Vec::new()));
        assert_eq!(named(&Pools::of(&new, &none, Some(&pools))), [""; 0]);
        // Another port is another place.
        let port = of_service("kubernetes = { service = \"digitz\", port = 81 }");
        let pools = Pools::of(&port, &none, Some(&pools));
        assert_eq!(named(&pools), ["10.0.0.3:80"]);
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn a_service_with_nothing_to_replace_is_asked_though_none_of_its_pods_is_ready() {
        let unready = Pod {
            condition: Condition::Unready,
            ..pod(3, "a")
        };
        let new = of_service("kubernetes = { service = \"digits\", port = 80 }");
        let known = OfService(Some(vec![unready]));
        let pools = Pools::of(&new, &known, None);
        assert_eq!(named(&pools), ["10.0.0.3:80"]);
        assert_eq!(Pools::of(&new, &known, Some(&pools)), pools, "and stays so");
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn pods_of_a_service_stand_beside_what_is_listed_and_a_new_zone_moves_nobody() {
        let text = "[models.m.versions.1]\nweight = 1\nendpoints = [\"10.0.0.1:80\", \"10.0.0.9:1\"]\n\
                    kubernetes = { service = \"digits\" }\n";
        let new = parse("test.toml", text).unwrap();
        let old = Pools::listed(&config("\"10.0.0.7:1\""));
        let waiting = Pools::of(&new, &OfService(None), Some(&old));
        assert_eq!(named(&waiting), ["10.0.0.1:80", "10.0.0.7:1", "10.0.0.9:1"]);

        let pods = vec![pod(1, "a"), pod(2, "a")];
        let listed = Pools::of(&new, &OfService(Some(pods)), Some(&waiting));
        assert_eq!(named(&listed), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:1"]);
        let origin = |pools: &Pools, at: &str| {
            let pool = pools.pool("m", "1").unwrap();
            pool[&at.parse::<SocketAddr>().unwrap()].clone()
        };
        assert_eq!(origin(&listed, "10.0.0.1:80"), Origin::Listed);
        let service = origin(&listed, "10.0.0.2:80");
        assert!(matches!(service, Origin::Pod { zone: Some(zone), .. } if *zone == *"a"));

        let moved = Pools::of(&new, &OfService(Some(vec![pod(2, "b")])), Some(&listed));
        assert_eq!(moved.diff(&listed), [""; 0]);
        assert_ne!(moved, listed, "the status tells the new zone");
        let none = Pools::of(&new, &OfService(Some(Vec::new())), Some(&moved));
        let removed = "models.m.versions.1: removed 10.0.0.2:80";
        assert_eq!(none.diff(&moved), [removed], "scaled to 0");
    }

    #[test]
    fn too_many_addresses_are_left_out_and_counted() {
        let many: Vec<IpAddr> = (0..u32::try_from(MAX_ENDPOINTS).unwrap())
            .map(|n| IpAddr::from((0x0b00_0000 + n).to_be_bytes()))
            .collect();
        let config = config(r#""a:80", "10.0.0.1:80""#);
        let pools = Pools::of(&config, &|_: &HostName| Some(many.clone()), None);
        assert_eq!(pools.endpoints().count(), MAX_ENDPOINTS);
        assert_eq!(pools.left_out(), 1);
        let listed = "10.0.0.1:80".parse().unwrap();
        assert!(pools.pool("m", "1").unwrap().contains_key(&listed));
    }
}
