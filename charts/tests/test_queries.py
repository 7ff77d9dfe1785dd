"""Every PromQL expression of the chart parses, and names only what there is: metrics, labels, and rules."""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Dict, Set
from unittest import TestCase

import promql
import queries
import support
from support import ROOT, rendered

METRICS = ROOT / "config" / "METRICS.md"
# What Prometheus adds to each series, by the operator's PodMonitor.
TARGET = {"namespace", "release", "pod", "instance", "job", "container"}
# kube-state-metrics', of which only these are asked for.
AUTOSCALER = "kube_horizontalpodautoscaler_"
FOREIGN = {
    f"{AUTOSCALER}{name}": {"namespace", "horizontalpodautoscaler"}
    for name in ("status_current_replicas", "spec_max_replicas", "spec_min_replicas")
}
# Prometheus' own, of each target.
FOREIGN["up"] = TARGET
# By the level that begins the name of a recorded series, its labels.
LEVELS = {
    "aegis": set(),
    "release": {"namespace", "release"},
    "model": {"namespace", "release", "model"},
    "model_version": {"namespace", "release", "model", "model_version"},
}


@functools.lru_cache(maxsize=None)
def documented() -> Dict[str, Set[str]]:
    """Series → labels, of both programs; those of the same name together."""
    known: Dict[str, Set[str]] = {}
    for name, kind, labels in re.findall(r"(?m)^\| `(aegis_\w+)` \| (\w+) \| ([^|]*)\|", METRICS.read_text()):
        own = {label.strip("`") for label in labels.split()} | TARGET
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            known.setdefault(name + suffix, set()).update(own | ({"le"} if suffix == "_bucket" else set()))
    return known


def unknown(expr: str):
    """What an expression names and nobody knows."""
    known = {**documented(), **FOREIGN}
    known.update({name: LEVELS[name.split(":")[0]] for name in queries.recorded()})
    named = promql.named(expr)
    reachable: Set[str] = set()
    for selector in named.selectors:
        if selector.name not in known:
            yield selector.name
            continue
        reachable |= known[selector.name]
        yield from (f"{selector.name}.{label}" for label in selector.matchers if label not in known[selector.name])
    if named.selectors:
        yield from (f"by {label}" for label in named.grouped if label not in reachable)


class Queries(TestCase):
    def test_all_of_them_parse(self):
        # As rules of one file, so that promtool starts once.
        entries = [{"record": f"query:number:{at}", "expr": it.expr} for at, it in enumerate(queries.every())]
        self.assertGreater(len(entries), 100)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"groups": [{"name": "all", "rules": entries}]}, file)
            file.flush()
            done = subprocess.run(
                [os.environ["PROMTOOL"], "check", "rules", file.name],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
            )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_all_of_them_name_only_what_there_is(self):
        for query in queries.every():
            self.assertEqual(list(unknown(query.expr)), [], f"{query.where}: {query.expr}")

    def test_what_there_is_not_is_noticed(self):
        for expr, names in [
            ("rate(aegis_proxy_request_total[5m])", ["aegis_proxy_request_total"]),
            ('sum(aegis_inference_queue_depth{pot="x"})', ["aegis_inference_queue_depth.pot"]),
            ("sum by (version) (aegis_model_loaded)", ["by version"]),
            ("aegis_model_loaded_bucket", ["aegis_model_loaded_bucket"]),
            ("aegis_inference_batch_size", ["aegis_inference_batch_size"]),
            ('a:b:c or down{job="x"} offset 1h', ["a:b:c", "down"]),
            ("model:aegis_safety_flags:ratio_rate10m > on (namespace) group_left (pod) vector(1)", ["by pod"]),
        ]:
            self.assertEqual(list(unknown(expr)), names, expr)

    def test_what_both_programs_report_is_asked_of_one_of_them(self):
        shared = ("aegis_inference_requests_total", "aegis_inference_latency_seconds", "aegis_inference_queue_depth")
        for query in queries.every():
            for selector in promql.named(query.expr).selectors:
                if selector.name.startswith(shared) and not selector.name.startswith("aegis_inference_queue_seconds"):
                    self.assertIn("via", selector.matchers, f"{query.where}: {query.expr}")

    def test_nothing_is_divided_or_ranked_before_it_is_summed(self):
        for query in queries.every():
            for quantile in re.findall(r"histogram_quantile\([\d.]+, (\S+)", query.expr):
                self.assertEqual(quantile, "sum", query.expr)
            # A mean or a share of shares weighs an idle pod as much as a busy one.
            self.assertNotRegex(query.expr, r"(sum|avg)\s*(by \([^)]*\) )?\((rate|increase)\([^)]*\) */", query.expr)

    def test_recorded_series_have_the_labels_that_their_names_tell(self):
        for name, expr in queries.recorded().items():
            outermost = re.search(r"by \(([^)]*)\)", expr)
            labels = {it.strip() for it in outermost.group(1).split(",")} - {"le"} if outermost else set()
            self.assertEqual(labels, LEVELS[name.split(":")[0]], name)


class Dashboards(TestCase):
    def test_they_are_as_the_script_writes_them(self):
        sys.path.insert(0, str(ROOT / "scripts"))
        try:
            import dashboards
        finally:
            sys.path.pop(0)
        there = {file.name: file.read_text() for file in queries.DASHBOARDS}
        self.assertEqual(there, dashboards.files(), "to mend it: scripts/check_charts.sh --write-dashboards")

    def test_they_fit_on_the_grid_and_say_what_they_show(self):
        for file in queries.DASHBOARDS:
            board = json.loads(file.read_text())
            self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
            taken: Set = set()
            for panel in board["panels"]:
                place = panel["gridPos"]
                self.assertLessEqual(place["x"] + place["w"], 24)
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(cells & taken, f"{file.stem}: {panel['title']} lies on another")
                taken |= cells
                if panel["type"] != "row":
                    self.assertRegex(panel["description"], r"\.$", panel["title"])
                    self.assertTrue(panel["targets"])

    def test_variables_that_are_used_are_there(self):
        for file in queries.DASHBOARDS:
            text = file.read_text()
            names = {it["name"] for it in json.loads(text)["templating"]["list"]}
            used = set(re.findall(r"\$\{?(\w+)", text))
            self.assertEqual({it for it in used if not it.startswith("__")} - names, set())

    def test_each_is_a_config_map_where_they_are_asked_for(self):
        found = {}
        for config in rendered("full").of("ConfigMap"):
            if config["metadata"]["labels"].get("grafana") == "aegis":
                found.update(config["data"])
                self.assertEqual(config["metadata"]["annotations"], {"grafana_folder": "Serving"})
                self.assertLess(sum(map(len, config["data"].values())), 1_000_000)
        expected = {f"aegis-{file.name}": json.loads(file.read_text()) for file in queries.DASHBOARDS}
        self.assertEqual({name: json.loads(text) for name, text in found.items()}, expected)
        kinds = [it for it in rendered("minimal").of("ConfigMap") if any(key.endswith(".json") for key in it["data"])]
        self.assertEqual(kinds, [])
