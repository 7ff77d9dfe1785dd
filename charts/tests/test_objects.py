"""The chart lints, and renders what Kubernetes accepts, over all values files of `ci/`."""

import json
from unittest import TestCase

import kubernetes
import support
from support import CASES, CHART, NEWEST, OLDEST, container_of, for_each_case, pod_of, render, rendered

def is_custom(obj) -> bool:
    return obj["apiVersion"].startswith("monitoring.coreos.com/")


class Objects(TestCase):
    def test_the_chart_lints_without_a_remark(self):
        for case in CASES:
            with self.subTest(case=case.stem):
                done = support.helm("lint", "--strict", str(CHART), f"--values={case}")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_objects_fit_the_oldest_and_the_newest_kubernetes(self):
        for case in CASES:
            for version in (OLDEST, NEWEST):
                result = render(case, kubernetes=version)
                self.assertIsNone(result.refusal)
                with self.subTest(case=case.stem, version=version):
                    own = [it for it in result.objects if not is_custom(it)]
                    self.assertEqual([fault for it in own for fault in kubernetes.faults(version, it)], [])

    def test_the_schemas_see_what_is_misspelt_missing_or_of_a_wrong_type(self):
        deployment = json.loads(json.dumps(rendered("minimal").of("Deployment")[0]))
        pod_of(deployment)["terminationGracePeriodSecond"] = 1
        deployment["spec"]["replicas"] = "2"
        container_of(deployment)["livenessProbe"]["httpGet"]["port"] = True
        del container_of(deployment)["name"]
        faults = [fault.split(": ")[0] for fault in kubernetes.faults(NEWEST, deployment)]
        pod = "Deployment.spec.template.spec"
        self.assertEqual(
            sorted(faults),
            sorted(
                [
                    "Deployment.spec.replicas",
                    f"{pod}.terminationGracePeriodSecond",
                    f"{pod}.containers[0].name",
                    f"{pod}.containers[0].livenessProbe.httpGet.port",
                ]
            ),
        )

    def test_an_older_kubernetes_is_refused(self):
        self.assertIn("1.27.0", render(support.case("minimal"), kubernetes="1.26.0").refusal or "")

    @for_each_case
    def test_no_two_objects_share_a_kind_and_a_name(self, result):
        names = [(it["kind"], it["metadata"]["name"]) for it in result.objects]
        self.assertEqual(len(names), len(set(names)))

    @for_each_case
    def test_every_object_carries_the_standard_labels(self, result):
        for obj in result.objects:
            for label in ["name", "instance", "component", "version", "part-of", "managed-by"]:
                self.assertTrue(obj["metadata"]["labels"][f"app.kubernetes.io/{label}"], obj["metadata"])

    def test_one_deployment_serves_each_version_and_one_is_the_proxy(self):
        counts = {"minimal": 2, "canary": 3, "versions": 6, "full": 3}
        self.assertEqual({file.stem for file in CASES}, set(counts))
        for name, count in counts.items():
            self.assertEqual(len(rendered(name).of("Deployment")), count, name)

    @for_each_case
    def test_each_selector_finds_the_pods_of_exactly_one_deployment(self, result):
        pods = [it["spec"]["template"]["metadata"]["labels"] for it in result.of("Deployment")]
        selectors = [it["spec"]["selector"]["matchLabels"] for it in result.of("Deployment")]
        selectors += [it["spec"]["selector"] for it in result.of("Service")]
        selectors += [it["spec"]["selector"]["matchLabels"] for it in result.of("PodDisruptionBudget")]
        for selector in selectors:
            found = [labels for labels in pods if selector.items() <= labels.items()]
            self.assertEqual(len(found), 1, selector)

    @for_each_case
    def test_pods_meet_the_restricted_standard(self, result):
        for deployment in result.of("Deployment"):
            pod, container = pod_of(deployment), container_of(deployment)
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertGreater(pod["securityContext"]["runAsUser"], 0)
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertEqual(
                container["securityContext"],
                {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            )
            self.assertTrue(all(mount["readOnly"] for mount in container["volumeMounts"]))

    @for_each_case
    def test_no_pod_is_given_a_token(self, result):
        for account in result.of("ServiceAccount"):
            self.assertIs(account["automountServiceAccountToken"], False)
        for deployment in result.of("Deployment"):
            self.assertIs(pod_of(deployment)["automountServiceAccountToken"], False)

    @for_each_case
    def test_accounts_are_those_that_are_made_or_named(self, result):
        made = {it["metadata"]["name"] for it in result.of("ServiceAccount")} | {"edge"}
        for deployment in result.of("Deployment"):
            self.assertIn(pod_of(deployment)["serviceAccountName"], made)

    def test_a_budget_guards_each_deployment_where_it_is_on(self):
        names = [it["metadata"]["name"] for it in rendered("versions").of("Deployment")]
        guarded = [it["metadata"]["name"] for it in rendered("versions").of("PodDisruptionBudget")]
        self.assertEqual(sorted(names), sorted(guarded))
        guarded = [it["metadata"]["name"] for it in rendered("full").of("PodDisruptionBudget")]
        self.assertEqual(sorted(guarded), ["inference-digits-canary", "inference-proxy"])

    def test_a_version_overrides_what_all_backends_share(self):
        deployment = rendered("full").one("Deployment", "inference-digits-canary")
        pod, container = pod_of(deployment), container_of(deployment)
        self.assertEqual(container["image"], "registry.example/aegis-backend:20260601")
        self.assertEqual(container["resources"]["limits"], {"cpu": "2000m", "memory": "8Gi"})
        models = [volume for volume in pod["volumes"] if volume["name"] == "models"]
        self.assertEqual(models, [{"name": "models", "hostPath": {"path": "/var/lib/models", "type": "Directory"}}])
        self.assertEqual(deployment["spec"]["replicas"], 1)

    def test_the_notes_show_each_version(self):
        done = support.helm(
            "install", "release", str(CHART), "--dry-run=client", f"--values={support.case('versions')}"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Text_Embedder.v2 version 2026.05, weight 1000000, 2 pods behind 10.96.200.4:8000", done.stdout)
