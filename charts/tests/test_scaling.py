"""Autoscalers look at what the adapter, or Prometheus itself, gives them, and at nothing twice."""

import re
from unittest import TestCase

import support
from support import container_of, for_each_case, rendered, yaml

ADAPTER = support.CHART / "adapter" / "rules.yaml"


def metrics_of(autoscaler):
    """Name → (type of the metric, target), of a HorizontalPodAutoscaler."""
    found = {}
    for metric in autoscaler["spec"]["metrics"]:
        (inner,) = [it for key, it in metric.items() if key != "type"]
        found[inner.get("name") or inner["metric"]["name"]] = (metric["type"], inner["target"])
    return found


class Scaling(TestCase):
    @for_each_case
    def test_each_deployment_has_a_number_of_pods_or_one_who_decides_it(self, result):
        scalers = result.of("HorizontalPodAutoscaler") + result.of("ScaledObject")
        scaled = [it["spec"]["scaleTargetRef"] for it in scalers]
        self.assertTrue(all(it["kind"] == "Deployment" and it["apiVersion"] == "apps/v1" for it in scaled))
        names = [it["name"] for it in scaled]
        self.assertEqual(len(names), len(set(names)))
        for deployment in result.of("Deployment"):
            self.assertEqual("replicas" in deployment["spec"], deployment["metadata"]["name"] not in names)
        self.assertLessEqual(set(names), {it["metadata"]["name"] for it in result.of("Deployment")})

    def test_pods_on_cpus_are_held_to_cpu_queue_latency_and_rate(self):
        scaler = rendered("hpa").one("HorizontalPodAutoscaler", "release-aegis-digits-1")
        average = "AverageValue"
        expected = {
            "cpu": ("ContainerResource", {"type": average, "averageValue": "1400m"}),
            "aegis_inference_queue_depth": ("Pods", {"type": average, "averageValue": "8000m"}),
            "aegis_inference_requests_per_second": ("Pods", {"type": average, "averageValue": "400000m"}),
            "aegis_inference_latency_p95_seconds": ("External", {"type": "Value", "value": "500m"}),
        }
        self.assertEqual(metrics_of(scaler), expected)
        self.assertEqual((scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]), (3, 30))
        self.assertEqual(scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 300)
        self.assertEqual(scaler["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0)

    def test_pods_on_gpus_are_held_to_queue_and_busy_share(self):
        scaler = rendered("gpu").one("HorizontalPodAutoscaler", "release-aegis-digits-1")
        self.assertEqual(set(metrics_of(scaler)), {"aegis_inference_queue_depth", "aegis_instances_busy"})

    def test_what_autoscalers_ask_for_is_what_the_adapter_gives(self):
        rules = yaml(ADAPTER.read_text())
        given = {"Pods": rules["rules"], "External": rules["externalRules"]}
        given = {kind: {it["name"]["as"] for it in entries} for kind, entries in given.items()}
        asked = set()
        for name in ("hpa", "gpu"):
            for scaler in rendered(name).of("HorizontalPodAutoscaler"):
                for metric, (kind, _) in metrics_of(scaler).items():
                    if kind in given:
                        self.assertIn(metric, given[kind])
                        asked.add(metric)
        self.assertEqual(asked, given["Pods"] | given["External"])

    def test_the_cpu_that_is_held_to_is_that_of_the_program_and_can_be_reached(self):
        for scaler in rendered("hpa").of("HorizontalPodAutoscaler"):
            deployment = rendered("hpa").one("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
            (cpu,) = [it["containerResource"] for it in scaler["spec"]["metrics"] if it["type"] == "ContainerResource"]
            self.assertEqual(cpu["container"], container_of(deployment)["name"])
            limit = container_of(deployment)["resources"]["limits"].get("cpu", "1000000m")
            self.assertLess(int(cpu["target"]["averageValue"][:-1]), int(limit[:-1]))

    def test_versions_are_told_apart_in_every_question(self):
        for scaler in rendered("keda").of("ScaledObject"):
            version = scaler["metadata"]["labels"]["aegis-backend"].rsplit("-", 1)[1]
            triggers = [it for it in scaler["spec"]["triggers"] if it["type"] == "prometheus"]
            self.assertEqual(len(triggers), 3)
            for trigger in triggers:
                query = trigger["metadata"]["query"]
                selectors = re.findall(r"aegis_\w+\{([^}]*)\}", query)
                self.assertTrue(selectors)
                for selector in selectors:
                    for part in ('via=""', 'namespace="default"', 'release="release"', 'model="digits"', f'model_version="{version}"'):
                        self.assertIn(part, selector)
                # KEDA divides what is summed by the number of pods; a quantile is not to be divided.
                kind = "Value" if "quantile" in query else "AverageValue"
                self.assertEqual(trigger["metricType"], kind)
                self.assertEqual(trigger["metadata"]["ignoreNullValues"], "false")

    def test_keda_takes_over_what_an_autoscaler_of_kubernetes_held(self):
        hpa = rendered("keda", backend={"autoscaling": {"by": "hpa"}})
        for scaler in rendered("keda").of("ScaledObject"):
            before = hpa.one("HorizontalPodAutoscaler", scaler["metadata"]["name"])
            self.assertEqual(scaler["metadata"]["annotations"]["scaledobject.keda.sh/transfer-hpa-ownership"], "true")
            # KEDA takes the one over that it would make itself, by its name.
            advanced = scaler["spec"]["advanced"]
            self.assertEqual(advanced["horizontalPodAutoscalerConfig"]["name"], before["metadata"]["name"])
            self.assertIs(advanced["restoreToOriginalReplicaCount"], False)

    def test_the_adapter_is_given_its_rules_as_they_are(self):
        for name, namespace in (("hpa", "monitoring"), ("full", "default")):
            (config,) = [it for it in rendered(name).of("ConfigMap") if "config.yaml" in it["data"]]
            self.assertEqual(yaml(config["data"]["config.yaml"]), yaml(ADAPTER.read_text()))
            self.assertEqual(config["metadata"]["namespace"], namespace)
