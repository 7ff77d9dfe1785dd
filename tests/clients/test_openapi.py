"""schemathesis against the OpenAPI document that the server serves: what the document allows is answered as
it says, what it forbids is refused, and nothing makes the server fail."""

import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

from backend import ECHO, get, serving, until

HERE = Path(__file__).parent
DIGITS = HERE.parent.parent / "config" / "models" / "digits"
PROGRAM = Path(sys.executable).with_name("schemathesis")
CONFIG = """
listen = "127.0.0.1:0"
model_repository = "models"
model_control = "explicit"
drain_delay_ms = 0
[models.digits]
versions = ["1"]
[models.spare]
versions = ["1"]
"""


class Document(unittest.TestCase):
    def test_schemathesis_finds_no_fault(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            shutil.copytree(DIGITS, folder / "models" / "digits")
            (folder / "models" / "spare").mkdir()
            (folder / "models" / "spare" / "model.toml").write_text(ECHO)
            (folder / "backend.toml").write_text(CONFIG)
            with serving(folder / "backend.toml", log="error") as addresses:
                address = addresses["http"]
                until(lambda: get(address, "/v2/health/ready")[0] == 200)
                found = subprocess.run(
                    [PROGRAM, "--config-file", HERE / "schemathesis.toml", "run", f"http://{address}/v2/openapi.json"]
                    + ["--no-color", "--continue-on-failure"],
                    cwd=folder,
                    capture_output=True,
                    text=True,
                )
                self.assertEqual(found.returncode, 0, found.stdout + found.stderr)
                # It got as far as the model, and not only to its refusals.
                self.assertGreater(self.answered(address, "200"), 0)
                self.assertGreater(self.answered(address, "400"), 0)
                self.assertEqual(self.answered(address, "500"), 0)
                tested = re.search(r"(\d+) generated", found.stdout)
                self.assertGreater(int(tested.group(1)), 500, found.stdout)

    def answered(self, address, code):
        with urllib.request.urlopen(f"http://{address}/metrics") as metrics:
            lines = metrics.read().decode().splitlines()
        counted = [
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith("aegis_inference_requests_total{") and f'code="{code}"' in line
        ]
        return sum(counted)


if __name__ == "__main__":
    unittest.main()
