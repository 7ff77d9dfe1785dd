"""Renders the chart and reads what comes out; shared by all tests of this folder.

`scripts/check_charts.sh` installs the tools and names them in the environment.
"""

import functools
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import tomli
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent.parent
# Another one in its place, where mutants.py has broken a copy.
CHART = Path(os.environ.get("AEGIS_CHART", ROOT / "charts" / "aegis"))
CASES = sorted((CHART / "ci").glob("*.yaml"))
RULES = CHART / "rules" / "aegis.rules.yaml"

# Every supported version lies between the two: Chart.yaml's `kubeVersion`, and the newest known.
OLDEST, NEWEST = "1.27.0", "1.37.0"


class Rendered(NamedTuple):
    """What a helm command left: its objects, or its words of refusal."""

    objects: List[Dict[str, Any]]
    refusal: Optional[str]

    def of(self, kind: str) -> List[Dict[str, Any]]:
        return [it for it in self.objects if it["kind"] == kind]

    def one(self, kind: str, name: str) -> Dict[str, Any]:
        (found,) = [it for it in self.of(kind) if it["metadata"]["name"] == name]
        return found

    def proxy_toml(self) -> str:
        (text,) = [it["data"]["proxy.toml"] for it in self.of("ConfigMap") if "proxy.toml" in it["data"]]
        return text

    def backend_tomls(self) -> List[str]:
        return [it["data"]["backend.toml"] for it in self.of("ConfigMap") if "backend.toml" in it["data"]]


def yaml(text: str) -> Any:
    """The single document of `text`."""
    return reader().load(text)


def reader() -> YAML:
    reader = YAML(typ="safe", pure=True)
    # As Kubernetes and Helm read it: `on` and `yes` are truth values.
    reader.version = (1, 1)
    return reader


def toml(text: str) -> Dict[str, Any]:
    return tomli.loads(text)


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [os.environ["HELM"], *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60
    )


@functools.lru_cache(maxsize=None)
def render(case: Optional[Path], over: str = "{}", kubernetes: str = NEWEST) -> Rendered:
    """Renders a values file with `over`, values as JSON, on top."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as top:
        top.write(over)
        top.flush()
        files = [f"--values={file}" for file in (case, top.name) if file]
        done = helm("template", "release", str(CHART), f"--kube-version={kubernetes}", *files)
    if done.returncode != 0:
        return Rendered([], done.stderr)
    return Rendered(documents(done.stdout), None)


@functools.lru_cache(maxsize=None)
def documents(text: str) -> List[Dict[str, Any]]:
    return [it for it in reader().load_all(text) if it]


def case(name: str) -> Path:
    return CHART / "ci" / f"{name}.yaml"


def rendered(name: str, **over: Any) -> Rendered:
    """Renders a case, which must work."""
    result = render(case(name), json.dumps(over))
    assert result.refusal is None, result.refusal
    return result


def pod_of(deployment: Dict[str, Any]) -> Dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def container_of(deployment: Dict[str, Any]) -> Dict[str, Any]:
    (container,) = pod_of(deployment)["containers"]
    return container


def program(name: str) -> Path:
    """A program that was built; skips the test where the check was told to do without."""
    if "AEGIS_PROGRAMS" not in os.environ:
        raise unittest.SkipTest("told to do without the programs")
    return Path(os.environ["AEGIS_PROGRAMS"]) / name


def for_each_case(test: Callable[[Any, Rendered], None]) -> Callable[[Any], None]:
    """Runs a test over every values file of `ci/`, and names the one in which it fails."""

    @functools.wraps(test)
    def run(self: unittest.TestCase) -> None:
        for file in CASES:
            with self.subTest(case=file.stem):
                test(self, rendered(file.stem))

    return run
