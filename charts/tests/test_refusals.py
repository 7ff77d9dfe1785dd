"""Values that cannot work are refused before anything reaches the cluster, in words that help."""

import json
from typing import Any
from unittest import TestCase

from support import case, render


def refusal(over: Any, name: str = "canary") -> str:
    return render(case(name), json.dumps(over)).refusal or ""


def version(number: str, **settings: Any) -> Any:
    return {"models": {"digits": {"versions": {number: settings}}}}


class Refusals(TestCase):
    def assert_refused(self, over: Any, *sentences: str):
        said = refusal(over)
        for sentence in sentences:
            self.assertIn(sentence, said)

    def test_nothing_but_defaults_names_all_that_is_required(self):
        said = render(None).refusal or ""
        self.assertIn("set proxy.image.repository to where you pushed the image of aegis-proxy", said)
        self.assertIn("set proxy.image.tag to the version", said)
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

    def test_a_backend_needs_an_image_a_volume_and_an_address(self):
        image = {"repository": "", "tag": ""}
        self.assert_refused(
            {"backend": {"image": image, "modelRepository": {"volume": None}}, **version("2", clusterIP="")},
            "set backend.image.repository (or that of models.digits.versions.2)",
            "set backend.image.tag",
            "set backend.modelRepository.volume",
            "set models.digits.versions.2.clusterIP to a free address of the cluster's Service range",
        )

    def test_a_volume_has_one_source(self):
        self.assert_refused(
            {"backend": {"modelRepository": {"volume": {"hostPath": {"path": "/models"}}}}},
            "one source: it has hostPath, persistentVolumeClaim",
        )

    def test_two_versions_cannot_share_an_address(self):
        self.assert_refused(
            version("2", clusterIP="10.96.200.1"),
            "give models.digits.versions.2.clusterIP an address of its own: models.digits.versions.1 has 10.96.200.1",
        )

    def test_weights_are_required_and_not_all_0(self):
        self.assert_refused(version("3", clusterIP="10.96.200.3"), "set models.digits.versions.3.weight")
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

    def test_the_proxys_ports_differ(self):
        self.assert_refused({"proxy": {"ports": {"admin": 8080}}}, "two ports: both are 8080")

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
        ]:
            with self.subTest(over=over):
                said = refusal(over)
                self.assertIn("schema", said)
                self.assertIn(where, said)
