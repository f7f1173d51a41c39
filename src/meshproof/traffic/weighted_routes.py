"""Whether proxies have weighted routes as configured."""

from __future__ import annotations

from meshproof.clients.envoy_admin import endpoints_of, weights_of_route
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.workloads.testbed.configuration import weights
from meshproof.workloads.testbed.lifecycle import TestBed


def must_have_weights(test_bed: TestBed, cluster: Cluster, pod: PodFacts, route: str, host: str) -> None:
    """Wait until a proxy has the configured weights, and endpoints for each of them.

    Route, subsets and endpoints come in separate pushes: a route to a subset that has no endpoint yet is a 503.
    """

    def check() -> None:
        found = weights_of_route(cluster.kube, pod.namespace, pod.name, route, host)
        seen = {name.split("|")[2]: weight for name, weight in found.items()}
        if seen != weights(test_bed.mesh):
            raise NotYet(f"weights are {seen or 'none'}, expected {weights(test_bed.mesh)}")
        for target in found:
            if not endpoints_of(cluster.kube, pod.namespace, pod.name, target):
                raise NotYet(f"{target} has no endpoint")

    what = f"{cluster} {pod} has the weighted route"
    eventually(check, what=what, timeout_s=DEADLINES.configuration_s, error=ClaimFailed)
