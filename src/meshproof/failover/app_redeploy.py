"""The book's drill, with what each step showed: istiod stopped, the application deleted, and deployed again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.rollout import names_of_pods, refusal_of, status_of
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.errors import Broken, NotReady
from meshproof.core.waiting import NotYet, eventually, pause
from meshproof.failover.drill import Drill, DrillRunner
from meshproof.faults.components import remove_app
from meshproof.faults.istiod import stop_istiod
from meshproof.faults.transient import TransientFault
from meshproof.load.generator import DEFAULT
from meshproof.load.history import Window, clock
from meshproof.mesh.handles import Cluster
from meshproof.traffic.shares import all_answer, uneven
from meshproof.workloads.app import app_deployment_name
from meshproof.workloads.resilient_app import RESILIENT


@dataclass(slots=True, kw_only=True)
class AppRedeploy:
    """What was seen. `refusal` is what Kubernetes said about the pod that was wanted while istiod was down, `ready_s`
    from istiod being back until it was ready (None if not within the bound), `silent` by target who did not answer
    afterwards, `uneven` what samples showed.
    """

    victim: Cluster
    drill: Drill
    remove: TransientFault | None = None
    pods_during: tuple[str, ...] = ()
    refusal: str = ""
    ready_s: float | None = None
    silent: dict[str, list[str]] = field(default_factory=dict)
    uneven: dict[str, list[str]] = field(default_factory=dict)

    @property
    def removed(self) -> TransientFault:
        if self.remove is None or self.remove.heal is None:
            raise Broken("the book's drill", "the application was not removed, so nothing can be said")
        return self.remove

    @property
    def without_app(self) -> Window:
        """From the order to delete the application until the order to make it again."""
        heal = self.removed.heal
        assert heal is not None
        return Window(begin_s=self.removed.told.monotonic_s, end_s=heal.monotonic_s)

    @property
    def after_death(self) -> Window:
        """The same from when its pods were gone: what they had in their hands went with them."""
        gone = self.removed.gone
        assert gone is not None
        return Window(begin_s=gone.monotonic_s, end_s=self.without_app.end_s)

    def removed_line(self) -> str:
        heal = self.removed.heal
        assert heal is not None
        told = clock(self.removed.told.wall)
        return f"  fault       {self.removed.what}: told {told}, deployed again {clock(heal.wall)}"


def perform(drill_runner: DrillRunner, victim: Cluster) -> AppRedeploy:
    """Do it, under load on both targets from every cluster. Judges nothing; raises `Broken` if it cannot be done."""
    mesh = drill_runner.mesh
    name = f"the book's drill: istiod of {victim} stopped, its application deleted and deployed again"
    with drill_runner.drill(name, targets=(DEFAULT, RESILIENT)) as drill:
        book = AppRedeploy(victim=victim, drill=drill)
        with stop_istiod(drill_runner.fault_context, victim) as drill.transient_fault:
            with remove_app(drill_runner.fault_context, victim) as book.remove:
                pause(SAMPLES.without_app_s)
            pause(SAMPLES.waiting_s)
            book.pods_during = names_of_pods(victim.kube, names.APP_NAMESPACE, names.APP_SERVICE)
            book.refusal = refusal_of(_status(victim))
        book.ready_s = _ready(victim)
        if book.ready_s is not None:  # else nobody there can answer
            for target in (DEFAULT, RESILIENT):
                book.silent[target.name] = all_answer(mesh, drill.snapshot, target, timeout_s=DEADLINES.recovery_s)
    if book.ready_s is not None:
        book.uneven = uneven(mesh)
    return book


def _status(cluster: Cluster) -> Json:
    return status_of(cluster.kube, names.APP_NAMESPACE, app_deployment_name(cluster.spec))


def _ready(cluster: Cluster) -> float | None:
    begin = time.monotonic()

    def check() -> None:
        if not _status(cluster).get("readyReplicas"):
            raise NotYet("not ready")

    try:
        eventually(check, what=f"the application of {cluster}", timeout_s=DEADLINES.recovery_s, poll_s=0.2)
    except NotReady:
        return None
    return time.monotonic() - begin
