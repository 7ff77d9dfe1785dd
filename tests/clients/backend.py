"""The real aegis-backend, for tests of this folder.

`scripts/check_clients.sh` names the program in the environment.
"""

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAM = os.environ["AEGIS_BACKEND"]

# Far more than anything here takes.
PATIENCE = 60.0

# A model that answers what it is asked, and needs no weights.
ECHO = """
platform = "scripted"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 2]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 2]
[scripted]
answer = "identity"
"""


def run(*arguments) -> "subprocess.CompletedProcess[str]":
    """Runs a subcommand to its end; what it says is in `stdout`."""
    return subprocess.run(
        [PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE
    )


@contextlib.contextmanager
def serving(config: Path, log: str = "warn"):
    """Starts the server, gives its addresses by name, and ends it."""
    environment = {"RUST_LOG": log, **os.environ}
    command = [PROGRAM, "serve", "--config", config]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def get(address: str, path: str):
    """The status of an answer, and its JSON."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def until(condition):
    """Asks until there is an answer that is not empty, and gives it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("the condition did not come true")
