"""The programs, started from the rendered files, answer on the paths that the probes ask."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterator, Mapping, Sequence, Tuple, Union
from unittest import TestCase

from support import ROOT, container_of, program, rendered, toml
from test_configuration import with_bundled_models

# How long anything may take on a busy machine.
PATIENCE = 30.0
# Nothing listens there.
NOWHERE = "127.0.0.1:1"


@contextlib.contextmanager
def running(name: str, text: str) -> Iterator[Dict[str, str]]:
    """Starts a program on the file; gives its addresses, and ends it with SIGTERM."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(text)
        with started([program(name), "serve", "--config", file]) as addresses:
            yield addresses


@contextlib.contextmanager
def started(command: Sequence[Union[str, Path]], **options: Any) -> Iterator[Dict[str, str]]:
    """Runs a command that serves; gives its addresses, and ends with SIGTERM what it has become."""
    name = str(command[0])
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with open(log, "wb") as stderr:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, **options)
        # A program that hangs before it says where it listens is ended, and the read below with it.
        watchdog = threading.Timer(PATIENCE, child.kill)
        watchdog.start()
        try:
            line = child.stdout.readline()
            watchdog.cancel()
            assert line, f"{name} did not start:\n{log.read_text()}"
            told = {**json.loads(line), "pid": str(last_child(child.pid))}
            yield told
            # A second one would end it at once.
            if "leaves" not in told:
                os.kill(last_child(child.pid), signal.SIGTERM)
            assert child.wait(PATIENCE) == 0, f"{name} ended badly:\n{log.read_text()}"
        finally:
            watchdog.cancel()
            child.kill()
            child.wait()
            child.stdout.close()


def last_child(pid: int) -> int:
    """The process that a command started in its place, and it perhaps another; or itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return last_child(int(children[0])) if children else pid


def ask(address: str, path: str) -> Tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Looks again until it holds."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


def wait_for(status: int, address: str, path: str) -> None:
    """Asks again until the answer has the status."""
    wait_until(lambda: ask(address, path)[0] == status, f"{status} of {path}")


def on_free_ports(text: str, endpoints: Mapping[str, str] = MappingProxyType({}), delay_ms: int = 0) -> str:
    """The file with loopback and port 0 to listen on, these endpoints, and this delay of the drain."""
    for named, here in endpoints.items():
        assert named in text, f"{named} is no endpoint of:\n{text}"
        text = text.replace(named, here)
    text = re.sub(r'(?m)^(listen|data|admin) = ".*"$', r'\1 = "127.0.0.1:0"', text)
    return re.sub(r"(?m)^(drain_)?delay_ms = .*$", rf"\1delay_ms = {delay_ms}", text)


def service(slug: str) -> str:
    """Where the proxy looks for a version, as the chart writes it."""
    return f'kubernetes = {{ service = "release-aegis-{slug}", namespace = "default", port = "http" }}'


def place(address: str) -> str:
    """What is written in its place for a version that runs here."""
    return f"endpoints = [{json.dumps(address)}]"


def probes(result, name: str) -> Tuple[str, str]:
    container = [it for it in map(container_of, result.of("Deployment")) if it["name"] == name][0]
    assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"]
    return tuple(container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("liveness", "readiness"))


class Programs(TestCase):
    def test_pods_become_ready_when_the_stack_can_answer(self):
        result = rendered("canary")
        backend_toml = result.backend_tomls()[0]
        live, ready = probes(result, "backend")
        proxy_live, proxy_ready = probes(result, "proxy")
        with running("aegis-backend", on_free_ports(with_bundled_models(backend_toml))) as backend:
            self.assertEqual(ask(backend["http"], live)[0], 200)
            wait_for(200, backend["http"], ready)
            # The canary is away, and version 1 answers for it.
            at = {service("digits-1"): place(backend["http"]), service("digits-2"): place(NOWHERE)}
            with running("aegis-proxy", on_free_ports(result.proxy_toml(), at)) as proxy:
                self.assertEqual(ask(proxy["admin"], proxy_live)[0], 200)
                wait_for(200, proxy["admin"], proxy_ready)
                self.assertEqual(ask(proxy["data"], "/v2/models/digits/versions/1")[0], 200)

    def test_a_backend_with_the_bundled_model_fits_into_the_memory_that_is_asked_for(self):
        result = rendered("minimal")
        with running("aegis-backend", on_free_ports(with_bundled_models(result.backend_tomls()[0]))) as backend:
            wait_for(200, backend["http"], "/v2/health/ready")
            (most,) = re.findall(r"(?m)^VmHWM:\s+(\d+) kB$", Path(f"/proc/{backend['pid']}/status").read_text())
            # The part of the formula that no value changes, of the chart's README.
            self.assertLess(int(most) / 1024, 256)

    def test_a_proxy_without_an_endpoint_is_live_and_not_ready(self):
        result = rendered("minimal")
        live, ready = probes(result, "proxy")
        text = on_free_ports(result.proxy_toml(), {service("digits-1"): place(NOWHERE)})
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

    def test_a_pod_that_is_told_to_go_says_so_and_still_answers_until_it_is_gone(self):
        result = rendered("minimal")
        (text,) = result.backend_tomls()
        (_, backend_ready), (_, proxy_ready) = (probes(result, name) for name in ("backend", "proxy"))
        infer = "/v2/models/digits/versions/1"
        with running("aegis-backend", on_free_ports(with_bundled_models(text), delay_ms=3000)) as backend:
            wait_for(200, backend["http"], backend_ready)
            at = {service("digits-1"): place(backend["http"])}
            with running("aegis-proxy", on_free_ports(result.proxy_toml(), at, delay_ms=3000)) as proxy:
                wait_for(200, proxy["admin"], proxy_ready)
                self.assert_leaves_gently(proxy, proxy["admin"], proxy_ready, (proxy["data"], infer))
            self.assert_leaves_gently(backend, backend["http"], backend_ready, (backend["http"], infer))

    def assert_leaves_gently(self, process: Dict[str, str], probed: str, ready: str, request: Tuple[str, str]) -> None:
        """The readiness probe fails first, and requests are answered all the same: nobody is sent away who still comes."""
        process["leaves"] = "by itself"
        os.kill(int(process["pid"]), signal.SIGTERM)
        wait_for(503, probed, ready)
        self.assertEqual(ask(*request)[0], 200)

    def test_a_backend_serves_a_version_that_it_fetched_by_its_digest(self):
        result = rendered("sources")
        (text,) = [it for it in result.backend_tomls() if "sources" in it]
        source = toml(text)["models"]["digits"]["sources"]["1"]
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "digits-1.tar.gz"
            with tarfile.open(archive, "w:gz") as tar:
                for file in sorted((ROOT / "config" / "models" / "digits" / "1").iterdir()):
                    tar.add(file, file.name)
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            text = text.replace(source["from"], str(archive)).replace(source["sha256"], digest)
            # The volume is an empty folder, and the cache another one.
            text = with_bundled_models(text)
            for key, name in (("model_repository", "models"), ("model_cache", "cache")):
                (Path(folder) / name).mkdir()
                text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(f'{folder}/{name}')}", text)
            with running("aegis-backend", on_free_ports(text)) as backend:
                wait_for(200, backend["http"], "/v2/models/digits/versions/1/ready")

    def test_the_releases_own_test_passes_against_the_stack_and_fails_without_it(self):
        (pod,) = rendered("linkerd").of("Pod")
        (container,) = pod["spec"]["containers"]
        self.assertEqual(container["command"], ["aegis-loadtest"])
        stack = rendered("minimal")
        with running("aegis-backend", on_free_ports(with_bundled_models(stack.backend_tomls()[0]))) as backend:
            wait_for(200, backend["http"], "/v2/health/ready")
            at = {service("digits-1"): place(backend["http"])}
            with running("aegis-proxy", on_free_ports(stack.proxy_toml(), at)) as proxy:
                wait_for(200, proxy["admin"], "/readyz")
                done = self.load_test(container["args"], proxy["data"])
                self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotEqual(self.load_test(container["args"], NOWHERE).returncode, 0)

    def load_test(self, args, address: str) -> "subprocess.CompletedProcess[str]":
        """Runs what the pod runs, for a second, with the table that the image carries."""
        data = ROOT / "loadtest" / "data" / "digits" / "test.csv"
        # Held to nothing on a machine that does other things, too.
        args = [*(it for it in args if not it.startswith("--slo=")), "--max-lag=1m"]
        swap = {"--url": f"http://{address}", "--data": data, "--duration": "1s", "--rate": "20"}
        args = [f"{name}={swap[name]}" if (name := it.split("=")[0]) in swap else it for it in args]
        self.assertTrue(all(any(it.startswith(f"{name}=") for it in args) for name in swap), args)
        return subprocess.run(
            [program("aegis-loadtest"), *args],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
