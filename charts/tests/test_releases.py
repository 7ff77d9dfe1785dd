"""Several releases under one Prometheus: what fails in one raises its own alerts, once, and nobody else's."""

import copy
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List
from unittest import TestCase

from ruamel.yaml import YAML

import promql
import support
from support import RULES, rendered, yaml

TESTS = sorted(RULES.parent.glob("*.test.yaml"))
# (namespace, name): two beside each other, and one of the same name elsewhere. What the tests of the rules say of
# namespace a, or of none, is said of the first, and what they say of b of the last.
ONE_A, ONE_B, TWO_A = ("one", "a"), ("one", "b"), ("two", "a")
WHOSE = {"": ONE_A, "a": ONE_A, "b": TWO_A}
BY_NAMESPACE_ALONE = "AegisAutoscalerAtMaximum"


def rules_of(release, **values: Any) -> Dict[str, Any]:
    """The rules that a release hands to the operator."""
    namespace, name = release
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True, **values}}}, file)
        file.flush()
        done = support.helm(
            "template", name, str(support.CHART), f"--namespace={namespace}", f"--values={support.case('canary')}",
            f"--values={file.name}", "--show-only=templates/monitoring/prometheusrule.yaml",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return yaml(done.stdout)["spec"]


def expressions(spec: Dict[str, Any]) -> Dict[str, str]:
    rules = [rule for group in spec["groups"] for rule in group["rules"]]
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules}


def labelled(series: str) -> str:
    """A series of the tests of the rules, as the PodMonitor of its release labels it."""
    found = re.search(r'namespace="(\w+)", ?', series)
    namespace, name = WHOSE[found.group(1) if found else ""]
    series = series.replace(found.group(0), "") if found else series
    if series.startswith("kube_"):
        # In namespace b there is another program's.
        series = re.sub(r'autoscaler="(?!web")', f'autoscaler="{name}-aegis-', series)
        return series.replace("{", f'{{namespace="{namespace}", ')
    assert "{" in series, series
    return series.replace("{", f'{{namespace="{namespace}", release="{name}", ')


def expected(alert: str, labels: Dict[str, str]) -> Dict[str, str]:
    namespace, name = WHOSE[labels.get("namespace", "")]
    labels = {**labels, "namespace": namespace}
    if alert == BY_NAMESPACE_ALONE:
        return {**labels, "horizontalpodautoscaler": f"{name}-aegis-{labels['horizontalpodautoscaler']}"}
    return {**labels, "release": name}


def of_releases(test: Dict[str, Any]) -> Dict[str, Any]:
    """A test of the rules, of the first release and the last."""
    test = copy.deepcopy(test)
    test.pop("promql_expr_test", None)
    for series in test["input_series"]:
        series["series"] = labelled(series["series"] if "{" in series["series"] else series["series"] + "{}")
    for case in test["alert_rule_test"]:
        for alert in case.get("exp_alerts", []):
            alert["exp_labels"] = expected(case["alertname"], alert["exp_labels"])
            # Autoscalers are named in what is said of them.
            said = alert["exp_annotations"]
            if case["alertname"] == BY_NAMESPACE_ALONE:
                said["summary"] = said["summary"].replace("autoscaler ", "autoscaler a-aegis-")
    return test


class Releases(TestCase):
    def promtool(self, files: Dict[str, Any], test: Dict[str, Any]) -> None:
        """Has promtool run a test over these files of rules."""
        with tempfile.TemporaryDirectory() as folder:
            for name, spec in files.items():
                (Path(folder) / name).write_text(json.dumps(spec))
            file = Path(folder) / "test.json"
            file.write_text(json.dumps({**test, "rule_files": list(files)}))
            done = subprocess.run(
                [os.environ["PROMTOOL"], "test", "rules", str(file)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
            )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_each_alert_that_one_release_raises_is_its_own_and_raised_once(self):
        files = {"-".join(it) + ".json": rules_of(it) for it in (ONE_A, ONE_B, TWO_A)}
        for file in TESTS:
            # All of it as it is written: `0x10` are eleven samples, and no number.
            whole = YAML(typ="base", pure=True).load(file.read_text())
            # Of the others there is no proxy at all, which is their own alert, below.
            tests = [it for it in whole["tests"] if all(case["alertname"] != "AegisNotScraped" for case in it["alert_rule_test"])]
            self.assertTrue(tests)
            self.promtool(files, {"evaluation_interval": whole["evaluation_interval"], "tests": list(map(of_releases, tests))})

    def test_a_release_that_is_not_scraped_is_named(self):
        files = {"-".join(it) + ".json": rules_of(it) for it in (ONE_A, ONE_B, TWO_A)}
        scraped = [f'aegis_proxy_config_generation{{namespace="{it[0]}", release="{it[1]}", pod="x"}}' for it in (ONE_A, TWO_A)]
        (alert,) = [it for it in self.alerts() if it["alert"] == "AegisNotScraped"]
        fired = {"exp_labels": {"severity": "page", "namespace": "one", "release": "b"}, "exp_annotations": alert["annotations"]}
        looked = {"alertname": "AegisNotScraped", "eval_time": "10m", "exp_alerts": [fired]}
        given = [{"series": it, "values": "1x20"} for it in scraped]
        self.promtool(files, {"evaluation_interval": "1m", "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": [looked]}]})

    def test_each_has_bounds_of_its_own(self):
        files = {"a.json": rules_of(ONE_A, queueDepth=8, p95Seconds=0.05), "b.json": rules_of(ONE_B, queueDepth=32)}
        names = {"a": 'namespace="one", release="a"', "b": 'namespace="one", release="b"'}
        waiting = 'aegis_inference_queue_depth{{{}, model="digits", model_version="1"}}'
        taken = 'aegis_proxy_request_duration_seconds_count{{{}, model="digits", model_version="1"}}'
        looks = [
            ("release:aegis_limit_queue_depth:requests", {"a": 8, "b": 32}),
            ("release:aegis_objective_p95:seconds", {"a": 0.05, "b": 1}),
        ]
        expected = [
            {"expr": expr, "eval_time": "5m", "exp_samples": [{"labels": f"{expr}{{{names[it]}}}", "value": value} for it, value in bounds.items()]}
            for expr, bounds in looks
        ]
        # Ten that wait are too many for one of them.
        deep = expressions(files["a.json"])["AegisQueueDeep"], expressions(files["b.json"])["AegisQueueDeep"]
        own = {"labels": f'{{{names["a"]}, model="digits", model_version="1"}}', "value": 10}
        expected += [{"expr": deep[0], "eval_time": "5m", "exp_samples": [own]}, {"expr": deep[1], "eval_time": "5m"}]
        given = [{"series": kind.format(it), "values": "10x10"} for kind in (waiting, taken) for it in names.values()]
        test = {"interval": "1m", "input_series": given, "promql_expr_test": expected}
        self.promtool(files, {"evaluation_interval": "1m", "tests": [test]})

    def test_each_choice_of_series_in_a_releases_rules_is_of_its_own(self):
        plain = expressions(yaml(RULES.read_text()))
        own = expressions(rules_of(ONE_B))
        self.assertEqual(list(own), list(plain))
        for name, expr in own.items():
            before, after = promql.named(plain[name]).selectors, promql.named(expr).selectors
            self.assertEqual([it.name for it in before], [it.name for it in after])
            for was, has in zip(before, after):
                added = {"namespace": ["=", "one"], "release": ["=", "b"]}
                if has.name.startswith("kube_"):
                    added = {"namespace": ["=", "one"], "horizontalpodautoscaler": ["=~", "b-aegis-proxy|b-aegis-digits-1|b-aegis-digits-2"]}
                self.assertEqual(has.matchers, {**added, **was.matchers}, name)

    def alerts(self) -> Iterator[Dict[str, Any]]:
        yield from (rule for group in yaml(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule)

    def test_pods_are_scraped_with_the_labels_that_rules_dashboards_and_autoscalers_ask_for(self):
        for monitor in rendered("full").of("PodMonitor"):
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            self.assertEqual(endpoint["relabelings"], [{"targetLabel": "release", "replacement": "release"}])
        labels: List[Dict[str, str]] = []
        for scaler in rendered("hpa").of("HorizontalPodAutoscaler"):
            labels += [it["external"]["metric"]["selector"]["matchLabels"] for it in scaler["spec"]["metrics"] if it["type"] == "External"]
        self.assertTrue(labels)
        # Metrics of pods are asked for by the pods' own names.
        self.assertTrue(all(it["release"] == "release" for it in labels), labels)
