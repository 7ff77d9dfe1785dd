"""The root file systems of the images: assembled by their own script, and the programs started in them.

No Docker is needed: a container is a process in namespaces of its own with another root, and `unshare` makes one. The
program is the first process there, as in a pod, and its user is the chart's.
"""

import functools
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import List
from unittest import TestCase

import support
from support import ROOT, container_of, pod_of, program, rendered
from test_configuration import with_bundled_models
from test_programs import NOWHERE, ask, on_free_ports, place, service, started, wait_for

IMAGES = ROOT / "charts" / "images"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))
# Beside the program and shared libraries, all that an image holds.
FILES = ["etc/group", "etc/nsswitch.conf", "etc/os-release", "etc/passwd", "etc/ssl/certs/ca-certificates.crt"]


def assemble(*arguments) -> "subprocess.CompletedProcess[str]":
    command = [IMAGES / "rootfs.sh", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


def libtorch() -> Path:
    return Path(os.environ.get("LIBTORCH", ROOT / ".libtorch")) / "lib"


@functools.lru_cache(maxsize=None)
def namespaces() -> bool:
    """Whether this machine lets us make them; some sandboxes do not."""
    done = subprocess.run([*unshared(Path("/")), "/bin/true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def unshared(root: Path) -> List[str]:
    user = ["--setuid=65532", "--setgid=65532"] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", f"--root={root}", *user]


def inside(root: Path, name: str) -> List[str]:
    """How to start a program in this root: as a container would, or at the least with no library of this machine's."""
    if namespaces():
        return [*unshared(root), f"/usr/local/bin/{name}"]
    (loader,) = [it for folder in ("lib64", "lib") for it in (root / folder).glob("ld-linux-*")]
    libraries = [root / "usr/local/lib", *{it.parent for it in root.glob("*lib*/**/libc.so.6")}]
    path = ":".join(map(str, libraries))
    return [str(loader), "--inhibit-cache", "--library-path", path, str(root / "usr/local/bin" / name)]


class Images(TestCase):
    def setUp(self):
        # Beside the tools, since libtorch is large and /tmp may be small.
        folder = tempfile.TemporaryDirectory(dir=ROOT / ".tools" / "charts")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "rootfs"
        self.root.mkdir()
        # A folder of ours would be closed to the user of the image.
        Path(folder.name).chmod(0o755)

    def assemble(self, name: str) -> None:
        done = assemble("program", program(name), self.root)
        self.assertEqual(done.returncode, 0, done.stdout)

    def serve(self, name: str, text: str):
        # Where a process of its own root finds the file, and one without, too.
        file = self.root / "etc" / "aegis" / "config.toml"
        file.write_text(text)
        config = "/etc/aegis/config.toml" if namespaces() else file
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        return started([*inside(self.root, name), "serve", "--config", config], env=environment)

    def test_the_proxy_starts_in_its_root_and_answers_the_probes(self):
        self.assemble("aegis-proxy")
        text = on_free_ports(rendered("minimal").proxy_toml(), {service("digits-1"): place(NOWHERE)})
        with self.serve("aegis-proxy", text) as proxy:
            wait_for(200, proxy["admin"], "/livez")
            wait_for(503, proxy["admin"], "/readyz")

    def test_the_backend_starts_in_its_root_with_libtorch_as_a_layer_and_loads_a_model(self):
        self.assemble("aegis-backend")
        done = assemble("libraries", libtorch(), self.root)
        self.assertEqual(done.returncode, 0, done.stdout)
        (text,) = rendered("minimal").backend_tomls()
        text = on_free_ports(with_bundled_models(text))
        if namespaces():
            for inner in ("models", "keys"):
                shutil.copytree(ROOT / "config" / inner, self.root / inner)
                text = text.replace(str(ROOT / "config" / inner), f"/{inner}")
        with self.serve("aegis-backend", text) as backend:
            wait_for(200, backend["http"], "/health")
            self.assertIn('"loaded":true', ask(backend["http"], "/health")[1])

    def test_the_load_tester_starts_in_its_root(self):
        self.assemble("aegis-loadtest")
        done = subprocess.run([*inside(self.root, "aegis-loadtest"), "--version"], stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0)
        self.assertIn("aegis-loadtest", done.stdout)

    def test_a_root_has_the_program_and_what_it_needs_and_nothing_more(self):
        self.assemble("aegis-proxy")
        there = {it.relative_to(self.root).as_posix() for it in self.root.rglob("*") if not it.is_dir()}
        libraries = {it for it in there if re.search(r"\.so(\.\d+)*$", it)}
        self.assertEqual(sorted(there - libraries), sorted([*FILES, "usr/local/bin/aegis-proxy"]))
        for file in self.root.rglob("*"):
            mode = file.lstat().st_mode
            self.assertFalse(mode & (stat.S_ISUID | stat.S_ISGID), file)
            self.assertTrue(not mode & stat.S_IWOTH or file.name == "tmp", file)

    def test_what_cannot_be_assembled_is_said(self):
        for arguments, said in [
            (("program", self.root / "nothing", self.root), "there is no program"),
            (("libraries", self.root, self.root), "there are no shared libraries in"),
            (("layer", self.root, self.root), "unknown step `layer`"),
            (("program",), "expected `program FILE ROOT`"),
        ]:
            done = assemble(*arguments)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, done.stdout)


class Dockerfiles(TestCase):
    def test_there_is_one_for_each_program_and_device(self):
        names = [file.name.split(".")[0] for file in DOCKERFILES]
        self.assertEqual(names, ["backend-cuda", "backend", "loadtest", "proxy"])

    def test_what_they_copy_and_run_is_there(self):
        for file in DOCKERFILES:
            text = file.read_text().replace("\\\n", " ")
            for line in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", text):
                for source in line.split():
                    self.assertTrue((ROOT / source).exists(), f"{file.name}: {source}")
            for line in re.findall(r"(?m)^RUN (.+)$", text):
                for runner, script in re.findall(r"(python3 )?((?:charts/images|scripts)/\w+\.(?:sh|py))", line):
                    self.assertTrue((ROOT / script).exists(), f"{file.name}: {script}")
                    self.assertTrue(runner or os.access(ROOT / script, os.X_OK), f"{file.name}: {script}")

    def test_bases_are_pinned_and_what_ships_is_not_root_and_holds_no_base(self):
        toolchain = re.search(r'channel = "([\d.]+)"', (ROOT / "rust-toolchain.toml").read_text()).group(1)
        user = pod_of(rendered("minimal").of("Deployment")[0])["securityContext"]["runAsUser"]
        for file in DOCKERFILES:
            text = file.read_text()
            stages = re.findall(r"(?m)^FROM (\S+)(?: AS (\w+))?$", text)
            names = {name for _, name in stages}
            for base, _ in stages[:-1]:
                self.assertTrue(base in names or re.fullmatch(rf"rust:{re.escape(toolchain)}-\w+", base), base)
            self.assertEqual(stages[-1], ("scratch", ""))
            self.assertIn(f"ENV RUSTUP_TOOLCHAIN={toolchain}\n", text)
            self.assertRegex(text, rf"(?m)^USER {user}:{user}$")

    def test_libtorch_is_copied_before_the_program_so_that_a_release_moves_only_that(self):
        for name in ("backend", "backend-cuda"):
            text = (IMAGES / f"{name}.Dockerfile").read_text()
            final = text[text.index("FROM scratch") :]
            copies = re.findall(r"(?m)^COPY --from=(\w+) (\S+) /$", final)
            self.assertEqual(copies, [("libtorch", "/libtorch/"), ("build", "/rootfs/")])
            # The layer is made before the sources come in, so that it does not depend on them.
            self.assertLess(text.index("/libtorch"), text.index("COPY . ."))

    def test_the_command_of_the_chart_is_the_program_of_the_image(self):
        programs = {}
        for file in DOCKERFILES:
            (name,) = re.findall(r'(?m)^ENTRYPOINT \["([\w-]+)"\]$', file.read_text())
            programs[file.name.split(".")[0]] = name
            self.assertIn(f"charts/images/build.sh {name} /rootfs", file.read_text())
            self.assertRegex(file.read_text(), r"(?m)^ENV PATH=/usr/local/bin\b")
        for deployment in rendered("minimal").of("Deployment"):
            container = container_of(deployment)
            self.assertEqual(container["command"], [programs[container["name"]]])
            (command,) = re.findall(r"(?m)^CMD (.+)$", (IMAGES / f"{container['name']}.Dockerfile").read_text())
            self.assertEqual(command, str(container["args"]).replace("'", '"'))
        (pod,) = rendered("linkerd").of("Pod")
        self.assertEqual(pod["spec"]["containers"][0]["command"], [programs["loadtest"]])
        data = support.yaml((support.CHART / "values.yaml").read_text())["test"]["data"]
        text = (IMAGES / "loadtest.Dockerfile").read_text()
        ((source, target),) = re.findall(r"(?m)^COPY (loadtest/data/\S+) (\S+)$", text)
        self.assertTrue((ROOT / source / Path(data).relative_to(target)).is_file(), data)
        (objectives,) = [it.split("=")[1] for it in pod["spec"]["containers"][0]["args"] if it.startswith("--slo=")]
        self.assertIn(f"COPY config/slo.toml {objectives}\n", text)

    def test_libtorch_for_gpus_is_the_one_that_the_program_is_built_with(self):
        setup = (ROOT / "scripts" / "setup_libtorch.py").read_text()
        lines = (IMAGES / "cuda-libraries.txt").read_text().splitlines()
        pins = dict(re.fullmatch(r"([\w-]+)==\S+ --hash=sha256:([0-9a-f]{64})", it).groups() for it in lines if it[0] != "#")
        self.assertIn(f'torch="{pins["torch"]}"', setup)
        self.assertIn(f'cupti="{pins["nvidia-cuda-cupti"]}"', setup)
        self.assertIn(f'cudart="{pins["nvidia-cuda-runtime"]}"', setup)
