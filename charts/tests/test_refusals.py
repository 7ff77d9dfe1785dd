"""Values that cannot work are refused before anything reaches the cluster, in words that help."""

import json
import os
import subprocess
from typing import Any, Callable
from unittest import TestCase

import kubernetes
import support
from support import CHART, NEWEST, case, documents, render, yaml


def refusal(over: Any, name: str = "canary") -> str:
    return render(case(name), json.dumps(over)).refusal or ""


def version(number: str, **settings: Any) -> Any:
    return {"models": {"digits": {"versions": {number: settings}}}}


# What is empty by default and has to be given all the same.
GIVEN = ("models", "repository", "tag", "volume", "files", "names", "parentRefs", "serverAddress")


def nulls(values, wanted: Callable[[Any], bool], free=("config", "labels", "nodeSelector", "podSecurityContext", "resources", "volume")):
    """A null for each value for which this holds."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in free:
            found[key] = nulls(value, wanted)
        elif key not in (*free, *GIVEN) and wanted(value):
            found[key] = None
    return found


class Refusals(TestCase):
    def test_a_null_is_as_good_as_nothing_where_nothing_is_the_default_and_refused_elsewhere(self):
        values = yaml((CHART / "values.yaml").read_text())
        nothing = nulls(values, lambda value: value in ("", {}, []))
        self.assertIn("tolerations", nothing["backend"])
        for name in ("gpu", "full", "keda", "nginx"):
            result = render(case(name), json.dumps(nothing))
            self.assertIsNone(result.refusal, name)
            own = [it for it in result.objects if it["apiVersion"].split("/")[0] in ("v1", "apps", "autoscaling", "policy")]
            self.assertEqual([fault for it in own for fault in kubernetes.faults(NEWEST, it)], [])
        said = refusal(nulls(values, lambda value: value not in ("", {}, [])))
        for key in ("discovery", "replicas", "minReadySeconds", "grpcPort", "queueDepth", "modelMiB", "runtimeClassName", "rate"):
            self.assertRegex(said, rf"missing propert(y|ies).*'{key}'")
        for key in ("ports", "service", "rollout"):
            self.assertIn(f"missing property '{key}'", refusal({"proxy": {key: None}}))

    def assert_refused(self, over: Any, *sentences: str, name: str = "canary"):
        said = refusal(over, name)
        for sentence in sentences:
            self.assertIn(sentence, said)

    def test_nothing_but_defaults_names_all_that_is_required(self):
        said = render(None).refusal or ""
        self.assertIn("set proxy.image.repository to where you pushed the image of aegis-proxy", said)
        self.assertIn("set proxy.image.tag (or digest) to the version", said)
        self.assertIn("set models: the proxy serves at least one", said)

    def test_models_are_not_verified_with_nothing(self):
        sentence = "set backend.trustedKeys (or that of models.digits.versions.1) to the public keys"
        self.assert_refused({"backend": {"trustedKeys": {"files": None}}}, sentence)
        self.assertEqual(refusal({"backend": {"trustedKeys": {"files": None}, "config": {"verify": "off"}}}), "")
        volume = {"secret": {"secretName": "keys"}}
        self.assert_refused({"backend": {"trustedKeys": {"volume": volume, "names": ["a.pub"]}}}, "and not both")
        only = {"files": None, "volume": volume}
        self.assert_refused({"backend": {"trustedKeys": only}}, "a volume and the names of its files, or neither")
        private = {"a.pub": "-----BEGIN PRIVATE KEY-----"}
        self.assert_refused({"backend": {"trustedKeys": {"files": private}}}, "/backend/trustedKeys/files/a.pub")

    def test_a_backend_needs_an_image_and_a_volume_or_a_source(self):
        image = {"repository": "", "tag": ""}
        self.assert_refused(
            {"backend": {"image": image, "modelRepository": {"volume": None}}, **version("2", weight=10)},
            "set backend.image.repository (or that of models.digits.versions.2)",
            "set backend.image.tag or digest",
            "set backend.modelRepository.volume (or that of models.digits.versions.2)",
            "or models.digits.versions.2.source to an archive",
        )

    def test_a_volume_has_one_source(self):
        self.assert_refused(
            {"backend": {"modelRepository": {"volume": {"hostPath": {"path": "/models"}}}}},
            "one source: it has hostPath, persistentVolumeClaim",
        )

    def test_the_cache_of_archives_has_one_source(self):
        volume = {"emptyDir": None}
        self.assert_refused(
            {"backend": {"modelCache": {"volume": volume}}}, "give backend.modelCache.volume", name="sources"
        )

    def test_an_autoscaler_has_a_range_and_something_to_hold_to(self):
        nothing = {"cpu": "", "queueDepth": 0, "p95Seconds": 0, "requestsPerSecond": 0}
        self.assert_refused(
            {"backend": {"autoscaling": {"by": "keda", "minReplicas": 11, "targets": nothing}}},
            "keep minReplicas (11) of backend.autoscaling (or that of models.digits.versions.1) at or under maxReplicas (10)",
            "set one of backend.autoscaling.targets (or that of models.digits.versions.1): nothing is held to",
            "set backend.autoscaling.keda.serverAddress (or that of models.digits.versions.1) to your Prometheus",
        )
        self.assert_refused({"proxy": {"autoscaling": {"minReplicas": 11}}}, "keep minReplicas (11) of proxy.autoscaling")

    def test_by_dns_an_old_pod_waits_for_the_proxies_to_know_a_new_one(self):
        self.assert_refused({"discovery": "dns"}, "minReadySeconds (or that of models.digits.versions.1) to 45 or more")
        self.assertEqual(refusal({"discovery": "dns", "backend": {"rollout": {"minReadySeconds": 45}}}), "")

    def test_a_rollout_can_succeed(self):
        self.assert_refused(
            {"proxy": {"rollout": {"minReadySeconds": 600}}}, "keep rollout.minReadySeconds (600) beside proxy.autoscaling"
        )
        self.assert_refused({"backend": {"rollout": {"maxSurge": 0}}}, "maxSurge")

    def test_names_fit_into_labels(self):
        long = "m" * 64
        self.assert_refused({"models": {long: {"versions": {"1": {"weight": 1, "name": "m"}}}}}, f'rename "{long}"')

    def test_objects_are_named_by_what_may_begin_the_name_of_a_service(self):
        for name in ("1st", "a.b"):
            done = support.helm("template", name, str(CHART), f"--values={case('minimal')}")
            self.assertIn(f'"{name}-aegis" cannot begin the name of a Service', done.stderr)
        self.assert_refused({"fullnameOverride": "Edge"}, '"Edge" cannot begin the name of a Service')
        self.assert_refused({"fullnameOverride": "e" * 58}, "schema", "fullnameOverride")
        self.assert_refused({"nameOverride": "-edge"}, "schema", "nameOverride")
        # The longest that Helm takes, and one with which the end has to be cut off.
        for length in (44, 53):
            short = json.dumps({"models": {"digits": {"versions": {"1": {"name": "d"}}}}})
            command = [os.environ["HELM"], "template", "r" * length, str(CHART), f"--values={case('minimal')}", "--values=-"]
            done = subprocess.run(command, input=short, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            services = [it["metadata"]["name"] for it in documents(done.stdout) if it["kind"] == "Service"]
            self.assertEqual(len(services), 2)
            self.assertLessEqual(max(map(len, services)), 63)

    def test_routes_hang_on_a_gateway(self):
        self.assert_refused({"gateway": {"enabled": True}}, "set gateway.parentRefs to the Gateways")

    def test_the_test_has_a_tag_and_a_model_that_is_served(self):
        image = {"image": {"repository": "registry.example/aegis-loadtest"}}
        self.assert_refused({"test": {**image, "model": "faces"}}, "set test.image.tag (or digest)", 'there is no "faces"')

    def test_weights_are_required_and_not_all_0(self):
        self.assert_refused(version("3", replicas=1), "set models.digits.versions.3.weight")
        zeros = {"1": {"weight": 0}, "2": {"weight": 0}}
        self.assert_refused(
            {"models": {"digits": {"versions": zeros}}}, "give one of models.digits.versions a weight above 0"
        )

    def test_a_model_needs_a_version_and_its_fallback_known_ones(self):
        self.assert_refused({"models": {"faces": {}}}, "set models.faces.versions: a model has at least one")
        self.assert_refused({"models": {"digits": {"fallback": ["9"]}}}, 'there is no version "9"')

    def test_names_of_objects_are_valid_short_and_different(self):
        self.assert_refused(version("2", name="digits-1"), "its objects would be named release-aegis-digits-1")
        self.assert_refused(version("2", name="Canary"), '"Canary" cannot end the name of a Service')
        self.assert_refused(version("2", name="c" * 60), "and the name of a Service at most 63")
        self.assert_refused(version("2", name="proxy"), '"proxy" is taken by the chart')

    def test_a_drain_outlasts_its_delay(self):
        self.assert_refused(
            {"proxy": {"config": {"drain": {"delay_ms": 30000}}}},
            "keep proxy.config.drain.delay_ms (30000) at or under grace_ms (25000)",
        )
        self.assert_refused(
            {"backend": {"config": {"drain_delay_ms": 30000}}},
            "keep drain_delay_ms (30000) of models.digits.versions.1 at or under grace_ms (25000)",
        )

    def test_what_is_for_load_balancers_is_said_of_one(self):
        self.assert_refused({"proxy": {"service": {"externalTrafficPolicy": "Local"}}}, "leave proxy.service.externalTrafficPolicy empty")
        for key, value in (("loadBalancerClass", "a/b"), ("loadBalancerSourceRanges", ["10.0.0.0/8"])):
            self.assert_refused({"proxy": {"service": {"type": "NodePort", key: value}}}, "with type NodePort: there is no load balancer")
        self.assert_refused({"proxy": {"service": {"loadBalancerSourceRanges": ["10.0.0.1"]}}}, "schema", "loadBalancerSourceRanges")

    def test_the_proxys_ports_differ(self):
        self.assert_refused({"proxy": {"ports": {"admin": 8080}}}, "two ports: both are 8080")
        self.assert_refused({"proxy": {"service": {"grpcPort": 80}}}, "two ports: both are 80")

    def test_the_schema_refuses_wrong_types_ranges_and_keys(self):
        for over, where in [
            ({"proxy": {"replica": 3}}, "replica"),
            ({"proxy": {"config": {"limits": {"max_connection": 3}}}}, "max_connection"),
            ({"proxy": {"config": {"drain": None}}}, "drain"),
            ({"backend": {"config": {"grace_ms": None}}}, "grace_ms"),
            ({"models": {"digits": {"breaker": {"consecutive_failures": 0}}}}, "consecutive_failures"),
            (version("2", weight=-3), "weight"),
            (version("2", weight="10"), "weight"),
            (version("2", wieght=3), "wieght"),
            ({"proxy": {"ports": {"data": 80}}}, "data"),
            ({"models": {"a b": {}}}, "a b"),
            (version("2", source={"from": "ftp://x", "sha256": "0" * 64}), "from"),
            (version("2", source={"from": "https://x"}), "sha256"),
            (version("2", autoscaling={"by": "magic"}), "by"),
            ({"backend": {"gpu": {"count": 0}}}, "count"),
            ({"discovery": "consul"}, "discovery"),
            ({"backend": {"config": {"grpc_listen": "0.0.0.0:8001"}}}, "grpc_listen"),
            ({"proxy": {"image": {"digest": "sha256:0123"}}}, "digest"),
            ({"proxy": {"volumes": [{"name": "config", "emptyDir": {}}]}}, "/proxy/volumes/0/name"),
            ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
            ({"backend": {"config": {"model_cache": "/tmp"}}}, "model_cache"),
            ({"proxy": {"topologySpread": {"host": "Always"}}}, "host"),
            ({"networkPolicy": {"extraPorts": [70000]}}, "extraPorts"),
            ({"ingress": {"hosts": ["a"]}}, "hosts"),
        ]:
            with self.subTest(over=over):
                said = refusal(over)
                self.assertIn("schema", said)
                self.assertIn(where, said)
