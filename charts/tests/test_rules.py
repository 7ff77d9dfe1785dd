"""The rules hold under promtool, each alert has a case for and against, and the operator gets them."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from unittest import TestCase

import queries
import support
from support import RULES, rendered, yaml

TESTS = sorted(RULES.parent.glob("*.test.yaml"))
RUNBOOK = support.CHART / "RUNBOOK.md"


def alerts():
    groups = yaml(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


class Rules(TestCase):
    def promtool(self, *arguments: str):
        done = subprocess.run(
            [os.environ["PROMTOOL"], *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_rules_are_valid_and_fire_when_they_should(self):
        self.promtool("check", "rules", str(RULES))
        self.promtool("test", "rules", *map(str, TESTS))

    def test_each_alert_is_seen_to_fire_and_to_be_silent(self):
        files = [yaml(file.read_text()) for file in TESTS]
        cases = [it for file in files for test in file["tests"] for it in test["alert_rule_test"]]
        fired = {it["alertname"] for it in cases if it.get("exp_alerts")}
        silent = {it["alertname"] for it in cases if not it.get("exp_alerts")}
        self.assertEqual(fired, set(alerts()))
        self.assertEqual(silent, set(alerts()))

    def test_each_alert_says_how_bad_it_is_and_what_to_look_at(self):
        for name, rule in alerts().items():
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"), name)
            self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook_url"}, name)

    def test_each_alert_leads_to_its_section_of_the_runbook_and_each_section_has_its_alert(self):
        sections = re.split(r"(?m)^## ", RUNBOOK.read_text())[1:]
        sections = {section.split("\n", 1)[0]: section for section in sections}
        self.assertEqual(list(sections), list(alerts()), "in the order of the rules")
        for name, rule in alerts().items():
            self.assertEqual(rule["annotations"]["runbook_url"], f"RUNBOOK.md#{name.lower()}")
            for part in ("**It means** ", "**Look at** ", "**Do** "):
                self.assertIn(part, sections[name], name)

    def test_the_operator_is_given_the_rules_with_the_runbooks_address_and_the_bounds(self):
        plain = yaml(RULES.read_text().replace("RUNBOOK.md#", "https://runbooks.example/aegis/RUNBOOK.md#"))["groups"]
        (rule,) = rendered("full").of("PrometheusRule")
        self.assertEqual(self.without_expressions(rule["spec"]["groups"]), self.without_expressions(plain))
        series = '{namespace="default",release="release"'
        self.assertEqual(
            [it["expr"] for it in rule["spec"]["groups"][0]["rules"]],
            [
                f"0.05 * group by (namespace, release) (aegis_proxy_request_duration_seconds_count{series}}})",
                f'8 * group by (namespace, release) (aegis_inference_queue_depth{series},via=""}})',
            ],
        )
        self.assertEqual(rule["metadata"]["labels"]["release"], "monitoring")
        (rule,) = rendered("minimal", monitoring={"prometheusRule": {"enabled": True}}).of("PrometheusRule")
        values = [it["expr"].split(" * ")[0] for it in rule["spec"]["groups"][0]["rules"]]
        self.assertEqual(values, [it["expr"].split(" * ")[0] for it in yaml(RULES.read_text())["groups"][0]["rules"]])
        self.assertEqual(rendered("minimal").of("PrometheusRule"), [])

    def without_expressions(self, groups):
        """All but what test_releases.py looks at."""
        return [{**group, "rules": [{**rule, "expr": ""} for rule in group["rules"]]} for group in groups]

    def evaluate(self, folder: str, rules, series, at: str, looks) -> None:
        """Has promtool look at expressions: (expression, [(series, value)]), over these series at this time."""
        expected = [
            {"expr": expr, "eval_time": at, "exp_samples": [{"labels": labels, "value": value} for labels, value in samples]}
            for expr, samples in looks
        ]
        given = [{"series": name, "values": values} for name, values in series]
        test = {"interval": "1m", "input_series": given, "promql_expr_test": expected}
        file = Path(folder) / "test.json"
        file.write_text(json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": [test]}))
        self.promtool("test", "rules", str(file))

    def test_in_an_outage_the_dashboard_says_so(self):
        panels = {it.where: it.expr for it in queries.dashboards()}
        answered, left = panels["service: Answered"], panels["service: Error budget left"]
        served = 'aegis_proxy_requests_total{namespace="a", model="digits", model_version="1", kind="split", code="200"}'
        failed = served.replace("200", "502")
        refused = 'aegis_proxy_rejected_total{namespace="a", reason="no_endpoint"}'
        other = 'aegis_proxy_rejected_total{namespace="a", reason="bad_request"}'
        nobody = [(refused, "0+60x10"), (other, "0+60x10")]
        for series, part in [
            (nobody, 0),
            ([(served, "0+90x10"), (refused, "0+10x10"), (other, "0+900x10")], 0.9),
            ([(served, "0+80x10"), (failed, "0+10x10"), (refused, "0+10x10")], 0.8),
            ([(served, "0+80x10"), (refused, "0x10")], 1),
        ]:
            with tempfile.TemporaryDirectory() as folder:
                looks = [(f"round({answered}, 0.001)", [("{}", part)]), (f"round({left}, 0.1)", [("{}", round(1 - (1 - part) * 200, 1))])]
                self.evaluate(folder, [], series, "8m", looks)

    def test_the_pods_that_the_runbook_and_the_notes_ask_for_are_the_proxies(self):
        done = support.helm("install", "release", str(support.CHART), "--dry-run=client", f"--values={support.case('canary')}")
        self.assertEqual(done.returncode, 0, done.stderr)
        for text in (RUNBOOK.read_text(), done.stdout):
            asked = re.findall(r"-l (app\.\S+)", text)
            self.assertTrue(asked)
            for selector in asked:
                wanted = dict(it.split("=") for it in selector.replace("RELEASE", "release").split(","))
                deployments = rendered("canary").of("Deployment")
                found = [it for it in deployments if wanted.items() <= it["spec"]["template"]["metadata"]["labels"].items()]
                self.assertEqual([it["metadata"]["name"] for it in found], ["release-aegis-proxy"], selector)

    def test_the_operator_scrapes_every_pod_on_a_port_that_it_has(self):
        result = rendered("full")
        found = set()
        for monitor in result.of("PodMonitor"):
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            # Or `endpoint` would be the name of the port.
            self.assertIs(endpoint["honorLabels"], True)
            selector = monitor["spec"]["selector"]["matchLabels"]
            for deployment in result.of("Deployment"):
                if selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items():
                    found.add(deployment["metadata"]["name"])
                    ports = [port["name"] for port in support.container_of(deployment)["ports"]]
                    self.assertIn(endpoint["port"], ports)
        self.assertEqual(found, {it["metadata"]["name"] for it in result.of("Deployment")})
