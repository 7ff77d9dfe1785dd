"""The programs, started from the rendered files, answer on the paths that the probes ask."""

import contextlib
import json
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import MappingProxyType
from typing import Dict, Iterator, Mapping, Tuple
from unittest import TestCase

from support import ROOT, RULES, container_of, program, rendered
from test_configuration import with_bundled_models

# How long anything may take on a busy machine.
PATIENCE = 30.0
# Nothing listens there.
NOWHERE = "127.0.0.1:1"


@contextlib.contextmanager
def running(name: str, text: str) -> Iterator[Dict[str, str]]:
    """Starts a program on the file; gives its addresses, and ends it with SIGTERM."""
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "config.toml", Path(folder) / "log"
        file.write_text(text)
        with open(log, "wb") as stderr:
            child = subprocess.Popen([program(name), "serve", "--config", file], stdout=subprocess.PIPE, stderr=stderr)
        # A program that hangs before it says where it listens is ended, and the read below with it.
        watchdog = threading.Timer(PATIENCE, child.kill)
        watchdog.start()
        try:
            line = child.stdout.readline()
            watchdog.cancel()
            assert line, f"{name} did not start:\n{log.read_text()}"
            yield json.loads(line)
            child.send_signal(signal.SIGTERM)
            assert child.wait(PATIENCE) == 0, f"{name} ended badly:\n{log.read_text()}"
        finally:
            watchdog.cancel()
            child.kill()
            child.wait()
            child.stdout.close()


def ask(address: str, path: str) -> Tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_for(status: int, address: str, path: str) -> None:
    """Asks again until the answer has the status."""
    until = time.monotonic() + PATIENCE
    while (got := ask(address, path))[0] != status:
        assert time.monotonic() < until, f"{path}: expected {status}, got {got}"
        time.sleep(0.02)


def on_free_ports(text: str, endpoints: Mapping[str, str] = MappingProxyType({})) -> str:
    """The file with loopback and port 0 to listen on, these endpoints, and no delay of the drain."""
    for named, here in endpoints.items():
        assert named in text, f"{named} is no endpoint of:\n{text}"
        text = text.replace(named, here)
    text = re.sub(r'(?m)^(listen|data|admin) = ".*"$', r'\1 = "127.0.0.1:0"', text)
    return re.sub(r"(?m)^(drain_)?delay_ms = .*$", r"\1delay_ms = 0", text)


def probes(result, name: str) -> Tuple[str, str]:
    container = [it for it in map(container_of, result.of("Deployment")) if it["name"] == name][0]
    return tuple(container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("liveness", "readiness"))


class Programs(TestCase):
    def test_pods_become_ready_when_the_stack_can_answer_and_metrics_of_all_rules_exist(self):
        result = rendered("canary")
        backend_toml = result.backend_tomls()[0]
        live, ready = probes(result, "backend")
        proxy_live, proxy_ready = probes(result, "proxy")
        with running("aegis-backend", on_free_ports(with_bundled_models(backend_toml))) as backend:
            self.assertEqual(ask(backend["http"], live)[0], 200)
            wait_for(200, backend["http"], ready)
            # The canary is away, and version 1 answers for it.
            at = {"10.96.200.1:8000": backend["http"], "10.96.200.2:8000": NOWHERE}
            with running("aegis-proxy", on_free_ports(result.proxy_toml(), at)) as proxy:
                self.assertEqual(ask(proxy["admin"], proxy_live)[0], 200)
                wait_for(200, proxy["admin"], proxy_ready)
                self.assertEqual(ask(proxy["data"], "/v2/models/digits/versions/1")[0], 200)
                told = ask(proxy["admin"], "/metrics")[1] + ask(backend["http"], "/metrics")[1]
                self.assert_metrics_exist(told)

    def test_a_proxy_without_an_endpoint_is_live_and_not_ready(self):
        result = rendered("minimal")
        live, ready = probes(result, "proxy")
        text = on_free_ports(result.proxy_toml(), {"10.96.200.1:8000": NOWHERE})
        with running("aegis-proxy", text) as proxy:
            self.assertEqual(ask(proxy["admin"], live)[0], 200)
            wait_for(503, proxy["admin"], ready)

    def test_a_backend_whose_model_is_missing_is_live_and_not_ready(self):
        result = rendered("minimal")
        live, ready = probes(result, "backend")
        (text,) = result.backend_tomls()
        with tempfile.TemporaryDirectory() as models:
            folder = Path(models) / "digits"
            folder.mkdir()
            described = (ROOT / "config" / "models" / "digits" / "model.toml").read_text()
            (folder / "model.toml").write_text(described)
            text = re.sub(r"(?m)^model_repository = .*$", f"model_repository = {json.dumps(models)}", text)
            with running("aegis-backend", on_free_ports(text)) as backend:
                self.assertEqual(ask(backend["http"], live)[0], 200)
                self.assertEqual(ask(backend["http"], ready)[0], 503)

    def assert_metrics_exist(self, told: str):
        known = set(re.findall(r"(?m)^# TYPE (\w+) ", told))
        for name in sorted(set(re.findall(r"\baegis_\w+", expressions()))):
            self.assertIn(re.sub(r"_(bucket|count|sum)$", "", name), known)


def expressions() -> str:
    """What the rules ask for, without the names that they record themselves."""
    text = re.sub(r"(?m)^ *(#|- record:|- alert:|summary:|description:).*$", "", RULES.read_text())
    return re.sub(r"\w+:aegis_\w+:\w+", "", text)
