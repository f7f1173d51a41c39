"""Going through the steps of an upgrade under load, and proving the mesh after each."""

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
from meshproof.load.generator import DEFAULT, Way, load_on
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
"""What is asked for: the application with Istio's default settings, and with those that an operator should use."""
WAYS: Final = (Way.NEW, Way.KEPT)
"""From outside. From inside come the requests of long_lived_clients: clients of the mesh are restarted on the way."""
STEADY_S: Final = 1.0
"""Seconds of load before a step, and after the mesh is healthy."""
HEALTHY_S: Final = 150.0
"""How long a mesh may take to be healthy after a step. An istiod that is replaced, and has connections from another
network, uses its whole grace of 30 s, and then leaves the leases of its remotes to run out: a new namespace there is
not served for up to 75 s."""


@dataclass(slots=True, kw_only=True)
class StepResult:
    """What became of a step: `begin` and `end` bound its load, `done_s` is how long the step itself took, `healthy_s` how
    much longer it took until the mesh was healthy (None: it was not, and `unhealthy` says why). `late_s` is how late a
    request was sent at worst, `claims` what the suites said then (None where they were not run)."""

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
        """With resilient settings: there are no excuses."""
        return [request for request in self.requests if request.is_bad and is_resilient(request)]

    @property
    def lost_by_default(self) -> list[Request]:
        """With Istio's default settings, which do not try again what a proxy that leaves has cut."""
        return [request for request in self.requests if request.is_bad and not is_resilient(request)]

    @property
    def summary(self) -> Summary:
        return summarise(self.requests)

    @property
    def silent(self) -> list[str]:
        """The sources of which no request is known to have ended well."""
        sources = dict.fromkeys(request.source for request in self.requests)
        good = {request.source for request in self.requests if request.is_known and not request.is_bad}
        return [source for source in sources if source not in good]


def is_resilient(request: Request) -> bool:
    """Whether it was made of the application with the settings that an operator should use."""
    return request.source.endswith(f" {RESILIENT.name}")


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """A mesh's way to another release and back. `untaken` are the steps that were given up after trouble."""

    way: str
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
        ends = [stage.end or stage.begin for stage in self.results]
        return Window(begin_s=self.results[0].begin.monotonic_s, end_s=ends[-1].monotonic_s)


@dataclass(slots=True, kw_only=True)
class RehearsalRunner:
    """Takes a mesh through steps. `root` is the checkout, `lab_name` whose mesh it is, `report_dir` of this rehearsal."""

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
        """Take all steps; after one that leaves the mesh unhealthy no other, and the mesh is made anew. `look` is called with
        the name of every state that is arrived at.

        A run that is stopped meanwhile leaves a mesh without markers: the next one takes it for a stranger's, and away.
        """
        shutil.rmtree(self.report_dir, ignore_errors=True)
        remove_markers(rehearsal.mesh)
        try:
            self._take_steps(rehearsal, steps, long_lived_clients, look)
        except MeshproofError as problem:
            self.drill_runner.rebuild_mesh(f"{rehearsal.way}: {problem}")
            raise
        if rehearsal.results[-1].healthy_s is not None and rehearsal.results[-1].step.reaches == RETURNED:
            write_markers(rehearsal.mesh)
        else:
            self.drill_runner.rebuild_mesh(
                f"{rehearsal.way}: {rehearsal.results[-1].unhealthy or 'the mesh did not come back from it'}"
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
            stage = self._take(rehearsal, step, long_lived_clients)
            rehearsal.untaken = steps[number + 1 :]
            if stage.healthy_s is None:
                return
            stage.components = components_of(rehearsal.mesh)
            if step.reaches:
                rehearsal.records[step.reaches] = take_record(step.governs.mesh_of(rehearsal.mesh))
                look(step.reaches)
            if step.proven:
                self._prove(rehearsal, stage, number)

    def _take(self, rehearsal: Rehearsal, step: RehearsalStep, long_lived_clients: LongLivedClients) -> StepResult:
        mesh = step.governs.mesh_of(rehearsal.mesh)
        if step.before is not None:
            step.before()
        stage = StepResult(step=step, begin=Mark.now())
        rehearsal.results.append(stage)
        with (
            self.drill_runner.narrator.step(f"{len(rehearsal.results)}. {step.name}"),
            load_on(
                mesh, Snapshot.take(mesh), targets=TARGETS, ways=WAYS, extra_loads=long_lived_clients.loads(TARGETS)
            ) as load,
        ):
            stage.begin = Mark.now()
            pause(STEADY_S)
            start = Mark.now()
            try:
                step.do()
                done = Mark.now()
                stage.done_s = done.monotonic_s - start.monotonic_s
                # Claims make new namespaces; a leader that is still to come for them is waited for only then.
                must_be_healthy(mesh, timeout_s=HEALTHY_S, leaders=step.proven)
                stage.healthy_s = Mark.now().monotonic_s - done.monotonic_s
            except MeshproofError as problem:
                stage.unhealthy = str(problem)
            pause(STEADY_S)
            stage.end = Mark.now()
        stage.late_s = max(load.late_s.values(), default=0.0)
        stage.requests = list(load.history)
        for request in stage.requests:
            rehearsal.history.add(request)
        return stage

    def _prove(self, rehearsal: Rehearsal, stage: StepResult, number: int) -> None:
        folder = self.report_dir / f"step-{number + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        topology = named(stage.step.governs.topology_of(rehearsal.mesh), rehearsal.mesh.topology, folder)
        with self.drill_runner.narrator.step("   all claims that break nothing"):
            stage.claims = run_suites(self.root, topology, self.lab_name, folder)


def named(topology: Topology, installed: Topology, folder: Path) -> str:
    """What `--topology` calls it: its name or file, or where it has another revision a file that is written here."""
    if topology == installed:
        return called(topology)
    path = folder / f"{topology.name}.yaml"
    path.write_text(as_yaml(topology))
    return str(path)
