"""Checks whether this machine can run a lab. Each check returns a finding with its repair, for `meshproof doctor`."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName
from meshproof.core.paths import cache_root, state_root
from meshproof.core.progress import Narrator
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab.address_plan import SLOTS, overlaps, plan_slot
from meshproof.providers.lab.build import debian as packages
from meshproof.providers.lab.build.istio_releases import CURRENT
from meshproof.providers.lab.node import network
from meshproof.providers.lab.node.cgroups import CGROUPS

MEMORY_GIB = 4
"""Two clusters with a mesh take under 3 GiB; building takes about 3 GiB."""
INOTIFY_INSTANCES = 40
"""The processes of two clusters open about 35 (kubelet 6, controller manager 5, API server 3, others 1 each)."""
MORE_INOTIFY = "take other labs down, or: sysctl -w fs.inotify.max_user_instances=1024"
DISK_GIB_COLD = 14
DISK_GIB_WARM = 2


_ANY = ClusterName("any")


class Grade(StrEnum):
    """Severity of a finding: with `warn` a lab can start, with `stop` it cannot."""

    OK = "ok"
    WARN = "warn"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: its subject, its state, and the repair if it is not ok."""

    subject: str
    grade: Grade
    seen: str
    repair: str = ""


def check_root() -> Finding:
    ok = os.geteuid() == 0
    return Finding(
        subject="user",
        grade=Grade.OK if ok else Grade.STOP,
        seen="root" if ok else f"user {os.geteuid()}, not root",
        repair="" if ok else "run as root or with sudo: the lab creates namespaces, mounts and network links",
    )


def check_platform() -> Finding:
    ok = platform.system() == "Linux" and platform.machine() == "x86_64"
    seen = f"{platform.system()} {platform.release()} on {platform.machine()}"
    return Finding(
        subject="platform",
        grade=Grade.OK if ok else Grade.STOP,
        seen=seen,
        repair="" if ok else "use a Linux machine (or virtual machine) on x86_64: Envoy's wheel exists only for that",
    )


def check_packages() -> Finding:
    lacking = packages.missing_packages()
    if not lacking:
        return Finding(subject="system packages", grade=Grade.OK, seen=f"all {len(packages.PACKAGES)} installed")
    return Finding(
        subject="system packages",
        grade=Grade.STOP,
        seen=f"missing: {', '.join(p.name for p in lacking)}",
        repair=packages.install_command(lacking),
    )


def check_overlay() -> Finding:
    ok = "overlay" in Path("/proc/filesystems").read_text()
    if not ok and shutil.which("modprobe"):
        ok = subprocess.run(["modprobe", "overlay"], capture_output=True).returncode == 0
    return Finding(
        subject="overlay file system",
        grade=Grade.OK if ok else Grade.STOP,
        seen="available" if ok else "not supported by the kernel",
        repair="" if ok else "modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS",
    )


_TRIAL = """\
*filter
:TRIAL - [0:0]
-A TRIAL -m comment --comment x -m conntrack --ctstate NEW -m statistic --mode random --probability 0.5 -j RETURN
-A TRIAL -m mark --mark 0x4000/0x4000 -j REJECT
COMMIT
*nat
:TRIAL - [0:0]
-A TRIAL -p tcp -j DNAT --to-destination 127.0.0.1:1
-A TRIAL -j MASQUERADE --random-fully
-A TRIAL -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""


def check_netfilter() -> Finding:
    """Try the kinds of rules that kube-proxy and Istio use, in a temporary network namespace."""
    tool = shutil.which("iptables-restore", path=packages.SEARCH_PATH)
    if tool is None or os.geteuid():
        return Finding(subject="netfilter", grade=Grade.WARN, seen="not checked (needs root and iptables)")
    tried = subprocess.run(["unshare", "--net", tool], input=_TRIAL, capture_output=True, text=True)
    return Finding(
        subject="netfilter",
        grade=Grade.OK if tried.returncode == 0 else Grade.STOP,
        seen="conntrack, statistic, NAT and REDIRECT rules work" if tried.returncode == 0 else tried.stderr.strip(),
        repair=""
        if tried.returncode == 0
        else "load the kernel's netfilter modules: modprobe nf_nat xt_conntrack xt_statistic",
    )


def check_cgroups() -> Finding:
    root = CGROUPS
    if (root / "cgroup.controllers").exists():
        there = set((root / "cgroup.controllers").read_text().split())
        lacking = {"cpu", "memory", "pids"} - there
        seen = "version 2"
    else:
        lacking = {c for c in ("cpu", "memory", "pids") if not (root / c).is_dir()}
        seen = "version 1"
    return Finding(
        subject="cgroups",
        grade=Grade.STOP if lacking else Grade.OK,
        seen=f"{seen}, controllers missing: {', '.join(sorted(lacking))}" if lacking else seen,
        repair="enable these controllers on the kernel's command line" if lacking else "",
    )


def available_memory_gib() -> float:
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(facts["MemAvailable"].split()[0]) / 2**20


def check_memory() -> Finding:
    free = available_memory_gib()
    ok = free >= MEMORY_GIB
    return Finding(
        subject="memory",
        grade=Grade.OK if ok else Grade.STOP,
        seen=f"{free:.1f} GiB available, needs {MEMORY_GIB}",
        repair="" if ok else "stop other programs, or use a machine with more memory",
    )


def check_disk() -> Finding:
    warm = any((cache_root() / "bin").glob("*/.complete"))
    wanted = DISK_GIB_WARM if warm else DISK_GIB_COLD
    free = shutil.disk_usage(cache_root()).free / 2**30
    ok = free >= wanted
    return Finding(
        subject="disk",
        grade=Grade.OK if ok else Grade.STOP,
        seen=f"{free:.1f} GiB free for {cache_root()}, needs {wanted} ({'built already' if warm else 'first build'})",
        repair=""
        if ok
        else "free some space, or set MESHPROOF_CACHE (and GOPATH, GOCACHE) to a folder on a bigger disk",
    )


def free_inotify_instances(most: int) -> int:
    """How many this user can still open, counted up to `most`: the kernel's default is 128 per user."""
    libc = ctypes.CDLL(None, use_errno=True)
    opened: list[int] = []
    try:
        while len(opened) < most and (descriptor := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
            opened.append(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return len(opened)


def check_inotify() -> Finding:
    """Whether inotify instances suffice for one more lab."""
    free = free_inotify_instances(INOTIFY_INSTANCES)
    ok = free == INOTIFY_INSTANCES
    return Finding(
        subject="inotify",
        grade=Grade.OK if ok else Grade.STOP,
        seen=f"{free} instances free{' at least' if ok else ''}, needs {INOTIFY_INSTANCES}",
        repair="" if ok else MORE_INOTIFY,
    )


def check_ranges() -> Finding:
    routes = network.host_routes()
    for slot in range(SLOTS):
        if not overlaps(plan_slot("any", slot, (_ANY,)), routes):
            return Finding(subject="address ranges", grade=Grade.OK, seen=f"slot {slot} is free of host routes")
    hits = {str(hit.network) for hit in overlaps(plan_slot("any", 0, (_ANY,)), routes)}
    return Finding(
        subject="address ranges",
        grade=Grade.STOP,
        seen=f"198.18.0.0/15 overlaps the host's routes {', '.join(sorted(hits))}",
        repair="remove these routes while the lab runs",
    )


def check_folders() -> Finding:
    try:
        seen = f"{cache_root()} and {state_root()} are private"
    except BadInput as problem:
        return Finding(
            subject="folders", grade=Grade.STOP, seen=f"{problem.what}: {problem.reason}", repair=problem.repair
        )
    return Finding(subject="folders", grade=Grade.OK, seen=seen)


def check_leftovers() -> Finding:
    left = remains.abandoned()
    return Finding(
        subject="leftovers",
        grade=Grade.WARN if left else Grade.OK,
        seen="; ".join(str(r) for r in left) if left else "none",
        repair="; ".join(f"meshproof lab down --lab-name={r.lab}" for r in left),
    )


def check_builds() -> Finding:
    done = any((cache_root() / "bin").glob("*/kubelet"))
    return Finding(
        subject="programs", grade=Grade.OK, seen=f"{CURRENT.holds} are {'built' if done else 'not built yet'}"
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_root,
    check_platform,
    check_folders,
    check_packages,
    check_overlay,
    check_netfilter,
    check_cgroups,
    check_memory,
    check_disk,
    check_inotify,
    check_ranges,
    check_leftovers,
    check_builds,
)


def examine() -> tuple[Finding, ...]:
    """All findings, in order; a check that raises is a finding too."""
    found = []
    for check in CHECKS:
        try:
            found.append(check())
        except Exception as problem:  # noqa: BLE001 - reported as a finding
            found.append(Finding(subject=check.__name__, grade=Grade.STOP, seen=f"{type(problem).__name__}: {problem}"))
    return tuple(found)


def require_fit(narrator: Narrator) -> None:
    """Raise `BadInput` with all findings that prevent a lab and their repairs; report the warnings."""
    found = examine()
    for finding in found:
        if finding.grade is Grade.WARN:
            narrator.say(f"note: {finding.subject}: {finding.seen}")
    stops = [f for f in found if f.grade is Grade.STOP]
    if stops:
        raise BadInput(
            "this machine cannot run a lab",
            "".join(f"\n  {f.subject}: {f.seen}" for f in stops),
            "".join(f"\n  {f.subject}: {f.repair}" for f in stops if f.repair),
        )
