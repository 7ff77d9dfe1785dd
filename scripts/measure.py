#!/usr/bin/env python3
"""Measures the CPU that one request costs, in the proxy and in a backend, side by side for builds.

    scripts/measure.py target/release target/quick

For each folder of built programs it starts one backend (version 1 of the bundled model) and the
proxy before it, sends the held-out digits at a fixed rate, and divides the CPU time that /proc
shows for each program by the requests. Rounds are interleaved and the median is told: on a shared
machine ratios within one run mean something, absolute times little.
"""

import json
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

RATE, SECONDS, ROUNDS = 500, 10, 3
ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS = 100  # USER_HZ of Linux on every architecture that we build for.

BACKEND = """
listen = "127.0.0.1:0"
model_repository = "{models}"
drain_delay_ms = 0
[models.digits]
versions = ["1"]
"""
PROXY = """
[listen]
data = "127.0.0.1:0"
admin = "127.0.0.1:0"
[drain]
delay_ms = 0
[models.digits.versions.1]
weight = 1
endpoints = ["{backend}"]
"""


def start(program, config, folder):
    """Starts a program on a configuration; returns it and the addresses that it bound."""
    path = pathlib.Path(folder) / f"{program.name}.toml"
    path.write_text(config)
    process = subprocess.Popen(
        [program, "serve", "--config", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return process, json.loads(process.stdout.readline())


def cpu_seconds(process):
    """User and system time so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(process):
    """Resident memory."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def load(url, seconds, report):
    """Sends the digits; fails when a request did."""
    command = [ROOT / "target/release/aegis-loadtest", "run", "--quiet", "--url", url]
    command += ["--model", "digits", "--rate", str(RATE), "--duration", f"{seconds}s"]
    command += ["--data", ROOT / "loadtest/data/digits/test.csv", "--json", report]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads(pathlib.Path(report).read_text())["summary"]
    statuses = summary["statuses"]
    if list(statuses) != ["200"]:
        sys.exit(f"not every request was answered with 200: {statuses}")
    return statuses["200"]


def measure(folder):
    """One round for one folder of programs."""
    with tempfile.TemporaryDirectory() as temporary:
        backend_config = BACKEND.format(models=ROOT / "config/models")
        backend, bound = start(folder / "aegis-backend", backend_config, temporary)
        proxy, faces = start(
            folder / "aegis-proxy", PROXY.format(backend=bound["http"]), temporary
        )
        try:
            report = pathlib.Path(temporary) / "report.json"
            url = f"http://{faces['data']}"
            while subprocess.run(
                ["curl", "-sf", "-o", "/dev/null", f"http://{faces['admin']}/readyz"]
            ).returncode:
                pass
            load(url, 2, report)
            before = cpu_seconds(proxy), cpu_seconds(backend)
            answered = load(url, SECONDS, report)
            spent = [
                (cpu_seconds(process) - was) / answered * 1e6
                for process, was in zip((proxy, backend), before)
            ]
            return spent + [resident_mib(proxy), resident_mib(backend)]
        finally:
            for process in (proxy, backend):
                process.send_signal(signal.SIGTERM)
                process.wait()


def main():
    folders = [pathlib.Path(name) for name in sys.argv[1:]]
    if not folders:
        sys.exit(__doc__)
    rounds = {folder: [] for folder in folders}
    for _ in range(ROUNDS):
        for folder in folders:
            rounds[folder].append(measure(folder))
    print(f"{RATE} requests/s for {SECONDS} s, medians of {ROUNDS} interleaved rounds")
    print(f"{'':24} {'CPU us/request':>22}   {'resident MiB':>18}")
    print(f"{'':24} {'proxy':>10} {'backend':>11}   {'proxy':>8} {'backend':>9}")
    for folder in folders:
        proxy, backend, proxy_mib, backend_mib = map(statistics.median, zip(*rounds[folder]))
        print(f"{folder!s:24} {proxy:10.0f} {backend:11.0f}   {proxy_mib:8.1f} {backend_mib:9.1f}")


if __name__ == "__main__":
    main()
