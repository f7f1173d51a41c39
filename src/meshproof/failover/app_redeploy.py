"""The application redeploy drill: istiod is stopped, the application is deleted and then deployed again."""

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
    """Observations of the drill.

    `refusal` is the condition that Kubernetes reported for the pod that could not be created while istiod was down.
    `ready_s` is the time from istiod's return until that pod was ready (None: not within the bound). `silent` has, by
    target, the sources without a response afterwards; `uneven` the clusters whose traffic shares were wrong.
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
            raise Broken("application redeploy drill", "the application was not removed, so there is nothing to judge")
        return self.remove

    @property
    def without_app(self) -> Window:
        """From the request to delete the application until the request to deploy it again."""
        heal = self.removed.heal
        assert heal is not None
        return Window(begin_s=self.removed.injected.monotonic_s, end_s=heal.monotonic_s)

    @property
    def after_death(self) -> Window:
        """The same, from the moment its pods were gone: requests in flight to them were lost with them."""
        gone = self.removed.gone
        assert gone is not None
        return Window(begin_s=gone.monotonic_s, end_s=self.without_app.end_s)

    def removed_line(self) -> str:
        heal = self.removed.heal
        assert heal is not None
        deleted, deployed = clock(self.removed.injected.wall), clock(heal.wall)
        return f"  fault       {self.removed.what}: deleted {deleted}, deployed again {deployed}"


def perform(drill_runner: DrillRunner, victim: Cluster) -> AppRedeploy:
    """Run the drill under load on both targets from every cluster. Judges nothing; raises `Broken` if it cannot run."""
    mesh = drill_runner.mesh
    name = f"application redeploy drill: istiod of {victim} stopped, its application deleted and deployed again"
    with drill_runner.drill(name, targets=(DEFAULT, RESILIENT)) as drill:
        redeploy = AppRedeploy(victim=victim, drill=drill)
        with stop_istiod(drill_runner.fault_context, victim) as drill.transient_fault:
            with remove_app(drill_runner.fault_context, victim) as redeploy.remove:
                pause(SAMPLES.without_app_s)
            pause(SAMPLES.waiting_s)
            redeploy.pods_during = names_of_pods(victim.kube, names.APP_NAMESPACE, names.APP_SERVICE)
            redeploy.refusal = refusal_of(_status(victim))
        redeploy.ready_s = _ready(victim)
        if redeploy.ready_s is not None:  # else no pod there can respond
            for target in (DEFAULT, RESILIENT):
                redeploy.silent[target.name] = all_answer(mesh, drill.snapshot, target, timeout_s=DEADLINES.recovery_s)
    if redeploy.ready_s is not None:
        redeploy.uneven = uneven(mesh)
    return redeploy


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
