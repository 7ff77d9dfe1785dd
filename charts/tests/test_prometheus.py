"""A real Prometheus scrapes the real programs, and every query of the chart finds what it asks for."""

import contextlib
import http.server
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from unittest import TestCase

import promql
import queries
from support import ROOT, RULES, program, rendered
from test_configuration import with_bundled_models
from test_programs import PATIENCE, ask, on_free_ports, place, running, service, wait_for

# kube-state-metrics is no part of a stack that runs here.
ELSEWHERE = "kube_"
# What has nothing to say until it has watched for long: a quantile of no requests is no number, and a day is a day.
LATER = {"safety: Flagged": "[1d]"}

# Each request alone, and the first is never done.
STUCK = """
platform = "scripted"
max_batch_size = 0
run_timeout_ms = 0
scripted = { hang_every = 1 }
inputs = [{ name = "image", datatype = "FP32", shape = [1, 64] }]
outputs = [{ name = "label", datatype = "FP32", shape = [1, 64] }]
"""


class Prometheus:
    """A server that scrapes these targets every half second, each with the labels that the operator would give it."""

    def __init__(self, folder: Path, targets: List[Dict[str, Any]]):
        jobs = [{"job_name": "aegis", "scrape_interval": "500ms", "scrape_timeout": "500ms", "static_configs": targets}]
        config = {"global": {"evaluation_interval": "500ms"}, "rule_files": [str(RULES)], "scrape_configs": jobs}
        (folder / "prometheus.json").write_text(json.dumps(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = folder / "prometheus.log"
        command = [os.environ["PROMETHEUS"], f"--config.file={folder}/prometheus.json"]
        command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.address}"]
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(command, stdout=log, stderr=log)

    def query(self, expr: str) -> List[Any]:
        path = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
        with urllib.request.urlopen(path, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]["result"]

    def number(self, expr: str) -> float:
        (sample,) = self.query(expr)
        return float(sample["value"][1])

    def until(self, holds, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                if holds():
                    return
            assert self.child.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"{what}\n{self.log.read_text()}"
            time.sleep(0.1)


@contextlib.contextmanager
def prometheus(targets: List[Dict[str, Any]]) -> Iterator[Prometheus]:
    with tempfile.TemporaryDirectory() as folder:
        server = Prometheus(Path(folder), targets)
        try:
            yield server
        finally:
            server.child.kill()
            server.child.wait()


def target(address: str, pod: str, path: str = "/metrics") -> Dict[str, Any]:
    return {"targets": [address], "labels": {"namespace": "default", "release": "release", "pod": pod, "__metrics_path__": path}}


class Scraped(TestCase):
    def test_every_query_finds_what_it_asks_for_in_a_running_stack(self):
        program("aegis-proxy")
        stack = rendered("canary")
        # Both versions, in one pod: what each of them reports is the same.
        text = stack.backend_tomls()[0].replace('versions = ["1"]', 'versions = ["1", "2"]')
        with running("aegis-backend", on_free_ports(with_bundled_models(text))) as backend:
            wait_for(200, backend["http"], "/v2/health/ready")
            # Beside the Services, which this proxy asks for in vain, as its metrics tell.
            found = {service(f"digits-{it}"): place(backend["http"]) for it in (1, 2)}
            at = {line: f"{line}\n{here}" for line, here in found.items()}
            with running("aegis-proxy", on_free_ports(stack.proxy_toml(), at)) as proxy:
                wait_for(200, proxy["admin"], "/readyz")
                with prometheus([target(proxy["admin"], "p"), target(backend["http"], "b")]) as server:
                    self.send(proxy["data"])
                    self.assert_all_found(server)

    def send(self, address: str) -> None:
        data = ROOT / "loadtest" / "data" / "digits" / "test.csv"
        command = [program("aegis-loadtest"), "run", "--quiet", f"--url=http://{address}", "--model=digits"]
        command += [f"--data={data}", "--rate=50", "--duration=4s", "--max-lag=1m"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)

    def assert_all_found(self, server: Prometheus) -> None:
        recorded = list(queries.recorded())
        server.until(lambda: all(map(server.query, recorded)), "each rule to be recorded")
        empty = dict(self.asked())
        # Again what was empty: on a busy machine a scrape may be late, and all its series are gone until the next.
        with contextlib.suppress(AssertionError):
            server.until(lambda: self.still_empty(server, empty), "what was empty to be found")
        self.assertEqual(sorted(empty.values()), [])

    def still_empty(self, server: Prometheus, empty: Dict[str, str]) -> bool:
        for expr in [expr for expr in empty if server.query(expr)]:
            del empty[expr]
        return not empty

    def asked(self) -> Iterator[Tuple[str, str]]:
        """Expressions, and where they are from: those of the chart, and each choice of series in them."""
        for query in queries.every():
            if ELSEWHERE in query.expr or (query.where in LATER and LATER[query.where] in query.expr):
                continue
            # An alert is silent here, and so is what its runbook asks: but each series that they look at is there.
            if not query.where.startswith("rules: Aegis") and query.where != "RUNBOOK.md":
                yield query.expr, f"{query.where}: {query.expr}"
            for selector in promql.named(query.expr).selectors:
                yield str(selector), f"{query.where}: {selector}"

    def test_the_depth_of_queues_is_what_the_autoscalers_get(self):
        program("aegis-backend")
        text = rendered("canary").backend_tomls()[0]
        # What a proxy says of its own queue is not added to it.
        proxy = {"/p": 'aegis_inference_queue_depth{model="digits",model_version="1",via="proxy"} 900\n'}
        with stuck(text, waiting=3) as x, stuck(text, waiting=6) as y, showing(proxy) as p:
            with prometheus([target(x, "x"), target(y, "y"), target(p, "p", "/p")]) as server:
                asked = {it.where: it.expr for it in queries.adapter()}
                of_pods = asked["adapter: aegis_inference_queue_depth"]

                def depths() -> Dict[str, float]:
                    return {it["metric"]["pod"]: float(it["value"][1]) for it in server.query(of_pods)}

                server.until(lambda: depths() == {"x": 3, "y": 6}, "what waits in both pods")
                (of_version,) = [it.expr for it in queries.keda() if "queue_depth" in it.expr and it.where.endswith("digits-1")][:1]
                self.assertEqual(server.number(of_version), 9)
                # No request was answered: 0, and not the number that is none.
                p95 = asked["adapter: aegis_inference_latency_p95_seconds"]
                server.until(lambda: server.query(p95), "a rate, of two looks")
                self.assertEqual(server.number(p95), 0)
                # Of a version that nobody runs nothing is said, so that nothing is scaled by it.
                (nothing,) = [it.expr for it in queries.adapter('model_version="9"') if it.where.endswith("p95_seconds")][-1:]
                self.assertEqual(server.query(nothing), [])


@contextlib.contextmanager
def stuck(text: str, waiting: int) -> Iterator[str]:
    """A pod of version 1 whose only instance never returns from the first run, and so many requests that wait for it."""
    body = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0] * 64}]})
    request = f"POST /v2/models/digits/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as clients:
        model = Path(folder) / "digits"
        (model / "1").mkdir(parents=True)
        (model / "model.toml").write_text(STUCK)
        text = re.sub(r"(?m)^model_repository = .*$", lambda _: f"model_repository = {json.dumps(folder)}", text)
        text = re.sub(r"(?m)^trusted_keys = .*$", "", text).replace('verify = "required"', 'verify = "off"')
        with running("aegis-backend", on_free_ports(text)) as backend:
            wait_for(200, backend["http"], "/v2/health/ready")
            host, port = backend["http"].split(":")
            for _ in range(1 + waiting):
                client = clients.enter_context(socket.create_connection((host, int(port))))
                client.sendall(request.encode())
            yield backend["http"]
            # Whom nobody waits for any more does not keep it from ending.
            clients.close()


@contextlib.contextmanager
def showing(pages: Dict[str, str]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
