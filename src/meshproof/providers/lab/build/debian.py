"""The Debian packages that nodes need: checks and installs them, without leaving their services running."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from meshproof.clients.process import run
from meshproof.core.errors import BadInput, Broken
from meshproof.core.progress import Narrator


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A Debian or Ubuntu package and a file that shows that it is installed."""

    name: str
    proof: str


PACKAGES: tuple[Package, ...] = (
    Package(name="etcd-server", proof="etcd"),
    Package(name="containerd", proof="containerd"),
    Package(name="runc", proof="runc"),
    Package(name="containernetworking-plugins", proof="/usr/lib/cni/bridge"),
    Package(name="iptables", proof="xtables-nft-multi"),
    Package(name="conntrack", proof="conntrack"),
    Package(name="socat", proof="socat"),
    Package(name="tini", proof="tini"),
    Package(name="busybox-static", proof="busybox"),
    Package(name="curl", proof="curl"),
    Package(name="openssl", proof="openssl"),
    Package(name="ca-certificates", proof="/etc/ssl/certs/ca-certificates.crt"),
    Package(name="iproute2", proof="ip"),
    Package(name="util-linux", proof="nsenter"),
    Package(name="kmod", proof="modprobe"),
)
# Units that these packages start on installation on a machine with systemd.
SERVICES = ("etcd", "containerd")

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str) -> Path:
    """The path of a system program. Raises `Broken` if it is missing."""
    found = shutil.which(name, path=SEARCH_PATH)
    if not found:
        raise Broken(f"program {name}", "not found on this machine", install_command(missing_packages()))
    return Path(found)


def missing_packages() -> tuple[Package, ...]:
    """The packages that are not installed."""
    return tuple(p for p in PACKAGES if not _present(p.proof))


def _present(proof: str) -> bool:
    return Path(proof).exists() if proof.startswith("/") else shutil.which(proof, path=SEARCH_PATH) is not None


def install_command(packages: tuple[Package, ...]) -> str:
    """The command that installs `packages`."""
    names = " ".join(p.name for p in packages)
    return f"apt-get update && apt-get install --yes --no-install-recommends {names}"


def ensure_packages(narrator: Narrator) -> None:
    """Install missing packages, if we are root on Debian or Ubuntu; their services are not left running.

    Raises `BadInput` with the missing packages and the command, if we cannot install them.
    """
    lacking = missing_packages()
    if not lacking:
        return
    names = ", ".join(p.name for p in lacking)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        why = "and this user is not root" if os.geteuid() else "and this machine has no apt-get"
        raise BadInput("system packages", f"missing: {names}, {why}", f"run as root: {install_command(lacking)}")
    running_before = _running_services()
    with narrator.step(f"installing system packages: {names}"), _no_service_starts():
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": SEARCH_PATH}
        run(["apt-get", "update", "-qq"], timeout_s=300, env=env)
        install = ["apt-get", "install", "--yes", "-qq", "--no-install-recommends"]
        run([*install, *(p.name for p in lacking)], timeout_s=900, env=env)
    for service in SERVICES:
        if service not in running_before and service in _running_services():
            run(["systemctl", "disable", "--now", f"{service}.service"], timeout_s=60)
            narrator.say(f"stopped and disabled the system service {service}, which its package had started")
    still = missing_packages()
    if still:
        raise Broken("system packages", f"still missing after installing: {', '.join(p.name for p in still)}")


def _running_services() -> frozenset[str]:
    """Those of `SERVICES` that systemd is running; none without systemd."""
    if not Path("/run/systemd/system").exists():
        return frozenset()
    return frozenset(
        s
        for s in SERVICES
        if subprocess.run(["systemctl", "is-active", "--quiet", f"{s}.service"], timeout=30).returncode == 0
    )


class _no_service_starts:  # noqa: N801 - a context manager that reads as a phrase
    """Debian's mechanism against services starting on installation: a policy-rc.d that denies it (exit code 101)."""

    path = Path("/usr/sbin/policy-rc.d")
    text = "#!/bin/sh\n# meshproof, while it installs packages\nexit 101\n"

    def __enter__(self) -> None:
        # An existing file of ours is a leftover of a killed run.
        self.ours = not self.path.exists() or self.path.read_text() == self.text
        if self.ours:
            self.path.write_text(self.text)
            self.path.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self.ours:
            self.path.unlink(missing_ok=True)
