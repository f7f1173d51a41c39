"""Whether a client of the application still avoids an endpoint because of an earlier fault."""

from __future__ import annotations

from typing import Final

from meshproof.clients import envoy_admin as envoy
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot

POLL_S: Final = 1.0


def must_have_no_ejections(snapshot: Snapshot) -> None:
    """Return when no client of the application has an endpoint of it that outlier detection has ejected.

    Raises `NotReady` with those that are left after `DEADLINES.ejected_s`, and `Broken` if a client does not answer.
    """
    callers = [(facts.cluster, pod) for facts in snapshot.facts for pod in facts.callers]

    def check() -> None:
        if found := [line for each in together(_ejected, callers) for line in each]:
            raise NotYet("; ".join(found))

    eventually(
        check,
        what="no endpoint of the application is ejected",
        timeout_s=DEADLINES.ejected_s,
        poll_s=POLL_S,
        repair="find out why requests to it fail: an ejection ends by itself (istio.io, OutlierDetection)",
    )


def _ejected(caller: tuple[Cluster, PodFacts]) -> list[str]:
    cluster, pod = caller
    hosts = envoy.ejected_hosts(cluster.kube, pod.namespace, pod.name, names.APP_SERVICE)
    return [f"{cluster} {pod} has ejected {host}" for host in hosts]
