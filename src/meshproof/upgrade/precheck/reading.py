"""Asking one cluster, request by request; what is withheld is noted instead of left away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json, Kube
from meshproof.core import names
from meshproof.core.errors import NotReady, Unavailable
from meshproof.mesh.handles import Cluster
from meshproof.upgrade.precheck.facts import Withheld

T = TypeVar("T")
D = TypeVar("D")


class TolerantReader:
    """One cluster, request by request; what is withheld is collected."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kube: Kube = cluster.kube
        self.withheld: list[Withheld] = []

    def may(self, what: str, ask: Callable[[], T], otherwise: D) -> T | D:
        """What `ask` returns; `otherwise` where the user may not ask, or gets no answer."""
        try:
            return ask()
        except ApiError as problem:
            if problem.status == 404:
                return otherwise  # the cluster has no such kind
            self._note(what, "forbidden" if problem.status == FORBIDDEN else problem.reason)
        except (Unavailable, NotReady) as problem:
            self._note(what, problem.reason)
        return otherwise

    def _note(self, what: str, reason: str) -> None:
        self.withheld.append(Withheld(where=str(self.cluster), what=what, reason=reason.splitlines()[0][:200]))

    def all_of(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        """All objects of a kind but our own probes'; none where they may not be read, which is noted."""
        return [thing for thing in self.known(kind, namespace, labels=labels) or [] if not _is_ours(thing)]

    def known(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json] | None:
        """All objects of a kind, and None where they may not be read."""
        return self.may(f"{kind} objects", lambda: self.kube.list(kind, namespace, labels=labels), None)


def _is_ours(thing: Json) -> bool:
    """Of a claim that is proven at the same time."""
    return names.is_probe_namespace(str(thing["metadata"].get("namespace") or thing["metadata"]["name"]))
