//! From the objects of the Kubernetes API to [`Slice`]s: what is used of them, and no more.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::{Condition, Member, Port, Slice};
use crate::config::Name;

/// The most members of one slice: the API allows no more.
const MAX_MEMBERS: usize = 1_000;

/// A slice as the API has it. What is no IP address is left out, and so are ports that
/// are not for TCP.
pub(super) fn slice(object: EndpointSlice) -> Slice {
    let ports = object.ports.unwrap_or_default().into_iter();
    let members = object.endpoints.into_iter().take(MAX_MEMBERS);
    Slice {
        name: object.metadata.name.unwrap_or_default().into(),
        ports: ports.filter_map(port).collect(),
        members: members.filter_map(member).collect(),
    }
}

fn port(object: EndpointPort) -> Option<Port> {
    let is_tcp = object.protocol.as_deref().is_none_or(|is| is == "TCP");
    let number = match object.port {
        None => None,
        Some(number) => Some(u16::try_from(number).ok().filter(|number| *number > 0)?),
    };
    is_tcp.then(|| Port {
        name: object.name.unwrap_or_default().into(),
        number,
    })
}

fn member(object: Endpoint) -> Option<Member> {
    // No meaning is defined for further addresses.
    let ip: IpAddr = object.addresses.first()?.parse().ok()?;
    let conditions = object.conditions.unwrap_or_default();
    let condition = Condition::of(conditions.ready, conditions.serving, conditions.terminating);
    let target = object.target_ref.and_then(|target| {
        let name = target.name.unwrap_or_default();
        let id = target.uid.unwrap_or(name);
        (!id.is_empty()).then(|| Arc::from(id))
    });
    Some(Member {
        ip,
        condition,
        // A zone is a label, and one that fits into no label is none.
        zone: object.zone.and_then(|zone| Name::new(&zone).ok()),
        target,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &serde_json::Value) -> Slice {
        slice(serde_json::from_value(text.clone()).unwrap())
    }

    #[test]
    fn what_an_api_server_sends_is_read() {
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "digits-abc12",
                "namespace": "models",
                "resourceVersion": "7",
                "labels": {"kubernetes.io/service-name": "digits"},
                "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": {"f:ports": {}}}]
            },
            "addressType": "IPv4",
            "ports": [
                {"name": "http", "port": 8000, "protocol": "TCP", "appProtocol": "http"},
                {"name": "dns", "port": 53, "protocol": "UDP"}
            ],
            "endpoints": [
                {
                    "addresses": ["10.0.0.1"],
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "nodeName": "node-1",
                    "targetRef": {"kind": "Pod", "namespace": "models", "name": "digits-0", "uid": "u-0"},
                    "zone": "eu-central-1a",
                    "hints": {"forZones": [{"name": "eu-central-1a"}]}
                },
                {
                    "addresses": ["10.0.0.2"],
                    "conditions": {"ready": false, "serving": true, "terminating": true},
                    "targetRef": {"kind": "Pod", "name": "digits-1"}
                },
                {"addresses": ["10.0.0.3"], "conditions": {}},
                {"addresses": ["10.0.0.4"], "zone": "no zone"}
            ]
        });
        let slice = read(&object);
        assert_eq!(&*slice.name, "digits-abc12");
        let http = Port {
            name: "http".into(),
            number: Some(8000),
        };
        assert_eq!(slice.ports, [http]);
        let [first, second, third, fourth] = slice.members.try_into().unwrap();
        assert_eq!(first.ip, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(first.condition, Condition::Ready);
        assert_eq!(first.zone.as_deref(), Some("eu-central-1a"));
        assert_eq!(first.target.as_deref(), Some("u-0"));
        assert_eq!(second.condition, Condition::Leaving);
        assert_eq!(second.target.as_deref(), Some("digits-1"));
        assert_eq!(third.condition, Condition::Ready, "all unknown");
        assert_eq!((third.zone, third.target), (None, None));
        assert_eq!(fourth.zone, None, "that fits into no label");
    }

    #[test]
    fn what_is_absent_or_null_or_no_address_is_left_out() {
        for object in [
            json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": null, "ports": null}),
            json!({"metadata": {"name": "s"}, "addressType": "IPv6", "endpoints": []}),
            json!({"metadata": {"name": "s"}, "addressType": "FQDN", "ports": [],
                   "endpoints": [{"addresses": ["pod.example"]}]}),
            json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 0}, {"port": 70_000}],
                   "endpoints": [{"addresses": []}]}),
        ] {
            let slice = read(&object);
            assert_eq!((&*slice.name, slice.members.len()), ("s", 0), "{object}");
            assert_eq!(slice.ports, [], "{object}");
        }
    }

    #[test]
    fn a_port_without_a_number_stands_for_every_port() {
        let object = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [], "ports": [{"name": "a"}]});
        assert_eq!(read(&object).ports[0].number, None);
    }
}
