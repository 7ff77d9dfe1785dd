"""Models that the clients of this folder ask, and a server of them."""

import contextlib
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from backend import get, serving, until

# The model of Triton's own examples: two inputs, their sum and their difference.
SIMPLE = """
[[inputs]]
name = "INPUT0"
datatype = "INT32"
shape = [-1, 16]
[[inputs]]
name = "INPUT1"
datatype = "INT32"
shape = [-1, 16]
[[outputs]]
name = "OUTPUT0"
datatype = "INT32"
shape = [-1, 16]
[[outputs]]
name = "OUTPUT1"
datatype = "INT32"
shape = [-1, 16]
"""

# What computes it, in the language of TorchScript.
SUM_AND_DIFFERENCE = """\
class Simple(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Simple,
    a: Tensor,
    b: Tensor) -> Tuple[Tensor, Tensor]:
    return (torch.add(a, b), torch.sub(a, b))
"""

A = np.arange(32, dtype=np.int32).reshape(2, 16)
B = np.full((2, 16), 7, dtype=np.int32)

# A row of each datatype: its ends, and what lies between. The two that not every client can write in JSON stand alone.
ROWS = {
    "BOOL": np.array([[True, False, True]]),
    **{
        name: np.array([[np.iinfo(dtype).min, 1, np.iinfo(dtype).max]], dtype)
        for name, dtype in {
            "UINT8": np.uint8,
            "UINT16": np.uint16,
            "UINT32": np.uint32,
            "UINT64": np.uint64,
            "INT8": np.int8,
            "INT16": np.int16,
            "INT32": np.int32,
            "INT64": np.int64,
        }.items()
    },
    "FP32": np.array([[-3.4e38, 0.1, 1e-45]], np.float32),
    "FP64": np.array([[-1.7e308, 0.1, 5e-324]], np.float64),
    "BYTES": np.array([["", "a\x00b", "äπ😀".encode()]], np.object_),
}
FP16 = np.array([[-65504, 0.1, 6e-8]], np.float16)

# What a run of `slow` takes: longer than the deadlines that are set for it.
SLOW_MS = 400


def echo(*datatypes, script=""):
    """A model that answers what it is asked: tensors of these datatypes, with three columns."""

    def tensors(kind):
        tensor = '[[{kind}]]\nname = "{name}"\ndatatype = "{datatype}"\nshape = [-1, 3]\n'
        prefix = {"inputs": "in", "outputs": "out"}[kind]
        return "".join(
            tensor.format(kind=kind, name=f"{prefix}_{datatype}", datatype=datatype) for datatype in datatypes
        )

    head = 'platform = "scripted"\nmax_batch_size = 4\n'
    return head + tensors("inputs") + tensors("outputs") + f'[scripted]\nanswer = "identity"\n{script}'


def write_torchscript(file: Path, code: str):
    """Writes a module without weights, of the class `Simple`, as libtorch reads it: an archive of its code."""
    # An object of that class with `training = False`, as pickle 2 writes it; and no constants.
    module = b"\x80\x02c__torch__\nSimple\n)\x81}X\x08\x00\x00\x00training\x89sb."
    members = {"data.pkl": module, "code/__torch__.py": code, "constants.pkl": b"\x80\x02).", "version": "3\n"}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"simple/{name}", content)


@contextlib.contextmanager
def served():
    """Serves every model of this file, and gives the address when they are ready."""
    descriptions = {
        "simple": SIMPLE,
        "types": echo(*ROWS),
        "fp16": echo("FP16"),
        "bf16": echo("BF16"),
        "slow": echo("FP32", script=f"batch_ms = {SLOW_MS}").replace("max_batch_size = 4", "max_batch_size = 1"),
    }
    root = Path(tempfile.mkdtemp())
    try:
        for name, description in {**descriptions, "spare": echo("FP32")}.items():
            (root / "repository" / name / "1").mkdir(parents=True)
            (root / "repository" / name / "model.toml").write_text(description)
        write_torchscript(root / "repository" / "simple" / "1" / "model.pt", SUM_AND_DIFFERENCE)
        config = root / "backend.toml"
        models = "".join(f'[models.{name}]\nversions = ["1"]\n' for name in descriptions)
        options = 'listen = "127.0.0.1:0"\nmodel_repository = "repository"\nmodel_control = "explicit"\n'
        config.write_text(options + models)
        with serving(config) as addresses:
            address = addresses["http"]
            until(lambda: is_ready(address))
            yield address
    finally:
        shutil.rmtree(root)


def is_ready(address):
    """Whether all is loaded; a model that cannot be is told at once, and not waited for."""
    status, health = get(address, "/health")
    reasons = [model.get("reason", "loading") for model in health["models"] if not model["warm"]]
    failed = [reason for reason in reasons if "loading" not in reason]
    if failed:
        raise AssertionError(f"not loaded: {failed}")
    return status == 200


class Served:
    """Gives a test case a server, one for all its tests, at `cls.address`."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with contextlib.ExitStack() as stack:
            cls.address = stack.enter_context(served())
            cls.addClassCleanup(stack.pop_all().close)
