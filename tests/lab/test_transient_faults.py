"""Each fault under a run that is killed in the middle of it: the record alone heals it, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from meshproof.core.progress import Narrator
from meshproof.core.topology import load_topology
from meshproof.core.waiting import pause
from meshproof.failover.resilient_settings import resilient_application
from meshproof.faults.components import crash_istiod, kill_east_west, remove_app, remove_remote_secrets, rotate_tokens
from meshproof.faults.heal import heal
from meshproof.faults.infrastructure import cut_links, freeze_cluster, lose_cluster, stop_api_servers
from meshproof.faults.istiod import stop_istiod, two_replicas
from meshproof.faults.journal import Journal
from meshproof.faults.transient import FaultContext
from meshproof.health.mesh import must_be_healthy
from meshproof.install.lifecycle import install_mesh, uninstall_mesh
from meshproof.mesh.handles import Mesh
from meshproof.providers.lab.api import Lab, running
from tests.processes import line_of, started

pytestmark = pytest.mark.lab

TOPOLOGY = """\
title: Multi-primary on different networks
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - {name: east, role: primary, network: network1, app_version: v1}
  - {name: west, role: primary, network: network2, app_version: v2}
"""

STRIKES: dict[str, Callable[[FaultContext], AbstractContextManager[object]]] = {
    "stop_istiod": lambda b: stop_istiod(b, b.mesh.clusters[0]),
    "two_replicas": lambda b: two_replicas(b, b.mesh.clusters[0]),
    "crash_istiod": lambda b: crash_istiod(b, b.mesh.clusters[0]),
    "kill_east_west": lambda b: kill_east_west(b, b.mesh.clusters[0]),
    "remove_app": lambda b: remove_app(b, b.mesh.clusters[0]),
    "remove_remote_secrets": lambda b: remove_remote_secrets(b, [(b.mesh.clusters[0], b.mesh.clusters[1])]),
    "rotate_tokens": lambda b: rotate_tokens(b, [(b.mesh.clusters[0], b.mesh.clusters[1])]),
    "resilient_application": resilient_application,
    "cut_links": lambda b: cut_links(b, *b.mesh.clusters),
    "cut_links_one_way": lambda b: cut_links(b, *b.mesh.clusters, one_way=True),
    "stop_api_servers": lambda b: stop_api_servers(b, b.mesh.clusters),
    "freeze_cluster": lambda b: freeze_cluster(b, b.mesh.clusters[0]),
    "lose_cluster": lambda b: lose_cluster(b, b.mesh.clusters[0]),
}


def mesh_on(lab: Lab, topology: Path) -> Mesh:
    return Mesh.of(load_topology(str(topology)), lab.clusters, lab.toolbox)


def leave(lab_name: str, topology: str, journal: str, name: str) -> None:
    """Inflict a fault, say so, and wait to be killed."""
    lab = running(lab_name)
    assert lab is not None
    fault_context = FaultContext(
        mesh=mesh_on(lab, Path(topology)), journal=Journal(Path(journal)), machine_control=lab.machine_control
    )
    with STRIKES[name](fault_context):
        print("struck", flush=True)
        pause(600)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("topology") / "two-primaries.yaml"
    path.write_text(TOPOLOGY)
    return path


@pytest.fixture(scope="module")
def mesh(lab: Lab, recipe: Path, narrator: Narrator) -> Iterator[Mesh]:
    made = mesh_on(lab, recipe)
    lab.connect(made.topology)
    install_mesh(made, narrator)
    yield made
    uninstall_mesh(made, narrator)


@pytest.mark.parametrize("name", STRIKES)
def test_what_a_killed_run_left_is_healed(name: str, lab: Lab, mesh: Mesh, recipe: Path, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    must_be_healthy(mesh)
    arguments = (lab.folder.name, str(recipe), str(journal.path), name)
    call = f"from tests.lab.test_transient_faults import leave; leave(*{arguments})"
    with started([sys.executable, "-c", call], within_s=300) as run:
        assert line_of(run) == "struck"
        os.kill(run.pid, signal.SIGKILL)
    assert journal.unhealed()
    assert heal(mesh, journal, lab.machine_control)
    assert journal.unhealed() == ()
    must_be_healthy(mesh, timeout_s=150.0)
    assert lab.problems() == ()
