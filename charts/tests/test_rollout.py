"""A release, as Kubernetes does it: values change, kubelet swaps the ConfigMap's folder, the proxy takes it under load."""

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from unittest import TestCase

from support import ROOT, program, rendered
from test_configuration import with_bundled_models
from test_programs import ask, on_free_ports, place, probes, running, service, started, wait_for, wait_until


def metric(address: str, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels."""
    lines = re.findall(rf"(?m)^{name}(?:\{{(.*)\}})? (\S+)$", ask(address, "/metrics")[1])
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(value) for own, value in lines if all(it in own.split(",") for it in wanted))


def answered(address: str, version: str) -> float:
    return metric(address, "aegis_proxy_requests_total", model_version=version, kind="split", code="200")


class Mounted:
    """A ConfigMap's volume: names that lead through `..data` to a folder, which is swapped whole."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.swaps = 0

    def put(self, name: str, text: str) -> None:
        self.swaps += 1
        data = self.folder / f"..{self.swaps}"
        data.mkdir()
        (data / name).write_text(text)
        link = self.folder / "..data"
        before = link.resolve() if link.exists() else None
        (self.folder / "..data_tmp").symlink_to(data.name)
        os.rename(self.folder / "..data_tmp", link)
        if not (self.folder / name).is_symlink():
            (self.folder / name).symlink_to(f"..data/{name}")
        if before:
            (before / name).unlink()
            before.rmdir()


class Rollout(TestCase):
    def test_a_canary_is_added_its_weight_raised_and_all_of_it_rolled_back_without_a_failed_request(self):
        program("aegis-proxy")
        # What is proven is the change, and not that a busy machine connects within a quarter of a second.
        patient = {"timeouts": {"connect_ms": 20_000, "request_ms": 20_000}}
        alone = rendered("minimal", models={"digits": patient})
        canary = rendered("canary", models={"digits": patient})
        equal = {"versions": {"1": {"weight": 50}, "2": {"weight": 50}}}
        half = rendered("canary", models={"digits": {**patient, **equal}})
        text = with_bundled_models(alone.backend_tomls()[0]).replace('versions = ["1"]', 'versions = ["1", "2"]')
        with tempfile.TemporaryDirectory() as folder, running("aegis-backend", on_free_ports(text)) as backend:
            wait_for(200, backend["http"], "/v2/health/ready")
            first, both = ({service(f"digits-{it}"): place(backend["http"]) for it in some} for some in ("1", "12"))
            config = Mounted(Path(folder))
            config.put("proxy.toml", on_free_ports(alone.proxy_toml(), first))
            with started([program("aegis-proxy"), "serve", "--config", f"{folder}/proxy.toml"]) as proxy:
                wait_for(200, proxy["admin"], "/readyz")
                report = Path(folder) / "report.json"
                load = self.send(proxy["data"], report)
                try:
                    self.release(config, proxy["admin"], [(canary, both), (half, both), (alone, first)])
                finally:
                    # It ends with what is under way, and reports what was.
                    load.send_signal(signal.SIGINT)
                    said, _ = load.communicate(timeout=60)
                self.assert_none_failed(json.loads(report.read_text()), said)

    def test_a_model_whose_pods_are_not_there_yet_takes_no_proxy_out_of_its_service(self):
        alone = rendered("minimal")
        second = rendered("minimal", models={"faces": {"versions": {"1": {"weight": 1}}}})
        _, ready = probes(alone, "proxy")
        text = with_bundled_models(alone.backend_tomls()[0])
        with tempfile.TemporaryDirectory() as folder, running("aegis-backend", on_free_ports(text)) as backend:
            wait_for(200, backend["http"], "/v2/health/ready")
            at = {service("digits-1"): place(backend["http"])}
            config = Mounted(Path(folder))
            config.put("proxy.toml", on_free_ports(alone.proxy_toml(), at))
            with started([program("aegis-proxy"), "serve", "--config", f"{folder}/proxy.toml"]) as proxy:
                admin = proxy["admin"]
                wait_for(200, admin, ready)
                # Of the Service of the second one this proxy, which is in no cluster, is told no pod.
                config.put("proxy.toml", on_free_ports(second.proxy_toml(), at))
                wait_until(lambda: metric(admin, "aegis_proxy_config_generation") == 2, "generation 2")
                status, said = ask(admin, ready)
                self.assertEqual(status, 200, said)
                self.assertIn("faces", said)
                self.assertEqual(ask(proxy["data"], "/v2/models/digits/versions/1")[0], 200)
                self.assertEqual(ask(proxy["data"], "/v2/models/faces/versions/1")[0], 503)
                # It is removed, as the README says.
                config.put("proxy.toml", on_free_ports(alone.proxy_toml(), at))
                wait_until(lambda: ask(proxy["data"], "/v2/models/faces/versions/1")[0] == 404, "404 of the removed model")
                self.assertEqual(ask(admin, ready)[0], 200)

    def send(self, address: str, report: Path) -> "subprocess.Popen[str]":
        """Sends until it is interrupted."""
        data = ROOT / "loadtest" / "data" / "digits" / "test.csv"
        command = [program("aegis-loadtest"), "run", "--quiet", f"--url=http://{address}", "--model=digits"]
        command += [f"--data={data}", "--rate=100", "--duration=5m", "--warmup=0s", f"--json={report}"]
        command += ["--timeout=20s", "--max-lag=1m"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def release(self, config: Mounted, admin: str, steps) -> None:
        wait_until(lambda: answered(admin, "1") > 50, "requests to version 1")
        for step, (result, at) in enumerate(steps):
            before = {version: answered(admin, version) for version in "12"}
            config.put("proxy.toml", on_free_ports(result.proxy_toml(), at))
            generation = step + 2
            wait_until(lambda: metric(admin, "aegis_proxy_config_generation") == generation, f"generation {generation}")
            served = "12" if len(at) == 2 else "1"
            for version in served:
                wait_until(lambda: answered(admin, version) > before[version] + 3, f"requests to version {version}")

    def assert_none_failed(self, report, said: str) -> None:
        summary = report["summary"]
        self.assertEqual(summary["failed"], 0, said)
        self.assertGreater(summary["ok"], 50)
        self.assertEqual(summary["statuses"], {"200": summary["ok"]})
        self.assertEqual(set(summary["versions"]), {"1", "2"})
