"""The load of several machines: its Jobs are what Kubernetes takes, and what they run adds up."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List
from unittest import TestCase

import kubernetes
from support import NEWEST, OLDEST, ROOT, container_of, documents, program, rendered
from test_configuration import with_bundled_models
from test_programs import on_free_ports, running, wait_for

JOBS = ROOT / "charts" / "loadtest"
DATA = ROOT / "loadtest" / "data" / "digits"


def objects(name: str) -> List[Dict[str, Any]]:
    return documents((JOBS / name).read_text())


def job(name: str) -> Dict[str, Any]:
    (found,) = [it for it in objects(name) if it["kind"] == "Job"]
    return found


class Load(TestCase):
    def test_the_jobs_fit_the_oldest_and_the_newest_kubernetes(self):
        for version in (OLDEST, NEWEST):
            for it in [*objects("run.yaml"), *objects("merge.yaml")]:
                with self.subTest(version=version, kind=it["kind"]):
                    self.assertEqual(list(kubernetes.faults(version, it)), [])

    def test_every_part_leaves_a_log_of_its_own_and_all_of_them_are_merged(self):
        spec = job("run.yaml")["spec"]
        self.assertEqual(spec["completionMode"], "Indexed")
        self.assertEqual(spec["parallelism"], spec["completions"])
        (claim,) = [it["metadata"]["name"] for it in objects("run.yaml") if it["kind"] == "PersistentVolumeClaim"]
        for name in ("run.yaml", "merge.yaml"):
            (volume,) = job(name)["spec"]["template"]["spec"]["volumes"]
            self.assertEqual(volume["persistentVolumeClaim"]["claimName"], claim)
            self.assertEqual(container_of(job(name))["volumeMounts"][0]["name"], volume["name"])
        logs = [it for it in container_of(job("merge.yaml"))["args"] if it.endswith(".hlog") and not it.startswith("-")]
        self.assertEqual(logs, [f"/results/{index}.hlog" for index in range(spec["completions"])])

    def test_the_parts_run_and_their_logs_are_judged_as_one(self):
        backend = on_free_ports(with_bundled_models(rendered("minimal").backend_tomls()[0]))
        with tempfile.TemporaryDirectory() as results, running("aegis-backend", backend) as addresses:
            wait_for(200, addresses["http"], "/v2/health/ready")
            parts = [
                subprocess.Popen(
                    self.command(job("run.yaml"), results, addresses["http"], str(index)), stdout=subprocess.DEVNULL
                )
                for index in range(job("run.yaml")["spec"]["completions"])
            ]
            self.assertEqual([it.wait(60) for it in parts], [0] * len(parts))
            merge = self.command(job("merge.yaml"), results, addresses["http"], "")
            done = subprocess.run(merge, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn("4 logs", done.stdout)
            self.assertIn("SLO: pass", done.stdout)
            self.assertTrue((Path(results) / "all.hlog").exists())

    def command(self, it: Dict[str, Any], results: str, address: str, index: str) -> List[str]:
        """What a pod runs, here: shorter, and on a machine that does other things, too."""
        places = {
            "$(JOB_COMPLETION_INDEX)": index,
            "/results/": f"{results}/",
            "http://aegis-proxy:8080": f"http://{address}",
            "/usr/share/aegis/digits/": f"{DATA}/",
            "/usr/share/aegis/slo.toml": str(ROOT / "config" / "slo.toml"),
            "--rate=250": "--rate=75",
            "--duration=60s": "--duration=4s",
        }
        args = container_of(it)["args"]
        for place, here in places.items():
            args = [arg.replace(place, here) for arg in args]
        return [str(program("aegis-loadtest")), *args, "--max-lag=1m"]
