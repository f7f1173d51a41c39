"""A fault under load, from a mesh proven healthy to a mesh proven healthy again: what FAILOVER claims judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS, SAMPLES
from meshproof.core.errors import Broken, MeshproofError, NotReady
from meshproof.core.progress import Narrator
from meshproof.core.waiting import pause
from meshproof.faults.transient import FaultContext, TransientFault
from meshproof.health.draining import draining_proxies, must_be_drained
from meshproof.health.mesh import HEALTHY_S, must_be_healthy
from meshproof.load.generator import DEFAULT, Load, LoadTarget, Source, Way, load_on, sources_of
from meshproof.load.history import History, Mark, Request, Window, bad_spell, clock, summarise
from meshproof.load.pod_generator import PodLoad
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import NAME_AN_INGRESS, Snapshot

STEADY_S = 15.0
"""How long a mesh may take to be healthy before a fault: the last claim's objects may just be leaving."""
ON_ITS_WAY_S = 0.25
"""Long enough for every request of a mesh that is healthy to end: 99 of 100 were seen to take 19 ms at most."""

LATE_S = 1.0
"""How late a request may be sent: as long as the shortest time limit that anything here has (the connect timeout of the
resilient settings). In a drill on two cores with a load average of 16 it was 0.16 s at worst."""


def starved(late_s: float, *, of: str = "") -> str:
    """The doubt about failures under a load that was sent so late, `of` a source; empty if it was on time."""
    where = f" for {of}" if of else ""
    return (
        f"the load generator was starved of CPU (behind schedule by {late_s:.1f} s{where})" if late_s > LATE_S else ""
    )


@dataclass(slots=True, kw_only=True)
class Drill:
    """What was seen. `transient_fault` is set as soon as the fault is injected; `healed_s` is from the order to heal until the
    mesh was proven healthy, None if it was not: then `unhealed` says what was wrong still. `busy` is how busy this machine
    was at its end, `late_s` by source how late a request was sent at worst: where it runs the clusters as well, pods
    without CPU time lose requests that no fault has cost. `rebuilt` says that the mesh was made anew after it."""

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

    @property
    def moments(self) -> TransientFault:
        """Raises `Broken` if the fault did not come to its end."""
        if self.transient_fault is None or self.transient_fault.gone is None or self.transient_fault.heal is None:
            raise Broken("the drill", "its fault did not come to its end, so nothing can be said")
        return self.transient_fault

    @property
    def steady(self) -> Window:
        """From the first request to those that were on their way when the fault came: they may be lost with it."""
        return Window(begin_s=self.begin.monotonic_s, end_s=self.moments.told.monotonic_s - ON_ITS_WAY_S)

    @property
    def down(self) -> Window:
        """From the order to break until the order to heal."""
        moments = self.moments
        assert moments.heal is not None
        return Window(begin_s=moments.told.monotonic_s, end_s=moments.heal.monotonic_s)

    @property
    def recovery(self) -> Window:
        """From the order to heal until the load ended."""
        moments = self.moments
        assert moments.heal is not None
        return Window(begin_s=moments.heal.monotonic_s, end_s=(self.end or Mark.now()).monotonic_s)

    @property
    def whole(self) -> Window:
        return Window(begin_s=self.begin.monotonic_s, end_s=(self.end or Mark.now()).monotonic_s)

    @property
    def ill(self) -> list[str]:
        """What was still wrong when the mesh should have been healthy again; empty if it was."""
        return [] if self.healed_s is not None else [f"it did not get healthy: {self.unhealed}"]

    @property
    def leaves_unhealthy(self) -> bool:
        """Whether a next drill on the same mesh would be void."""
        return self.healed_s is None and not self.rebuilt

    def of(
        self, *, cluster: str | None = None, target: LoadTarget | None = None, ways: Sequence[Way] = tuple(Way)
    ) -> tuple[str, ...]:
        """The names of the sources in a cluster, for a target, of these ways."""
        return tuple(
            str(source)
            for source in self.sources
            if cluster in (None, source.cluster) and target in (None, source.target) and source.way in ways
        )

    def figures(self, sources: Iterable[str] | None = None) -> dict[str, float | int]:
        """What a report says in numbers; see `meshproof.report.verdict`."""
        chosen = tuple(sources) if sources is not None else self.of()
        moments = self.moments
        assert moments.heal is not None
        whole = Window(begin_s=self.moments.told.monotonic_s, end_s=self.whole.end_s)
        sent = self.history.sent_in(whole, sources=chosen)
        down = self.history.sent_in(self.down, sources=chosen)
        after = self.history.sent_in(self.recovery, sources=chosen)
        found: dict[str, float | int] = {
            "requests": len(sent),
            "lost": sum(r.is_bad for r in sent),
            "unknown": summarise(sent).unknown,
            "slowest_s": round(summarise(sent).longest_s, 2),
            "detect_s": round(bad_spell(down, moments.told.monotonic_s), 2),
            "recover_s": round(bad_spell(after, moments.heal.monotonic_s), 2),
        }
        if self.healed_s is not None:
            found["healed_s"] = round(self.healed_s, 1)
        return found | {"late_s": round(max((self.late_s.get(source, 0.0) for source in chosen), default=0.0), 2)}

    def tell(self, findings: Findings, *, but: str = "") -> None:
        """What is to be told beside a failure: what was broken, and when; and whether the machine was to blame. Ingress
        gateways that no load went through are reported in any case.

        Sources of the cluster `but` are late since it was struck itself.
        """
        findings.note(self._fault_line())
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
            f"  fault       {moments.what}: told {clock(moments.told.wall)}, done {clock(moments.gone.wall)}, told to "
            f"heal {clock(moments.heal.wall)}, back {back}{self.busy}"
        )


@dataclass(slots=True, kw_only=True)
class DrillRunner:
    """Where drills happen: the fault_context, who tells of them, and what is done with a mesh that does not heal.

    `rebuild` makes the mesh anew; None where it is not ours. `rebuilt` has the reason of each time.
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
        ways: Sequence[Way] = tuple(Way),
        beside: Sequence[PodLoad] = (),
        healthy_s: float = HEALTHY_S,
    ) -> Iterator[Drill]:
        """A mesh that is healthy and under load; proven healthy again when the block ends, under load still.

        The block inflicts and heals the fault, and sets `transient_fault`. `beside` are loads from pods of the claim's own,
        which come into the history only. Raises `Broken` if the mesh is not healthy before it: then the run is void and
        says nothing about the claim. So it is where proxies do not stop draining listeners of an earlier change, whose
        connections they would close in the middle of this drill. A mesh that does not heal is rebuilt, and that is
        told.
        """
        mesh = self.mesh
        try:
            must_be_healthy(mesh, timeout_s=STEADY_S)
        except NotReady as problem:
            raise Broken(f"before {what}", f"the mesh was not healthy: {problem.reason}", problem.repair) from None
        snapshot, drained_s = self._drained(what)
        try:
            with self.narrator.step(what), load_on(mesh, snapshot, targets=targets, ways=ways, beside=beside) as load:
                drill = Drill(
                    mesh=mesh,
                    snapshot=snapshot,
                    history=load.history,
                    sources=sources_of(snapshot, targets, ways),
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
        must_have_been_loaded(load, drill.whole)
        drill.late_s = load.late_s
        if drill.unhealed:
            drill.rebuilt = self.make_anew(f"{what}: {drill.unhealed}")

    def _drained(self, what: str) -> tuple[Snapshot, float]:
        """The mesh when no proxy drains a listener any more, and for how many seconds that was waited for."""
        snapshot = Snapshot.take(self.mesh)
        try:
            draining = draining_proxies(snapshot)
            if not draining:
                return snapshot, 0.0
            begin = Mark.now()
            with self.narrator.step(f"wait before {what}: proxies that drain old listeners: {len(draining)}"):
                must_be_drained(self.mesh, draining)
        except Broken as problem:
            reason = f"connections may be closed by an earlier change: {problem.what}: {problem.reason}"
            raise Broken(f"before {what}", reason, problem.repair) from None
        return Snapshot.take(self.mesh), Mark.now().monotonic_s - begin.monotonic_s

    def _await_healthy(self, drill: Drill, healthy_s: float) -> None:
        heal = drill.moments.heal
        assert heal is not None
        if drill.moments.not_back:
            drill.unhealed = drill.moments.not_back  # it had its time
            return
        try:
            must_be_healthy(self.mesh, timeout_s=healthy_s)
            drill.healed_s = Mark.now().monotonic_s - heal.monotonic_s
        except NotReady as problem:
            drill.unhealed = problem.reason

    def _leave_healthy(self, what: str) -> None:
        """After trouble: the next claim must find a mesh that is healthy."""
        try:
            must_be_healthy(self.mesh, timeout_s=HEALTHY_S)
        except MeshproofError as problem:
            self.make_anew(f"{what}: {problem}")

    def make_anew(self, reason: str) -> bool:
        """Make the mesh anew, and tell why. Whether it could be done."""
        self.rebuilt.append(reason)
        if self.rebuild is None:
            self.narrator.say(f"the mesh is not healthy, and not ours to rebuild: {reason}")
            return False
        with self.narrator.step(f"the mesh did not heal and is made anew: {reason.splitlines()[0][:200]}"):
            self.rebuild()
        return True


def must_have_been_loaded(load: Load, window: Window) -> None:
    """A load that was not sent proves nothing: raises `Broken`."""
    for source in load.sources:
        sent = len(load.history.sent_in(window, sources=(source,)))
        planned = window.seconds * load.rate
        if sent < planned * 0.8:
            raise Broken(
                f"the load on {source}", f"{sent} requests sent of about {planned:.0f}", "is the machine too busy?"
            )


def lost(history: History, window: Window, sources: Sequence[str], *, but: Window | None = None) -> list[str]:
    """The lost requests of a window, with the first of them; also if nothing is known of any request.

    Those of the window `but` may be lost, and are left out.
    """
    sent = history.sent_in(window, sources=sources)
    known = [request for request in sent if request.is_known]
    if but is not None:
        known = [r for r in known if not (r.is_bad and but.begin_s <= r.sent_s <= but.end_s)]
    if not known:
        return ["no request was sent, or nothing is known of any"]
    gone = [request for request in known if request.is_bad]
    return [f"{len(gone)} of {len(known)} requests lost; first {gone[0]}; {summarise(sent)}"] if gone else []


def felt(requests: Sequence[Request], since_s: float, bound_s: float) -> list[str]:
    """What is wrong if a fault was felt for longer than `bound_s` seconds: the last request that was lost or slow."""
    if not any(request.is_known for request in requests):
        return ["no request was sent, or nothing is known of any"]
    spell = bad_spell(requests, since_s, slow_s=BOUNDS.answer.seconds)
    if spell <= bound_s:
        return []
    last = next(r for r in requests if r.sent_s - since_s >= spell - 1e-6)
    return [f"requests were lost or slow for {spell:.1f} s, bound {bound_s:g} s; last {last}"]


def must_have_been_healthy(drill: Drill, sources: Sequence[str]) -> None:
    """The control: without it a lost request says nothing about the fault. Raises `Broken`."""
    if problems := lost(drill.history, drill.steady, sources):
        raise Broken("the load", f"it was not healthy before the fault: {problems[0]}", "see TRAFFIC-01 and TRAFFIC-02")
