//! Objects with their versions, and what happened to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The label that lists and watches select by.
const LABEL: &str = "kubernetes.io/service-name";

/// Everything that the API server knows.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    /// Events up to this version are forgotten.
    forgotten: u64,
    objects: BTreeMap<(String, String), Value>,
    events: Vec<Event>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
struct Event {
    version: u64,
    /// None for all.
    of: Option<(String, String)>,
    line: Value,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    pub(super) namespace: String,
    pub(super) service: String,
}

/// What a watch is told next.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// An event, and the version that it leads to.
    Event(u64, Value),
    /// Nothing yet.
    Nothing,
    /// What was missed is forgotten.
    Expired,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    pub(super) version: u64,
    /// The first of the next page, and how many follow.
    pub(super) rest: Option<(String, usize)>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            // As in a cluster, nothing begins with 0, which means "any".
            version: 100,
            forgotten: 0,
            objects: BTreeMap::new(),
            events: Vec::new(),
        }
    }
}

// === impl Store ===

impl Store {
    pub(super) fn put(&mut self, namespace: &str, name: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let key = (namespace.to_owned(), name.to_owned());
        let old = self.objects.insert(key, object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(kind, Some(service_of(namespace, &object)), &object);
    }

    pub(super) fn delete(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(mut object) = self.objects.remove(&key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.tell("DELETED", Some(service_of(namespace, &object)), &object);
        }
    }

    pub(super) fn bookmark(&mut self) {
        self.version += 1;
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"resourceVersion": self.version.to_string(), "creationTimestamp": null},
        });
        self.tell("BOOKMARK", None, &object);
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.events.clear();
    }

    fn tell(&mut self, kind: &str, of: Option<(String, String)>, object: &Value) {
        self.events.push(Event {
            version: self.version,
            of,
            line: json!({"type": kind, "object": object}),
        });
    }

    /// What comes after a version.
    pub(super) fn after(&self, version: u64, selector: &Selector) -> Next {
        if version < self.forgotten {
            return Next::Expired;
        }
        let concerns = |event: &&Event| {
            let of = event.of.as_ref();
            event.version > version
                && of.is_none_or(|(ns, service)| {
                    *ns == selector.namespace && *service == selector.service
                })
        };
        match self.events.iter().find(concerns) {
            Some(event) => Next::Event(event.version, event.line.clone()),
            None => Next::Nothing,
        }
    }

    /// So many objects, from one name on.
    pub(super) fn page(&self, selector: &Selector, from: &str, limit: usize) -> Page {
        let objects = self.objects.iter();
        let matching = objects.filter(|((ns, name), object)| {
            let (_, service) = service_of(ns, object);
            *ns == selector.namespace && service == selector.service && name.as_str() >= from
        });
        let mut matching: Vec<_> = matching.collect();
        let rest = matching.split_off(limit.min(matching.len()));
        Page {
            items: matching.into_iter().map(|(_, item)| item.clone()).collect(),
            version: self.version,
            rest: rest
                .first()
                .map(|((_, name), _)| (name.clone(), rest.len())),
        }
    }
}

fn service_of(namespace: &str, object: &Value) -> (String, String) {
    let service = object["metadata"]["labels"][LABEL].as_str();
    (namespace.to_owned(), service.unwrap_or_default().to_owned())
}
