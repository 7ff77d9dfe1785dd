"""The chart lints, and renders what Kubernetes accepts, over all values files of `ci/`."""

import json
from unittest import TestCase

import definitions
import kubernetes
import support
from support import CASES, CHART, NEWEST, OLDEST, container_of, for_each_case, pod_of, render, rendered

# Cases that use what came with a later Kubernetes than the oldest supported one.
SINCE = {"sources": "1.33.0"}


def is_custom(obj) -> bool:
    return definitions.knows(obj) or is_route(obj)


def is_route(obj) -> bool:
    return obj["apiVersion"] == "gateway.networking.k8s.io/v1"


class Objects(TestCase):
    def test_the_chart_lints_without_a_remark(self):
        for case in CASES:
            with self.subTest(case=case.stem):
                done = support.helm("lint", "--strict", str(CHART), f"--values={case}")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_objects_fit_the_oldest_and_the_newest_kubernetes(self):
        for case in CASES:
            for version in (SINCE.get(case.stem, OLDEST), NEWEST):
                result = render(case, kubernetes=version)
                self.assertIsNone(result.refusal)
                with self.subTest(case=case.stem, version=version):
                    own = [it for it in result.objects if not is_custom(it)]
                    self.assertEqual([fault for it in own for fault in kubernetes.faults(version, it)], [])

    @for_each_case
    def test_custom_objects_fit_their_definitions(self, result):
        custom = [it for it in result.objects if is_custom(it)]
        self.assertEqual([fault for it in custom if not is_route(it) for fault in definitions.faults(it)], [])
        for route in filter(is_route, custom):
            self.assert_route(route)

    def assert_route(self, route):
        """The few keys of a route that the chart writes, as the Gateway API has them."""
        self.assertEqual(route["kind"], "HTTPRoute")
        spec = route["spec"]
        self.assertLessEqual(set(spec), {"parentRefs", "hostnames", "rules"})
        for parent in spec["parentRefs"]:
            self.assertLessEqual(set(parent), {"group", "kind", "name", "namespace", "sectionName", "port"})
        for rule in spec["rules"]:
            self.assertEqual(set(rule), {"matches", "backendRefs"})
            for match in rule["matches"]:
                self.assertEqual({key: set(it) for key, it in match.items()}, {"path": {"type", "value"}})
                self.assertIn(match["path"]["type"], ("Exact", "PathPrefix", "RegularExpression"))
            for reference in rule["backendRefs"]:
                self.assertIsInstance(reference["port"], int)

    def test_the_definitions_see_what_is_misspelt_missing_or_of_a_wrong_type(self):
        monitor = json.loads(json.dumps(rendered("full").of("PodMonitor")[0]))
        monitor["spec"]["podMetricsEndpoint"] = monitor["spec"].pop("podMetricsEndpoints")
        scaler = json.loads(json.dumps(rendered("keda").of("ScaledObject")[0]))
        scaler["spec"]["maxReplicaCount"] = "3"
        scaler["spec"]["triggers"][0]["metricType"] = 3
        del scaler["spec"]["triggers"][0]["type"]
        faults = [it.split(": ")[0] for obj in (monitor, scaler) for it in definitions.faults(obj)]
        trigger = "ScaledObject.spec.triggers[0]"
        expected = ["PodMonitor.spec.podMetricsEndpoint", "ScaledObject.spec.maxReplicaCount"]
        self.assertEqual(sorted(faults), sorted([*expected, f"{trigger}.metricType", f"{trigger}.type"]))

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
        counts = {"minimal": 2, "canary": 3, "versions": 6, "full": 3, "hpa": 3, "keda": 3, "gpu": 3, "nginx": 3}
        counts.update({"traefik": 3, "linkerd": 3, "sources": 4, "off": 2, "dns": 3})
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
        pods = [pod_of(it) for it in result.of("Deployment")] + [it["spec"] for it in result.of("Pod")]
        for pod in pods:
            (container,) = pod["containers"]
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertGreater(pod["securityContext"].get("runAsUser", 1), 0)
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertEqual(
                container["securityContext"],
                {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            )
            writable = [it["name"] for it in container.get("volumeMounts", []) if not it.get("readOnly")]
            # What is fetched is kept, and verified again whenever it is read.
            self.assertIn(writable, ([], ["cache"]))

    @for_each_case
    def test_only_proxies_are_given_a_token_and_only_to_read_where_pods_are(self, result):
        for account in result.of("ServiceAccount"):
            self.assertIs(account["automountServiceAccountToken"], False)
        watching = result not in (rendered("dns"), rendered("full"))
        for deployment in result.of("Deployment"):
            expected = watching and container_of(deployment)["name"] == "proxy"
            self.assertIs(pod_of(deployment)["automountServiceAccountToken"], expected)
        self.assertEqual(len(result.of("Role")), int(watching))
        for role, binding in zip(result.of("Role"), result.of("RoleBinding")):
            rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
            self.assertEqual(role["rules"], [rule])
            self.assertEqual(binding["roleRef"]["name"], role["metadata"]["name"])
            (proxy,) = [it for it in result.of("Deployment") if container_of(it)["name"] == "proxy"]
            self.assertEqual([it["name"] for it in binding["subjects"]], [pod_of(proxy)["serviceAccountName"]])
        self.assertEqual(result.of("ClusterRole"), [])
        for pod in result.of("Pod"):
            self.assertIs(pod["spec"]["automountServiceAccountToken"], False)

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
        service = "the Service release-aegis-text-embedder-v2-2026-05"
        self.assertIn(f"Text_Embedder.v2 version 2026.05, weight 1000000, 2 pods behind {service}", done.stdout)

    def test_the_notes_say_what_nobody_should_leave_so(self):
        done = support.helm("install", "release", str(CHART), "--dry-run=client", f"--values={support.case('off')}", "--set=proxy.replicas=1")
        for said in ("is served whoever made it", "1 proxies: while a node drains", "Nobody is told when it fails", "has no password"):
            self.assertIn(said, done.stdout)
        done = support.helm("install", "release", str(CHART), "--dry-run=client", f"--values={support.case('minimal')}")
        for said in ("whoever made it", "while a node drains"):
            self.assertNotIn(said, done.stdout)

    @for_each_case
    def test_no_change_takes_capacity_away_before_it_gives_some(self, result):
        for deployment in result.of("Deployment"):
            spec = deployment["spec"]
            self.assertEqual(spec["strategy"]["rollingUpdate"]["maxUnavailable"], 0)
            self.assertNotIn(spec["strategy"]["rollingUpdate"]["maxSurge"], (0, "0%"))
            self.assertGreater(spec["progressDeadlineSeconds"], spec["minReadySeconds"])

    def test_pods_spread_over_nodes_and_zones_as_they_are_told(self):
        told = {}
        for name in ("minimal", "full", "off"):
            for deployment in rendered(name).of("Deployment"):
                spread = pod_of(deployment).get("topologySpreadConstraints", [])
                told[name, container_of(deployment)["name"]] = {it["topologyKey"]: it["whenUnsatisfiable"] for it in spread}
                for constraint in spread:
                    selector = constraint["labelSelector"]["matchLabels"]
                    self.assertEqual(selector, deployment["spec"]["selector"]["matchLabels"])
        host, zone = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
        self.assertEqual(told["minimal", "proxy"], {host: "ScheduleAnyway", zone: "ScheduleAnyway"})
        self.assertEqual(told["full", "proxy"], {host: "DoNotSchedule"})
        self.assertEqual(told["off", "backend"], {})

    def test_whose_the_processes_are_is_said_or_left_to_the_cluster(self):
        own = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
        for name, expected in (("minimal", own), ("full", {"supplementalGroups": [3000]})):
            for deployment in rendered(name).of("Deployment"):
                said = {key: it for key, it in pod_of(deployment)["securityContext"].items() if "Group" in key or key == "runAsUser"}
                said.pop("fsGroupChangePolicy")
                self.assertEqual(said, expected)

    def test_an_image_may_be_told_by_its_digest_and_a_versions_own_tag_comes_before_that(self):
        digest = "sha256:" + "0123456789abcdef" * 4
        image = {"image": {"digest": digest, "tag": ""}}
        own = {"digits": {"versions": {"2": {"image": {"tag": "next"}}}}}
        result = rendered("canary", proxy=image, backend=image, models=own)
        images = [container_of(it)["image"] for it in result.of("Deployment")]
        at = "registry.example/aegis-"
        self.assertEqual(images, [f"{at}backend@{digest}", f"{at}backend:next", f"{at}proxy@{digest}"])

    def test_further_volumes_are_seen_where_they_are_mounted(self):
        for deployment in rendered("full").of("Deployment"):
            (volume,) = [it for it in pod_of(deployment)["volumes"] if it["name"] == "authorities"]
            self.assertEqual(volume["configMap"], {"name": "authorities"})
            (mount,) = [it for it in container_of(deployment)["volumeMounts"] if it["name"] == "authorities"]
            self.assertEqual(mount, {"name": "authorities", "mountPath": "/etc/authorities", "readOnly": True})

    def test_memory_follows_the_models_size_unless_it_is_said(self):
        def asked(memory=None, name="minimal", **backend):
            result = rendered(name, backend={**backend, **({"memory": memory} if memory else {})})
            resources = container_of(result.one("Deployment", "release-aegis-digits-1"))["resources"]
            return [resources[kind].get("memory") for kind in ("requests", "limits")]

        self.assertEqual(asked(), ["512Mi", "2048Mi"])
        big = {"modelMiB": 1000, "instances": 2}
        self.assertEqual(asked(big), ["3512Mi", "5048Mi"])
        self.assertEqual(asked(big, config={"max_queue_bytes": 1 << 30}), ["4280Mi", "5816Mi"])
        self.assertEqual(asked(big, config={"verify": "off"}), ["2512Mi", "4048Mi"])
        # What is fetched is sealed, verified or not.
        self.assertEqual(asked(big, "sources", config={"verify": "off"}), ["3512Mi", "5048Mi"])
        said = {"requests": {"memory": "7Gi"}, "limits": {"memory": ""}}
        self.assertEqual(asked(big, resources=said), ["7Gi", None])

    def test_what_kubernetes_lets_nobody_change_is_what_it_was(self):
        result = rendered("canary")
        selectors = {it["metadata"]["name"]: it["spec"]["selector"]["matchLabels"] for it in result.of("Deployment")}
        labels = {"app.kubernetes.io/name": "aegis", "app.kubernetes.io/instance": "release"}
        backend = {**labels, "app.kubernetes.io/component": "backend"}
        self.assertEqual(
            selectors,
            {
                "release-aegis-proxy": {**labels, "app.kubernetes.io/component": "proxy"},
                "release-aegis-digits-1": {**backend, "aegis-backend": "digits-1"},
                "release-aegis-digits-2": {**backend, "aegis-backend": "digits-2"},
            },
        )
        addresses = {it["metadata"]["name"]: it["spec"].get("clusterIP") for it in result.of("Service")}
        expected = {"release-aegis-proxy": None, "release-aegis-digits-1": "None", "release-aegis-digits-2": "None"}
        self.assertEqual(addresses, expected)
        (binding,) = result.of("RoleBinding")
        self.assertEqual((binding["metadata"]["name"], binding["roleRef"]["name"]), ("release-aegis-proxy",) * 2)

    def test_a_gpu_is_asked_for_where_the_node_has_one_and_only_there(self):
        result = rendered("gpu")
        gpu = pod_of(result.one("Deployment", "release-aegis-digits-1"))
        cpu = pod_of(result.one("Deployment", "release-aegis-digits-2"))
        (limits, plain) = (it["containers"][0]["resources"]["limits"] for it in (gpu, cpu))
        self.assertEqual(limits, {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 1})
        self.assertEqual(plain, {"cpu": "4", "memory": "16Gi"})
        self.assertEqual(gpu["nodeSelector"], {"pool": "accelerated", "nvidia.com/gpu.present": "true"})
        self.assertEqual(gpu["tolerations"], [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])
        self.assertEqual(gpu["runtimeClassName"], "nvidia")
        self.assertEqual(cpu["nodeSelector"], {"pool": "accelerated"})
        self.assertFalse({"tolerations", "runtimeClassName"} & set(cpu))
