"""The image of deploy/Containerfile as far as it can be made without Docker: its copies, settings and command.

This machine's Python and the packages that are installed with it stand for the base image and for pip's work.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from meshproof.clients.process import run
from meshproof.core.model import ClusterName
from meshproof.providers.lab.api import Lab, request_daemon
from meshproof.providers.lab.build.debian import program
from meshproof.providers.lab.build.images import Image, Layer, archive
from tests.containerfile import TOP, Containerfile

PREFIX: Final = "usr/local"
"""Where official images have their Python, and this one an environment of that of this machine."""

LEFT_OUT: Final = ("matplotlib", "pyroute2")
"""Charts of drills, and the lab's network: a verify pass needs neither, and an image without them is made sooner."""
USELESS: Final = {"test", "tests", "idlelib", "ensurepip", "lib2to3", "tkinter", "turtledemo", "site-packages"}
"""Parts of the standard library, and packages that are not meshproof's."""
USELESS_IN_PACKAGES: Final = {"test", "tests", "aio"}


def write_image(name: str, target: Path) -> Path:
    """An image of that name; the Containerfile says what is in it besides Python, and how it starts."""
    file = Containerfile.read()
    folder = file.one("WORKDIR")
    environment = {"PATH": f"/{PREFIX}/bin:/usr/bin:/bin", **file.environment}
    image = Image(
        name=name,
        layers=(_python(), _code(file.copies, folder)),
        entrypoint=tuple(file.entrypoint),
        user=file.one("USER"),
        folder=folder,
        environment=tuple(f"{key}={value}" for key, value in environment.items()),
    )
    archive([image], target)
    return target


def load(lab: Lab, cluster: ClusterName, tarball: Path) -> None:
    """Put an image into the containerd of one cluster of a lab."""
    pid = request_daemon(lab.folder, {"do": "status"})["processes"][f"{cluster}/containerd"]
    ctr = [str(program("ctr")), "--address", "/run/containerd/containerd.sock", "-n", "k8s.io"]
    run(["nsenter", "-t", str(pid), "-m", *ctr, "images", "import", tarball], timeout_s=120)


def _code(copies: dict[str, str], folder: str) -> Layer:
    """What the Containerfile copies, links as links, without what Python made of it."""
    layer = Layer()
    for source, target in copies.items():
        for path in _paths(TOP / source):
            place = str(Path(folder, target) / path.relative_to(TOP / source)).lstrip("/")  # `.` for a file
            if path.is_symlink():
                layer.links[place] = str(path.readlink())
            elif path.is_file() and "__pycache__" not in path.parts:
                layer.files[place] = path
    return layer


def _python() -> Layer:
    """The interpreter with its standard library at its own place, an environment with packages, and what both load."""
    layer = Layer(dated=True, open_folders=("tmp",))
    interpreter = Path(sys.executable).resolve()
    layer.add_program(interpreter, str(interpreter).lstrip("/"))
    layer.links[f"{PREFIX}/bin/python"] = str(interpreter)
    layer.files[f"{PREFIX}/pyvenv.cfg"] = f"home = {interpreter.parent}\n".encode()
    library = Path(sysconfig.get_path("stdlib"))
    for path in _paths(library):
        parts = path.relative_to(library).parts
        if path.is_file() and USELESS.isdisjoint(parts) and not parts[0].startswith("config-"):
            layer.files[str(path).lstrip("/")] = path
    packages = f"{PREFIX}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for found in _distributions():
        for file in found.files or ():
            path = Path(str(found.locate_file(file)))
            if ".." not in file.parts and USELESS_IN_PACKAGES.isdisjoint(file.parts) and path.is_file():
                layer.files[f"{packages}/{file}"] = path
    _add_libraries(layer)
    return layer


def _paths(place: Path) -> list[Path]:
    """The file itself, or all that is in a folder."""
    return [place] if place.is_file() else sorted(place.rglob("*"))


def _distributions() -> Iterator[Distribution]:
    """What meshproof needs on this Python, and what that needs."""
    wanted, seen = list(distribution("meshproof").requires or ()), set(LEFT_OUT)
    while wanted:
        requirement = Requirement(wanted.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        found = distribution(name)
        wanted += found.requires or ()
        yield found


def _add_libraries(layer: Layer) -> None:
    """The shared libraries of the system that extension modules load; others lie beside them already."""
    inside = set(layer.files.values())
    modules = [path for path in layer.files.values() if isinstance(path, Path) and ".so" in path.suffixes]
    listed = subprocess.run(["ldd", *modules], capture_output=True, text=True, timeout=120)
    for name in sorted(set(re.findall(r"=> (/\S+) \(0x", listed.stdout))):
        if Path(name) not in inside and not name.startswith(sys.prefix):
            layer.files[name.removeprefix("/usr").lstrip("/")] = Path(name).resolve()
