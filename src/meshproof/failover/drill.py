"""A drill: a fault under load, between two proofs that the mesh is healthy. FAILOVER claims judge it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from meshproof.claims.findings import Findings
from meshproof.core.deadlines import SAMPLES
from meshproof.core.errors import Broken, MeshproofError, NotReady
from meshproof.core.progress import Narrator
from meshproof.core.waiting import pause
from meshproof.failover.attribution import Attribution, attribute
from meshproof.failover.losses import must_have_been_loaded
from meshproof.faults.transient import FaultContext, TransientFault
from meshproof.health.draining import draining_proxies, must_be_drained
from meshproof.health.ejections import must_have_no_ejections
from meshproof.health.mesh import HEALTHY_S, must_be_healthy
from meshproof.load.generator import DEFAULT, EntryPoint, LoadTarget, Source, load_on, sources_of
from meshproof.load.history import History, Mark, Window, bad_spell, clock, summarise
from meshproof.load.pod_generator import PodLoad
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import NAME_AN_INGRESS, Snapshot

STEADY_S = 15.0
"""How long a mesh may take to be healthy before a fault: objects of the previous claim may still be terminating."""
ON_ITS_WAY_S = 0.25
"""Long enough for requests in a healthy mesh to end: 99 of 100 took at most 19 ms."""

LATE_S = 1.0
"""How far the load generator may fall behind schedule: the shortest timeout here (connect timeout of the resilient
settings). In a drill on two cores with a load average of 16 it was at most 0.16 s behind."""


def starved(late_s: float, *, of: str = "") -> str:
    """The doubt about failures if the load was sent this late, `of` a source; empty if it was on time."""
    where = f" for {of}" if of else ""
    return (
        f"the load generator was starved of CPU (behind schedule by {late_s:.1f} s{where})" if late_s > LATE_S else ""
    )


@dataclass(slots=True, kw_only=True)
class Drill:
    """Observations of one drill.

    `transient_fault` is set as soon as the fault is injected. `healed_s` is the time from the start of the undo until
    the mesh was proven healthy; None if it was not, and `unhealed` has the remaining problem. `busy` describes this
    machine's load at the end; `late_s` is, by source, how far the load fell behind schedule at worst. Where the same
    machine runs the clusters, pods without CPU time lose requests that the fault did not cause. `rebuilt`: the mesh was
    reinstalled.
    """

    mesh: Mesh
    snapshot: Snapshot
    history: History
    sources: tuple[Source, ...]
    begin: Mark
    transient_fault: TransientFault | None = None
    end: Mark | None = None
    healed_s: float | None = None
    unhealed: str = ""
    busy: str = ""
    late_s: Mapping[str, float] = field(default_factory=dict)
    rebuilt: bool = False
    drained_s: float = 0.0
    attribution: Attribution = field(default_factory=Attribution)

    @property
    def moments(self) -> TransientFault:
        """Raises `Broken` if the fault was not injected and undone completely."""
        if self.transient_fault is None or self.transient_fault.gone is None or self.transient_fault.heal is None:
            raise Broken("drill", "its fault was not injected and undone completely, so there is nothing to judge")
        return self.transient_fault

    @property
    def steady(self) -> Window:
        """From the first request to the fault, without requests in flight then: they may be lost with it."""
        return Window(begin_s=self.begin.monotonic_s, end_s=self.moments.injected.monotonic_s - ON_ITS_WAY_S)

    @property
    def down(self) -> Window:
        """From the start of the injection until the start of the undo."""
        moments = self.moments
        assert moments.heal is not None
        return Window(begin_s=moments.injected.monotonic_s, end_s=moments.heal.monotonic_s)

    @property
    def recovery(self) -> Window:
        """From the start of the undo until the load ended."""
        moments = self.moments
        assert moments.heal is not None
        return Window(begin_s=moments.heal.monotonic_s, end_s=(self.end or Mark.now()).monotonic_s)

    @property
    def whole(self) -> Window:
        return Window(begin_s=self.begin.monotonic_s, end_s=(self.end or Mark.now()).monotonic_s)

    @property
    def unhealthy(self) -> list[str]:
        """What was still wrong when the mesh should have recovered; empty if it did."""
        return [] if self.healed_s is not None else [f"the mesh did not recover: {self.unhealed}"]

    @property
    def leaves_unhealthy(self) -> bool:
        """Whether the mesh is unfit for another drill."""
        return self.healed_s is None and not self.rebuilt

    def of(
        self,
        *,
        cluster: str | None = None,
        target: LoadTarget | None = None,
        entry_points: Sequence[EntryPoint] = tuple(EntryPoint),
    ) -> tuple[str, ...]:
        """The names of the sources in a cluster, for a target, with these entry points."""
        return tuple(
            str(source)
            for source in self.sources
            if cluster in (None, source.cluster)
            and target in (None, source.target)
            and source.entry_point in entry_points
        )

    def figures(self, sources: Iterable[str] | None = None) -> dict[str, float | int]:
        """Figures for the report; see `meshproof.report.verdict`."""
        chosen = tuple(sources) if sources is not None else self.of()
        moments = self.moments
        assert moments.heal is not None
        whole = Window(begin_s=self.moments.injected.monotonic_s, end_s=self.whole.end_s)
        sent = self.history.sent_in(whole, sources=chosen)
        down = self.history.sent_in(self.down, sources=chosen)
        after = self.history.sent_in(self.recovery, sources=chosen)
        found: dict[str, float | int] = {
            "requests": len(sent),
            "lost": sum(r.is_bad for r in sent),
            "unknown": summarise(sent).unknown,
            "slowest_s": round(summarise(sent).longest_s, 2),
            "detect_s": round(bad_spell(down, moments.injected.monotonic_s), 2),
            "recover_s": round(bad_spell(after, moments.heal.monotonic_s), 2),
        }
        if self.healed_s is not None:
            found["healed_s"] = round(self.healed_s, 1)
        return found | {"late_s": round(max((self.late_s.get(source, 0.0) for source in chosen), default=0.0), 2)}

    def report(self, findings: Findings, *, but: str = "") -> None:
        """Add context to the findings: the fault with its timestamps, what proxies know about lost requests, and doubts
        if the load generator was starved, or an earlier change closed the connections of these requests.

        Ingress gateways without load are reported in any case. Sources in cluster `but` are exempt from the doubt: the
        fault hit that cluster itself.
        """
        findings.note(self._fault_line())
        for line in self.attribution.lines:
            findings.note(line)
        if doubt := self.attribution.doubt(self.moments.injected.wall):
            findings.doubt(doubt)
        findings.skip(self.snapshot.without_ingress, NAME_AN_INGRESS)
        late = {source: late for source, late in self.late_s.items() if not but or not source.startswith(f"{but} ")}
        if late and (doubt := starved(late[last := max(late, key=late.__getitem__)], of=last)):
            findings.doubt(doubt)

    def _fault_line(self) -> str:
        moments = self.moments
        assert moments.gone is not None
        assert moments.heal is not None
        back = clock(moments.back.wall) if moments.back else "never"
        return (
            f"  fault       {moments.what}: injected {clock(moments.injected.wall)}, "
            f"in effect {clock(moments.gone.wall)}, undo began {clock(moments.heal.wall)}, back {back}{self.busy}"
        )


@dataclass(slots=True, kw_only=True)
class DrillRunner:
    """Runs drills, reports their progress, and reinstalls a mesh that does not recover.

    `rebuild` reinstalls the mesh; None where the mesh is not ours. `rebuilt` lists the reasons for each reinstallation.
    """

    fault_context: FaultContext
    narrator: Narrator
    rebuild: Callable[[], None] | None = None
    rebuilt: list[str] = field(default_factory=list)

    @property
    def mesh(self) -> Mesh:
        return self.fault_context.mesh

    @contextmanager
    def drill(
        self,
        what: str,
        *,
        targets: Sequence[LoadTarget] = (DEFAULT,),
        entry_points: Sequence[EntryPoint] = tuple(EntryPoint),
        extra_loads: Sequence[PodLoad] = (),
        healthy_s: float = HEALTHY_S,
    ) -> Iterator[Drill]:
        """A healthy mesh under load; when the block ends, it is proven healthy again, still under load.

        The block injects and undoes the fault, and sets `transient_fault`. `extra_loads` come from the claim's own
        pods; their requests appear in the history only. Raises `Broken` if the mesh is unhealthy before the drill, or
        if proxies keep draining listeners of an earlier change: they would close connections during this drill. A mesh
        that does not recover is reinstalled, which is reported.
        """
        mesh = self.mesh
        try:
            must_be_healthy(mesh, timeout_s=STEADY_S)
        except NotReady as problem:
            raise Broken(f"before {what}", f"the mesh was unhealthy: {problem.reason}", problem.repair) from None
        snapshot, drained_s = self._drained(what)
        try:
            with (
                self.narrator.step(what),
                load_on(mesh, snapshot, targets=targets, entry_points=entry_points, extra_loads=extra_loads) as load,
            ):
                drill = Drill(
                    mesh=mesh,
                    snapshot=snapshot,
                    history=load.history,
                    sources=sources_of(snapshot, targets, entry_points),
                    begin=Mark.now(),
                    drained_s=drained_s,
                )
                pause(SAMPLES.steady_s)
                yield drill
                self._await_healthy(drill, healthy_s)
                pause(SAMPLES.steady_s)
                drill.end = Mark.now()
                drill.busy = f"\n  machine     load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
        except BaseException:
            self._leave_healthy(what)
            raise
        drill.attribution = attribute(mesh, drill.history.lost_in(drill.whole))
        must_have_been_loaded(load, drill.whole)
        drill.late_s = load.late_s
        if drill.unhealed:
            drill.rebuilt = self.rebuild_mesh(f"{what}: {drill.unhealed}")

    def _drained(self, what: str) -> tuple[Snapshot, float]:
        """The mesh once no endpoint is ejected and no proxy drains a listener any more, and the seconds spent waiting
        for the drains."""
        snapshot = Snapshot.take(self.mesh)
        try:
            must_have_no_ejections(snapshot)
            draining = draining_proxies(snapshot)
            if not draining:
                return snapshot, 0.0
            begin = Mark.now()
            with self.narrator.step(f"wait before {what}: proxies that drain old listeners: {len(draining)}"):
                must_be_drained(self.mesh, draining)
        except Broken as problem:
            reason = f"an earlier change may still cost requests: {problem.what}: {problem.reason}"
            raise Broken(f"before {what}", reason, problem.repair) from None
        return Snapshot.take(self.mesh), Mark.now().monotonic_s - begin.monotonic_s

    def _await_healthy(self, drill: Drill, healthy_s: float) -> None:
        heal = drill.moments.heal
        assert heal is not None
        if drill.moments.not_back:
            drill.unhealed = drill.moments.not_back  # it has used up its deadline
            return
        try:
            must_be_healthy(self.mesh, timeout_s=healthy_s)
            drill.healed_s = Mark.now().monotonic_s - heal.monotonic_s
        except NotReady as problem:
            drill.unhealed = problem.reason

    def _leave_healthy(self, what: str) -> None:
        """After an error: the next claim needs a healthy mesh."""
        try:
            must_be_healthy(self.mesh, timeout_s=HEALTHY_S)
        except MeshproofError as problem:
            self.rebuild_mesh(f"{what}: {problem}")

    def rebuild_mesh(self, reason: str) -> bool:
        """Reinstall the mesh and report why. Returns whether that was possible."""
        self.rebuilt.append(reason)
        if self.rebuild is None:
            self.narrator.say(f"the mesh is unhealthy and not managed by meshproof, so it is not reinstalled: {reason}")
            return False
        with self.narrator.step(f"the mesh did not recover and is reinstalled: {reason.splitlines()[0][:200]}"):
            self.rebuild()
        return True
