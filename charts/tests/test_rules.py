"""The rules hold under promtool, each alert has a case for and against, and the operator gets them."""

import os
import re
import subprocess
from unittest import TestCase

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
        # Two series in one case, of which one fires, count for both.
        silent |= {it["alertname"] for it in cases if len(it.get("exp_alerts", [])) == 1}
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
        (rule,) = rendered("full").of("PrometheusRule")
        expected = RULES.read_text().replace("RUNBOOK.md#", "https://runbooks.example/aegis/RUNBOOK.md#")
        expected = expected.replace("vector(1)", "vector(0.05)").replace("vector(32)", "vector(8)")
        self.assertEqual(rule["spec"], yaml(expected))
        self.assertEqual(rule["metadata"]["labels"]["release"], "monitoring")
        plain = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
        (rule,) = rendered("minimal", monitoring=plain).of("PrometheusRule")
        self.assertEqual(rule["spec"], yaml(RULES.read_text()))
        self.assertEqual(rendered("minimal").of("PrometheusRule"), [])

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
