"""Runs the steps of an upgrade under load, and proves the mesh after each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshproof.claims.suite_run import SuiteRun, run_suites
from meshproof.core.errors import MeshproofError
from meshproof.core.model import Topology
from meshproof.core.topology import as_yaml, called
from meshproof.core.waiting import pause
from meshproof.failover.drill import DrillRunner
from meshproof.health.mesh import must_be_healthy
from meshproof.install.marker import remove_markers, write_markers
from meshproof.load.generator import DEFAULT, EntryPoint, load_on
from meshproof.load.history import History, Mark, Request, Summary, Window, summarise
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.upgrade.baseline.capture import take_record
from meshproof.upgrade.baseline.model import BaselineRecord
from meshproof.upgrade.rehearsal.component_versions import Components, components_of
from meshproof.upgrade.rehearsal.control_plane import ControlPlane
from meshproof.upgrade.rehearsal.long_lived_clients import LongLivedClients
from meshproof.upgrade.rehearsal.steps import RETURNED, START, RehearsalStep
from meshproof.workloads.resilient_app import RESILIENT

TARGETS: Final = (DEFAULT, RESILIENT)
"""The requested services: the application with Istio's default settings, and with the recommended ones."""
WAYS: Final = (EntryPoint.NEW, EntryPoint.KEPT)
"""From outside. From inside, long-lived clients send requests, since other clients are restarted in an upgrade."""
STEADY_S: Final = 1.0
"""Seconds of load before a step, and after the mesh is healthy."""
HEALTHY_S: Final = 150.0
"""How long a mesh may take to be healthy after a step. A replaced istiod with connections from another network uses its
whole grace period of 30 s, and the leases of its remotes then have to expire: new namespaces there get no root
certificate for up to 75 s."""


@dataclass(slots=True, kw_only=True)
class StepResult:
    """The result of one step.

    `begin` and `end` delimit its load. `done_s` is the duration of the step itself, `healthy_s` the time after it until
    the mesh was healthy (None: it was not, with the reason in `unhealthy`). `late_s` is how far the load fell behind
    schedule at worst. `claims` are the results of the suites (None: they did not run).
    """

    step: RehearsalStep
    begin: Mark
    end: Mark | None = None
    done_s: float = 0.0
    healthy_s: float | None = None
    unhealthy: str = ""
    requests: Sequence[Request] = ()
    late_s: float = 0.0
    components: Mapping[str, Components] = field(default_factory=dict)
    claims: SuiteRun | None = None

    @property
    def lost(self) -> list[Request]:
        """Lost requests with resilience settings; none is allowed."""
        return [request for request in self.requests if request.is_bad and is_resilient(request)]

    @property
    def lost_by_default(self) -> list[Request]:
        """Lost requests with Istio's default settings, which do not retry what a terminating proxy has cut."""
        return [request for request in self.requests if request.is_bad and not is_resilient(request)]

    @property
    def summary(self) -> Summary:
        return summarise(self.requests)

    @property
    def silent(self) -> list[str]:
        """The sources without a request that is known to have succeeded."""
        sources = dict.fromkeys(request.source for request in self.requests)
        good = {request.source for request in self.requests if request.is_known and not request.is_bad}
        return [source for source in sources if source not in good]


def is_resilient(request: Request) -> bool:
    """Whether it was a request to the application with resilience settings."""
    return request.source.endswith(f" {RESILIENT.name}")


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """An upgrade of a mesh to another release and back. `untaken` are the steps skipped after a failure."""

    method: str
    mesh: Mesh
    old: ControlPlane
    new: ControlPlane
    results: list[StepResult] = field(default_factory=list)
    untaken: Sequence[RehearsalStep] = ()
    records: dict[str, BaselineRecord] = field(default_factory=dict)
    history: History = field(default_factory=History)
    left: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def window(self) -> Window:
        ends = [result.end or result.begin for result in self.results]
        return Window(begin_s=self.results[0].begin.monotonic_s, end_s=ends[-1].monotonic_s)


@dataclass(slots=True, kw_only=True)
class RehearsalRunner:
    """Runs rehearsals. `root` is the checkout, `lab_name` the lab of the mesh, `report_dir` the rehearsal's folder."""

    drill_runner: DrillRunner
    root: Path
    lab_name: str
    report_dir: Path

    def run(
        self,
        rehearsal: Rehearsal,
        steps: Sequence[RehearsalStep],
        long_lived_clients: LongLivedClients,
        look: Callable[[str], object] = lambda state: None,
    ) -> Rehearsal:
        """Take all steps. If one leaves the mesh unhealthy, skip the others and reinstall the mesh.

        `look` is called with the name of every state that is reached. An aborted run leaves a mesh without our markers,
        so the next run treats it as unknown and removes it.
        """
        shutil.rmtree(self.report_dir, ignore_errors=True)
        remove_markers(rehearsal.mesh)
        try:
            self._take_steps(rehearsal, steps, long_lived_clients, look)
        except MeshproofError as problem:
            self.drill_runner.rebuild_mesh(f"{rehearsal.method}: {problem}")
            raise
        if rehearsal.results[-1].healthy_s is not None and rehearsal.results[-1].step.reaches == RETURNED:
            write_markers(rehearsal.mesh)
        else:
            self.drill_runner.rebuild_mesh(
                f"{rehearsal.method}: {rehearsal.results[-1].unhealthy or 'the mesh did not return to the old release'}"
            )
        return rehearsal

    def _take_steps(
        self,
        rehearsal: Rehearsal,
        steps: Sequence[RehearsalStep],
        long_lived_clients: LongLivedClients,
        look: Callable[[str], object],
    ) -> None:
        rehearsal.records[START] = take_record(rehearsal.mesh)
        look(START)
        for number, step in enumerate(steps):
            rehearsal.untaken = steps[number:]
            result = self._take(rehearsal, step, long_lived_clients)
            rehearsal.untaken = steps[number + 1 :]
            if result.healthy_s is None:
                return
            result.components = components_of(rehearsal.mesh)
            if step.reaches:
                rehearsal.records[step.reaches] = take_record(step.governs.mesh_of(rehearsal.mesh))
                look(step.reaches)
            if step.proven:
                self._prove(rehearsal, result, number)

    def _take(self, rehearsal: Rehearsal, step: RehearsalStep, long_lived_clients: LongLivedClients) -> StepResult:
        mesh = step.governs.mesh_of(rehearsal.mesh)
        if step.before is not None:
            step.before()
        result = StepResult(step=step, begin=Mark.now())
        rehearsal.results.append(result)
        with (
            self.drill_runner.narrator.step(f"{len(rehearsal.results)}. {step.name}"),
            load_on(
                mesh,
                Snapshot.take(mesh),
                targets=TARGETS,
                entry_points=WAYS,
                extra_loads=long_lived_clients.loads(TARGETS),
            ) as load,
        ):
            result.begin = Mark.now()
            pause(STEADY_S)
            start = Mark.now()
            try:
                step.do()
                done = Mark.now()
                result.done_s = done.monotonic_s - start.monotonic_s
                # Claims create namespaces, so only before claims must leaders be elected.
                must_be_healthy(mesh, timeout_s=HEALTHY_S, leaders=step.proven)
                result.healthy_s = Mark.now().monotonic_s - done.monotonic_s
            except MeshproofError as problem:
                result.unhealthy = str(problem)
            pause(STEADY_S)
            result.end = Mark.now()
        result.late_s = max(load.late_s.values(), default=0.0)
        result.requests = list(load.history)
        for request in result.requests:
            rehearsal.history.add(request)
        return result

    def _prove(self, rehearsal: Rehearsal, result: StepResult, number: int) -> None:
        folder = self.report_dir / f"step-{number + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        topology = named(result.step.governs.topology_of(rehearsal.mesh), rehearsal.mesh.topology, folder)
        with self.drill_runner.narrator.step("   all non-disruptive claims"):
            result.claims = run_suites(self.root, topology, self.lab_name, folder)


def named(topology: Topology, installed: Topology, folder: Path) -> str:
    """The value for `--topology`: its name or file; for another revision, a file that is written here."""
    if topology == installed:
        return called(topology)
    path = folder / f"{topology.name}.yaml"
    path.write_text(as_yaml(topology))
    return str(path)
