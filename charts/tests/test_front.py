"""Clients, gateways, meshes and monitoring reach what they should, and nobody else does."""

from unittest import TestCase

from support import container_of, for_each_case, rendered, toml

# The services that the proxy answers: what a path of gRPC begins with.
GRPC = ["/inference.GRPCInferenceService", "/grpc.health.v1.Health"]


def selects(selector, labels) -> bool:
    return selector["matchLabels"].items() <= labels.items()


class Front(TestCase):
    @for_each_case
    def test_every_route_leads_to_a_port_of_the_proxys_service(self, result):
        services = {it["metadata"]["name"]: it["spec"]["ports"] for it in result.of("Service")}
        for ingress in result.of("Ingress"):
            for rule in ingress["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    target = path["backend"]["service"]
                    self.assertIn(target["port"]["name"], [it["name"] for it in services[target["name"]]])
        for route in result.of("HTTPRoute"):
            for rule in route["spec"]["rules"]:
                for target in rule["backendRefs"]:
                    (port,) = [it for it in services[target["name"]] if it["port"] == target["port"]]
                    # A gateway speaks HTTP/2 to gRPC only where the port says so.
                    spoken = "kubernetes.io/h2c" if route["metadata"]["name"].endswith("-grpc") else "http"
                    self.assertEqual(port["appProtocol"], spoken)

    def test_a_load_balancer_is_told_who_may_come_and_by_which_nodes(self):
        spec = rendered("full").one("Service", "inference-proxy")["spec"]
        told = [spec[key] for key in ("externalTrafficPolicy", "loadBalancerClass", "loadBalancerSourceRanges")]
        self.assertEqual(told, ["Local", "example.com/internal", ["10.0.0.0/8"]])
        plain = rendered("minimal").one("Service", "release-aegis-proxy")["spec"]
        self.assertEqual(set(plain), {"type", "selector", "ports"})

    def test_nginx_speaks_http_to_one_port_and_grpc_to_the_other(self):
        rest, grpc = rendered("nginx").of("Ingress")
        self.assertEqual(rest["spec"]["rules"][0]["http"]["paths"][0]["path"], "/v2")
        paths = grpc["spec"]["rules"][0]["http"]["paths"]
        self.assertEqual([it["path"] for it in paths], GRPC)
        for path in paths:
            self.assertEqual(path["backend"]["service"]["port"], {"name": "grpc"})
        self.assertEqual(grpc["metadata"]["annotations"]["nginx.ingress.kubernetes.io/backend-protocol"], "GRPC")
        for ingress in (rest, grpc):
            self.assertEqual(ingress["spec"]["ingressClassName"], "nginx")
            self.assertEqual(ingress["spec"]["tls"], [{"secretName": "models-tls", "hosts": ["models.example.com"]}])
        # nginx lets through what the proxy takes (64 MiB), and waits longer than the proxy does (30 s for a byte).
        self.assertEqual(rest["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"], "64m")
        wait = rest["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"]
        self.assertGreater(int(wait), 30)

    def test_traefik_is_given_one_route_for_rest_and_one_for_grpc(self):
        result = rendered("traefik")
        # Of routes of two kinds with one host name a Gateway accepts only one.
        self.assertEqual(result.of("GRPCRoute"), [])
        http, grpc = result.of("HTTPRoute")
        for route, prefixes in ((http, ["/v2"]), (grpc, GRPC)):
            paths = [{"path": {"type": "PathPrefix", "value": prefix}} for prefix in prefixes]
            self.assertEqual(route["spec"]["rules"][0]["matches"], paths)
            self.assertEqual(route["spec"]["parentRefs"][0]["namespace"], "traefik")
            self.assertEqual(route["spec"]["hostnames"], ["models.example.com"])

    def test_who_is_in_front_is_believed_on_who_the_client_is(self):
        for name in ("nginx", "traefik"):
            self.assertEqual(toml(rendered(name).proxy_toml())["forwarded"]["trusted"], ["10.244.0.0/16"])

    def test_every_pod_of_a_mesh_is_in_it_and_ends_before_its_sidecar(self):
        result = rendered("linkerd")
        annotations = [it["spec"]["template"]["metadata"]["annotations"] for it in result.of("Deployment")]
        annotations += [it["metadata"]["annotations"] for it in result.of("Pod")]
        self.assertEqual(len(annotations), 4)
        for told in annotations:
            self.assertEqual(told["linkerd.io/inject"], "enabled")
            self.assertEqual(told["config.beta.linkerd.io/proxy-enable-native-sidecar"], "true")

    @for_each_case
    def test_where_policies_are_on_every_pod_has_one_and_each_port_is_for_somebody(self, result):
        policies = result.of("NetworkPolicy")
        if not policies:
            return
        for deployment in result.of("Deployment"):
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            (policy,) = [it["spec"] for it in policies if selects(it["spec"]["podSelector"], labels)]
            self.assertEqual(policy["policyTypes"], ["Ingress", "Egress"])
            opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
            container = container_of(deployment)
            named = {it["name"]: it["containerPort"] for it in container["ports"]}
            self.assertIn(named["data" if container["name"] == "proxy" else "http"], opened)
            self.assertTrue(any(port["port"] == 53 for rule in policy["egress"] for port in rule.get("ports", [])))

    def test_only_monitoring_reaches_the_admin_port_and_only_proxies_the_backends_beside_it(self):
        result = rendered("full")
        proxy, backend = (result.one("NetworkPolicy", f"inference-{it}")["spec"] for it in ("proxy", "backend"))
        peers = {port["port"]: rule["from"] for rule in proxy["ingress"] for port in rule["ports"]}
        monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        self.assertEqual(peers[19901], [monitoring])
        # The release's own test is among the clients.
        (test,) = result.of("Pod")
        self.assertTrue(selects(peers[18080][0]["podSelector"], test["metadata"]["labels"]))
        self.assertEqual(peers[18080][1]["namespaceSelector"]["matchLabels"], {"kubernetes.io/metadata.name": "edge"})
        (rule,) = backend["ingress"]
        self.assertEqual([it["port"] for it in rule["ports"]], [18000, 18001])
        proxies = result.one("Deployment", "inference-proxy")["spec"]["template"]["metadata"]["labels"]
        self.assertTrue(selects(rule["from"][0]["podSelector"], proxies))
        self.assertEqual(rule["from"][1:], [monitoring])
        self.assertNotIn("from", rendered("linkerd").one("NetworkPolicy", "release-aegis-proxy")["spec"]["ingress"][0])
        closed = rendered("sources").one("NetworkPolicy", "release-aegis-proxy")["spec"]["ingress"]
        self.assertEqual([port["port"] for rule in closed for port in rule["ports"]], [8080])

    def test_proxies_reach_the_kubernetes_api_where_they_watch_it(self):
        for name, expected in (("sources", {53, 443, 6443}), ("dns", {53})):
            egress = rendered(name).one("NetworkPolicy", "release-aegis-proxy")["spec"]["egress"]
            self.assertEqual({port["port"] for rule in egress for port in rule.get("ports", [])}, expected)

    def test_backends_that_fetch_models_may_do_so_and_others_not(self):
        for name, expected in (("sources", {53, 80, 443}), ("linkerd", {53, 4143})):
            egress = rendered(name).one("NetworkPolicy", "release-aegis-backend")["spec"]["egress"]
            self.assertEqual({port["port"] for rule in egress for port in rule.get("ports", [])}, expected)

    def test_the_test_asks_the_release_and_is_there_only_with_an_image(self):
        self.assertEqual(rendered("canary").of("Pod"), [])
        (pod,) = rendered("linkerd").of("Pod")
        self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook"], "test")
        (container,) = pod["spec"]["containers"]
        self.assertIn("--url=http://release-aegis-proxy.default:80", container["args"])
        self.assertIn("--model=digits", container["args"])
        # Without objectives nobody minds how punctual the pod was.
        self.assertIn("--slo=/usr/share/aegis/slo.toml", container["args"])
        (pod,) = rendered("full").of("Pod")
        (container,) = pod["spec"]["containers"]
        self.assertIn("--max-lag=1m", container["args"])
        self.assertEqual(container["volumeMounts"], [{"name": "data", "mountPath": "/data", "readOnly": True}])
        self.assertEqual(pod["spec"]["volumes"], [{"name": "data", "configMap": {"name": "digits"}}])
