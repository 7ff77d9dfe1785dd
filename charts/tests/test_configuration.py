"""What the chart writes is what the programs read, and what the pods are told fits it."""

import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase

import support
from support import ROOT, container_of, for_each_case, pod_of, program, rendered, toml

SCHEMA = support.CHART / "values.schema.json"
# The definitions of the schema that are the chart's own.
OWN = ["strings", "image", "serviceAccount", "trustedKeys", "version"]
OWN += ["autoscaling", "env", "gpu", "rollout", "source", "topologySpread", "volumes", "volumeMounts"]


def check(name: str, file: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program(name), "check", file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )


class Configuration(TestCase):
    @for_each_case
    def test_the_proxy_accepts_its_file(self, result):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "proxy.toml"
            file.write_text(result.proxy_toml())
            done = check("aegis-proxy", file)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_backend_accepts_its_file_with_the_bundled_models(self):
        for name in ("minimal", "canary", "full", "gpu"):
            for text in rendered(name).backend_tomls():
                with self.subTest(case=name), tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / "backend.toml"
                    file.write_text(with_bundled_models(text))
                    done = check("aegis-backend", file)
                    self.assertEqual(done.returncode, 0, done.stdout)

    @for_each_case
    def test_keys_that_are_trusted_are_where_the_pods_find_them(self, result):
        for deployment in result.of("Deployment"):
            container = container_of(deployment)
            if container["name"] != "backend":
                continue
            name = deployment["metadata"]["name"]
            data = result.one("ConfigMap", name)["data"]
            file = toml(data["backend.toml"])
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            for key in file.get("trusted_keys", []):
                folder, _, key_file = key.rpartition("/")
                self.assertIn(folder, mounts)
                if folder == "/etc/aegis":
                    self.assertIn("BEGIN PUBLIC KEY", data[key_file])
            self.assertTrue(file["verify"] == "off" or file["trusted_keys"])

    def test_only_signed_models_are_served_unless_it_is_said_otherwise(self):
        (text,) = rendered("minimal").backend_tomls()
        self.assertEqual(toml(text)["verify"], "required")
        self.assertEqual(toml(text)["trusted_keys"], ["/etc/aegis/demo.pub"])
        key = rendered("minimal").of("ConfigMap")
        (key,) = [it["data"]["demo.pub"] for it in key if "demo.pub" in it["data"]]
        self.assertEqual(key, (ROOT / "config" / "keys" / "demo.pub").read_text())
        first, second = (toml(text) for text in rendered("full").backend_tomls())
        self.assertEqual(first["trusted_keys"], ["/etc/aegis-keys/team.pub", "/etc/aegis-keys/next.pub"])
        self.assertEqual(second["verify"], "off")

    @for_each_case
    def test_each_version_is_found_by_a_headless_service_of_its_own_and_so_at_its_pods(self, result):
        by_dns = result in (rendered("dns"), rendered("full"))
        served = []
        for service in result.of("Service"):
            if service["spec"].get("clusterIP") == "None":
                name = service["metadata"]["name"]
                (port,) = service["spec"]["ports"]
                if by_dns:
                    served.append({"endpoints": [f"{name}.default.svc.k8s.example.:{port['port']}"]})
                else:
                    served.append({"kubernetes": {"service": name, "namespace": "default", "port": port["name"]}})
                # A name stands for the pods, so what is asked for is the pods' own port.
                self.assertEqual(port["targetPort"], "http")
                (pods,) = [it for it in result.of("Deployment") if it["metadata"]["name"] == name]
                self.assertEqual(container_of(pods)["ports"], [{"name": "http", "containerPort": port["port"]}])
                # By DNS nothing else says that a pod is coming; by its slices the cluster says when it is ready.
                self.assertEqual(service["spec"].get("publishNotReadyAddresses", False), by_dns)
        models = toml(result.proxy_toml())["models"].values()
        found = [{k: it for k, it in one.items() if k != "weight"} for model in models for one in model["versions"].values()]
        self.assertEqual(sorted(found, key=str), sorted(served, key=str))

    def test_weights_and_settings_arrive_as_they_were_given(self):
        models = toml(rendered("versions").proxy_toml())["models"]
        weights = {version: it["weight"] for version, it in models["digits"]["versions"].items()}
        self.assertEqual(weights, {"1": 98.5, "2": 1.5, "3": 0})
        self.assertEqual(set(models["Text_Embedder.v2"]["versions"]), {"2026.05", "true"})
        self.assertIs(models["Text_Embedder.v2"]["allow_pin"], False)
        file = toml(rendered("full").proxy_toml())
        self.assertEqual(file["limits"]["max_body_bytes"], 4294967296)
        self.assertEqual(file["models"]["digits"]["breaker"]["enforce"], False)
        self.assertEqual(file["models"]["digits"]["health_check"]["path"], "/v2/health/ready")

    def test_pods_are_asked_for_the_version_that_they_should_serve(self):
        # An address that a pod of another version has been given since must not pass.
        self.assertNotIn("health_check", toml(rendered("canary").proxy_toml())["models"]["digits"])
        default = toml((ROOT / "config" / "proxy.toml").read_text().replace("\n#path", "\npath"))
        self.assertIn("{version}", default["models"]["digits"]["health_check"]["path"])

    def test_by_default_a_proxy_knows_a_new_pod_before_an_old_one_goes(self):
        # What CoreDNS is set up with by kubeadm, and defaults of the proxy's health checks and slow start.
        coredns, checks, slow_start = 30, 2 * (1.1 + 0.5), 10
        for case in ("canary", "dns"):
            for deployment in rendered(case).of("Deployment"):
                if container_of(deployment)["name"] == "backend":
                    believed = toml(rendered(case).proxy_toml())["dns"]["max_ttl_ms"] / 1000 * 1.1
                    found = checks + (coredns + believed if case == "dns" else slow_start)
                    self.assertGreaterEqual(deployment["spec"]["minReadySeconds"], found)

    def test_by_default_a_drain_is_noticed_before_it_refuses(self):
        # A backend's delay outlasts one health check of the proxy.
        for text in rendered("canary").backend_tomls():
            self.assertGreaterEqual(toml(text)["drain_delay_ms"], 1.1 * 1000 + 500)
        # A proxy's outlasts its readiness probe, with some seconds for whoever is in front to hear of it; and what is
        # under way then has as long as a request may take.
        drain = toml(rendered("canary").proxy_toml())["drain"]
        (proxy,) = [it for it in rendered("canary").of("Deployment") if container_of(it)["name"] == "proxy"]
        probe = container_of(proxy)["readinessProbe"]
        noticed = probe["periodSeconds"] * probe["failureThreshold"] * 1000
        self.assertGreaterEqual(drain["delay_ms"], noticed + 3000)
        self.assertGreaterEqual(drain["grace_ms"] - drain["delay_ms"], 15_000)

    @for_each_case
    def test_a_busy_pod_is_given_time_to_say_that_it_is_ready(self, result):
        for deployment in result.of("Deployment"):
            probe = container_of(deployment)["readinessProbe"]
            self.assertGreaterEqual(probe["timeoutSeconds"], 5)
            self.assertGreaterEqual(probe["failureThreshold"], 3)

    def test_a_version_with_a_source_is_fetched_into_a_folder_that_can_be_written(self):
        result = rendered("sources")
        (text,) = [it for it in result.backend_tomls() if "sources" in it]
        file = toml(text)
        source = {"from": "https://registry.example/models/digits-1.tar.gz", "sha256": "0123456789abcdef" * 4}
        self.assertEqual(file["models"]["digits"]["sources"], {"1": source})
        for deployment in result.of("Deployment"):
            mounts = {it["mountPath"]: it for it in container_of(deployment)["volumeMounts"]}
            fetched = deployment["metadata"]["name"] == "release-aegis-digits-1"
            self.assertEqual(file["model_cache"] in mounts, fetched)
            if fetched:
                self.assertNotIn("readOnly", mounts[file["model_cache"]])
                volumes = {it.pop("name"): it for it in json.loads(json.dumps(pod_of(deployment)["volumes"]))}
                self.assertEqual(volumes["cache"], {"emptyDir": {"sizeLimit": "2Gi"}})
                self.assertEqual(volumes["models"], {"emptyDir": {}})

    @for_each_case
    def test_ports_lead_where_the_programs_listen(self, result):
        listen = toml(result.proxy_toml())["listen"]
        ports = {key: int(address.rsplit(":", 1)[1]) for key, address in listen.items()}
        for deployment in result.of("Deployment"):
            container = container_of(deployment)
            named = {port["name"]: port["containerPort"] for port in container["ports"]}
            if container["name"] == "proxy":
                self.assertEqual(named, ports)
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                self.assertIn(container[probe]["httpGet"]["port"], named)
        listening = [toml(text)["listen"].rsplit(":", 1)[1] for text in result.backend_tomls()]
        backends = [it for it in result.of("Deployment") if container_of(it)["name"] == "backend"]
        self.assertEqual(listening, [str(container_of(it)["ports"][0]["containerPort"]) for it in backends])

    @for_each_case
    def test_the_admin_port_is_on_no_service(self, result):
        targets = [port["targetPort"] for it in result.of("Service") for port in it["spec"]["ports"]]
        self.assertEqual(set(targets), {"data", "http"})

    @for_each_case
    def test_kubernetes_waits_a_little_longer_than_the_longest_drain(self, result):
        graces = {"proxy": [toml(result.proxy_toml())["drain"]["grace_ms"]]}
        graces["backend"] = [toml(text)["grace_ms"] for text in result.backend_tomls()]
        for deployment in result.of("Deployment"):
            grace = graces[container_of(deployment)["name"]].pop(0)
            waits = pod_of(deployment)["terminationGracePeriodSeconds"]
            self.assertEqual(waits, math.ceil(grace / 1000) + 5)

    def test_a_change_of_models_makes_no_new_pod_of_the_proxy(self):
        before = rendered("canary")
        after = rendered("canary", models={"digits": {"versions": {"1": {"weight": 50}, "2": {"weight": 50}}}})
        self.assertNotEqual(before.proxy_toml(), after.proxy_toml())
        self.assertEqual(before.of("Deployment"), after.of("Deployment"))

    def test_a_change_of_what_needs_a_restart_makes_new_pods_of_that_program_only(self):
        before = rendered("canary").of("Deployment")
        for which, config in [("proxy", {"limits": {"max_connections": 5}}), ("backend", {"max_queue_requests": 5})]:
            after = rendered("canary", **{which: {"config": config}}).of("Deployment")
            self.assertEqual(len(before), len(after))
            for old, new in zip(before, after):
                template = old["spec"]["template"], new["spec"]["template"]
                self.assertEqual(template[0] != template[1], container_of(old)["name"] == which)

    @for_each_case
    def test_the_files_are_mounted_as_folders_so_that_they_can_change(self, result):
        for deployment in result.of("Deployment"):
            container = container_of(deployment)
            (mount,) = [it for it in container["volumeMounts"] if it["name"] == "config"]
            self.assertNotIn("subPath", mount)
            self.assertEqual(container["args"][-1], f"{mount['mountPath']}/{container['name']}.toml")
            (volume,) = [it for it in pod_of(deployment)["volumes"] if it["name"] == "config"]
            config = result.one("ConfigMap", volume["configMap"]["name"])
            self.assertIn(f"{container['name']}.toml", config["data"])

    def test_the_schema_knows_the_programs_keys(self):
        schema = json.loads(SCHEMA.read_text())
        self.assertEqual(schema, with_programs(schema), "to mend it: scripts/check_charts.sh --write-schema")

    def test_every_value_is_told(self):
        lines = (support.CHART / "values.yaml").read_text().splitlines()
        for number, line in enumerate(lines):
            # A table that only groups is told by what is in it.
            if re.match(r" *[a-z]\w*: ?\S", line) and not re.match(r" +(requests|limits): ", line):
                self.assertRegex(lines[number - 1], r"^ *# ", f"values.yaml:{number + 1}: {line} has no comment")


def with_bundled_models(text: str) -> str:
    """The file with the repository of this source in place of the volume."""
    folder = json.dumps(str(ROOT / "config" / "models"))
    text = re.sub(r"(?m)^model_repository = .*$", lambda _: f"model_repository = {folder}", text)
    # The key that the examples trust is the one that signed the bundled models.
    keys = json.dumps([str(ROOT / "config" / "keys" / "demo.pub")])
    return re.sub(r"(?m)^trusted_keys = .*$", lambda _: f"trusted_keys = {keys}", text)


def with_programs(schema):
    """The schema of the values, with the programs' keys as their own schemas have them."""
    proxy = json.loads((ROOT / "config" / "proxy.schema.json").read_text())
    backend = json.loads((ROOT / "config" / "backend.schema.json").read_text())
    model = proxy["definitions"]["Model"]
    versions = {"type": "object", "additionalProperties": {"$ref": "#/definitions/version"}}
    shared = {**backend["definitions"], **proxy["definitions"]}
    taken = {name: it for name, it in shared.items() if name not in ("Listen", "Model", "RawModel", "Version")}
    taken["proxyConfig"] = without(proxy, "listen", "models")
    taken["backendConfig"] = without(backend, "listen", "grpc_listen", "model_repository", "model_cache", "models", "trusted_keys")
    taken["model"] = {**model, "properties": {**model["properties"], "versions": versions}}
    taken["version"] = schema["definitions"]["version"]
    own = {name: schema["definitions"][name] for name in OWN}
    taken["complete"] = complete(support.yaml((support.CHART / "values.yaml").read_text()))
    return {**schema, "allOf": [{"$ref": "#/definitions/complete"}], "definitions": {**own, **taken}}


def complete(values):
    """What is there unless it was taken away by a null, which templates would stumble over: all that has a default."""
    # The programs have defaults of their own, and what is in a free table may be taken away.
    free = ("config", "podSecurityContext", "resources", "nodeSelector", "labels", "volume")
    there = {key: value for key, value in values.items() if value not in ("", {}, [])}
    inner = {key: complete(value) for key, value in there.items() if isinstance(value, dict) and key not in free}
    return {"required": list(there), **({"properties": inner} if inner else {})}


def without(schema, *keys: str):
    properties = {key: it for key, it in schema["properties"].items() if key not in keys}
    return {"type": "object", "additionalProperties": False, "properties": properties}


if __name__ == "__main__":
    if sys.argv[1:] == ["--write-schema"]:
        written = with_programs(json.loads(SCHEMA.read_text()))
        SCHEMA.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")
