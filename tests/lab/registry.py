"""A registry that asks who pulls, on the loopback of every node of a lab, with the images of probes in it.

It is the one of Debian's package docker-registry, unpacked and not installed, so that no service of it is started.
containerd speaks plain HTTP to loopback addresses only, so each node has a process of its own, over one storage.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import yaml

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core
from meshproof.clients.process import run
from meshproof.core.errors import Broken
from meshproof.core.model import ClusterName
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.api import Lab, request_daemon
from meshproof.providers.lab.build.debian import program
from meshproof.providers.lab.build.images import APP, CLIENT

ADDRESS: Final = "127.0.0.1:5000"
HELD: Final = {CLIENT: f"{ADDRESS}/client:1", APP: f"{ADDRESS}/app:1"}
"""The lab's images, and how the registry calls them."""

USER, PASSWORD = "puller", "let-me-pull"
HTPASSWD: Final = f"{USER}:$2b$04$tsro7tjYJ3Y..HBX7Ga3yeiF6oQ/6i/WIXbXwRa4vP/snrOV0OIQG"
"""Of that password, by bcrypt: the registry takes nothing else."""
PACKAGE: Final = "docker-registry"
UNAUTHORIZED: Final = "401"
CANNOT_CONNECT: Final = 7
"""An exit code of curl's."""


@contextmanager
def registry(lab: Lab, folder: Path) -> Iterator[None]:
    """Running on all nodes while the block lasts, and filled."""
    binary, config = _unpacked(folder), _configured(folder)
    with ExitStack() as running:
        for cluster in lab.clusters:
            running.enter_context(_on_node(lab, cluster.name, binary, config))
        _fill(lab, lab.clusters[0].name)
        yield


def pull_secret(name: str, namespace: str) -> Json:
    """What a pod needs to pull from it."""
    entry = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    data = base64.b64encode(json.dumps({"auths": {ADDRESS: entry}}).encode()).decode()
    made = core("Secret", {"name": name, "namespace": namespace}, data={".dockerconfigjson": data})
    return made | {"type": "kubernetes.io/dockerconfigjson"}


def _unpacked(folder: Path) -> Path:
    download = ("apt-get", "download", "-o", "APT::Sandbox::User=root", PACKAGE)
    try:
        run(download, timeout_s=60, cwd=folder)
    except Broken:  # the lists of packages may be missing, or old
        run(("apt-get", "update"), timeout_s=120)
        run(download, timeout_s=60, cwd=folder)
    (package,) = folder.glob(f"{PACKAGE}_*.deb")
    run(("dpkg-deb", "--extract", package, folder / "package"), timeout_s=60)
    return folder / "package" / "usr" / "bin" / PACKAGE


def _configured(folder: Path) -> Path:
    (folder / "htpasswd").write_text(f"{HTPASSWD}\n")
    path = folder / "registry.yaml"
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": ADDRESS},
        "auth": {"htpasswd": {"realm": "lab", "path": str(folder / "htpasswd")}},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@contextmanager
def _on_node(lab: Lab, cluster: ClusterName, binary: Path, config: Path) -> Iterator[None]:
    enter = ["nsenter", "-t", _containerd(lab, cluster), "--net"]
    process = subprocess.Popen([*enter, binary, "serve", config], stdin=subprocess.DEVNULL)

    def asks() -> None:
        ask_it = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{ADDRESS}/v2/"]
        code = run([*enter, *ask_it], timeout_s=10, accepted_exit_codes=(CANNOT_CONNECT,))
        if code != UNAUTHORIZED:
            raise NotYet(f"it answers {code}")

    try:
        eventually(asks, what=f"registry on the node of {cluster}", timeout_s=20.0, poll_s=0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _containerd(lab: Lab, cluster: ClusterName) -> str:
    return str(request_daemon(lab.folder, {"do": "status"})["processes"][f"{cluster}/containerd"])


def _fill(lab: Lab, cluster: ClusterName) -> None:
    ctr = [str(program("ctr")), "--address", "/run/containerd/containerd.sock", "-n", "k8s.io", "images"]
    enter = ["nsenter", "-t", _containerd(lab, cluster), "--mount", "--net"]
    for image, name in HELD.items():
        run([*enter, *ctr, "tag", image, name], timeout_s=30)
        run([*enter, *ctr, "push", "--plain-http", "--user", f"{USER}:{PASSWORD}", name], timeout_s=120)
        run([*enter, *ctr, "rm", name], timeout_s=30)
