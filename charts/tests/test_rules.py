"""The rules hold under promtool, each alert has a case for and against, and the operator gets them."""

import os
import re
import subprocess
from unittest import TestCase

import support
from support import ROOT, RULES, rendered, yaml
from test_programs import expressions

TESTS = RULES.with_name("aegis.rules.test.yaml")


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
        self.promtool("test", "rules", str(TESTS))

    def test_each_alert_is_seen_to_fire_and_to_be_silent(self):
        cases = [it for test in yaml(TESTS.read_text())["tests"] for it in test["alert_rule_test"]]
        fired = {it["alertname"] for it in cases if it.get("exp_alerts")}
        silent = {it["alertname"] for it in cases if not it.get("exp_alerts")}
        # Two series in one case, of which one fires, count for both.
        silent |= {it["alertname"] for it in cases if len(it.get("exp_alerts", [])) == 1}
        self.assertEqual(fired, set(alerts()))
        self.assertEqual(silent, set(alerts()))

    def test_each_alert_says_how_bad_it_is_and_what_to_look_at(self):
        for name, rule in alerts().items():
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"), name)
            self.assertEqual(set(rule["annotations"]), {"summary", "description"}, name)

    def test_every_metric_of_a_rule_is_documented(self):
        documented = set(re.findall(r"(?m)^\| `(aegis_\w+)`", (ROOT / "config" / "METRICS.md").read_text()))
        named = set(re.findall(r"\baegis_\w+", expressions()))
        self.assertTrue(named)
        for name in named:
            self.assertIn(re.sub(r"_(bucket|count|sum)$", "", name), documented)

    def test_the_operator_is_given_the_rules_as_they_are(self):
        (rule,) = rendered("full").of("PrometheusRule")
        self.assertEqual(rule["spec"], yaml(RULES.read_text()))
        self.assertEqual(rule["metadata"]["labels"]["release"], "monitoring")
        self.assertEqual(rendered("minimal").of("PrometheusRule"), [])

    def test_the_operator_scrapes_every_pod_on_a_port_that_it_has(self):
        result = rendered("full")
        found = set()
        for monitor in result.of("PodMonitor"):
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            selector = monitor["spec"]["selector"]["matchLabels"]
            for deployment in result.of("Deployment"):
                if selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items():
                    found.add(deployment["metadata"]["name"])
                    ports = [port["name"] for port in support.container_of(deployment)["ports"]]
                    self.assertIn(endpoint["port"], ports)
        self.assertEqual(found, {it["metadata"]["name"] for it in result.of("Deployment")})
