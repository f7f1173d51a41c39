"""Measures how time and API requests of a pass grow with more services, and with a third cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import run
from typing import Any, Final

import yaml

from meshproof.claims.results import FILE_NAME, Result
from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.manifests import core, metadata
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken
from meshproof.core.model import ClusterName
from meshproof.core.progress import Narrator
from meshproof.core.topology import TOPOLOGIES, load_topology
from meshproof.health.mesh import must_be_healthy
from meshproof.mesh.handles import Mesh
from meshproof.mesh.objects import SERVICE_OF_SLICE
from meshproof.providers.lab import api as labs

BASE: Final = "multi-primary-multinet"
"""The topology with most growth: every primary watches every cluster, and every cluster has a gateway."""
EXTRA_SERVICES: Final = (0, 10, 100, 500)
RED: Final = tuple(f"{result:<7} " for result in (Result.FAILED, Result.BROKEN))
"""Prefixes of claims that do not hold in the summary of a run."""
NAMESPACE: Final = "scale"
PORT: Final = 80
KNOWN_S: Final = 180.0
"""Deadline for proxies to learn of new services before a pass, since only the pass is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass: the size of the mesh, the duration in seconds, and the number of API requests."""

    clusters: int
    services: int
    seconds: float
    requests: int
    claims: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The passes, and the reasons of missing figures, by what was to be measured."""

    passes: Sequence[Pass]
    missing: Mapping[str, str]


def measure_scale(lab_name: str, narrator: Narrator, folder: Path) -> Growth:
    """Passes over meshes of two and of three clusters, each with more and more services. Takes about eight minutes."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Pass] = []
    missing: dict[str, str] = {}
    for count in (2, 3):
        topology = _topology_of(count, folder)
        names = tuple(ClusterName(f"cluster{number}") for number in range(1, count + 1))
        with narrator.step(f"a lab of {count} clusters"):
            labs.up(lab_name, names, narrator, stays=True)
        what = f"{count} clusters"
        try:
            run_claims(str(topology), lab_name, "-k", "DISCOVERY-01", f"--report-dir={folder}")  # installs the mesh
            for services in EXTRA_SERVICES:
                what = f"{count} clusters, {services} more services in each"
                with narrator.step(what):
                    found.append(_pass(topology, lab_name, folder, count, services))
        except Broken as problem:  # too much for this machine: earlier figures are kept
            missing[what] = problem.reason
            narrator.say(f"no figures of {what}: {problem}")
        finally:
            labs.down(lab_name, narrator)
    return Growth(passes=found, missing=missing)


def _topology_of(count: int, folder: Path) -> Path:
    """The base topology with `count` clusters, each a primary on its own network."""
    spec: dict[str, Any] = yaml.safe_load((TOPOLOGIES / f"{BASE}.yaml").read_text())
    for number in range(len(spec["clusters"]) + 1, count + 1):
        extra = {"name": f"cluster{number}", "role": "primary", "network": f"network{number}"}
        spec["clusters"].append(extra | {"app_version": f"v{number}"})
    path = folder / f"{BASE}-of-{count}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def _pass(topology: Path, lab_name: str, folder: Path, clusters: int, services: int) -> Pass:
    lab = labs.running(lab_name)
    if lab is None:
        raise Broken(f"lab {lab_name}", "it is no longer up")
    mesh = Mesh.of(load_topology(str(topology)), lab.clusters, lab.toolbox)
    together(lambda cluster: _add_services(cluster.kube, services), mesh.clusters)
    must_be_healthy(mesh, timeout_s=KNOWN_S)
    begin = time.monotonic()
    run_claims(str(topology), lab_name, "--ignore=suites/failover", f"--report-dir={folder}")
    seconds = time.monotonic() - begin
    verdict = yaml.safe_load((folder / FILE_NAME).read_text())
    return Pass(
        clusters=clusters,
        services=services,
        seconds=seconds,
        requests=verdict["api_requests"]["total"],
        claims=verdict["counts"]["SUCCEEDED"],
    )


def run_claims(topology: str, lab_name: str, *extra: str, keep: bool = True) -> str:
    """Run claims, by default keeping the mesh, and return pytest's output. Raises `Broken` unless all hold."""
    kept = ["--keep"] if keep else []
    argv = [sys.executable, "-m", "pytest", f"--topology={topology}", f"--lab-name={lab_name}", *kept, *extra]
    done = run(argv, capture_output=True, text=True)
    if done.returncode:
        red = [line.strip() for line in done.stdout.splitlines() if line.startswith((*RED, "  last seen "))]
        why = "; ".join(red) or done.stdout[-2000:]
        raise Broken(f"claims on {topology}", why, "figures of an unhealthy mesh are meaningless")
    return done.stdout


def _add_services(kube: Kube, count: int) -> None:
    """Services with one endpoint each, up to `count` of them, the same in every cluster."""
    kube.apply(core("Namespace", {"name": NAMESPACE}))
    present = {item["metadata"]["name"] for item in kube.list("Service", NAMESPACE)}
    wanted = [name for name in (f"extra-{number}" for number in range(count)) if name not in present]
    together(lambda manifest: kube.apply(manifest), [m for name in wanted for m in _service(name)])


def _service(name: str) -> Iterable[Json]:
    """The endpoint's address is reserved for documentation (RFC 5737): all proxies get it, but nothing calls it."""
    yield core("Service", metadata(name, NAMESPACE), spec={"ports": [{"name": "http", "port": PORT}]})
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(name, NAMESPACE, labels={SERVICE_OF_SLICE: name}),
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.80"], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
    }


def render_scale(growth: Growth) -> str:
    """A table of passes, and missing figures."""
    rows = "\n".join(
        f"| {p.clusters} | {p.services} | {p.claims} | {p.seconds:.1f} s | {p.requests} |" for p in growth.passes
    )
    missing = "".join(f"\n\nNo figures of {what}: {why}." for what, why in growth.missing.items())
    return f"""\
| clusters | extra services in each | claims proven | pass | API requests |
|---|---|---|---|---|
{rows}{missing}"""
