"""Reads one cluster, and records what could not be read instead of omitting it."""

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
    """Reads one cluster; failed reads are collected in `withheld`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kube: Kube = cluster.kube
        self.withheld: list[Withheld] = []

    def may(self, what: str, query: Callable[[], T], otherwise: D) -> T | D:
        """The result of `query`; `otherwise` if it is forbidden or there is no response."""
        try:
            return query()
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
        """All objects of a kind except those of our probes; none if they could not be read, which is recorded."""
        return [thing for thing in self.known(kind, namespace, labels=labels) or [] if not _is_ours(thing)]

    def known(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json] | None:
        """All objects of a kind; None if they could not be read."""
        return self.may(f"{kind} objects", lambda: self.kube.list(kind, namespace, labels=labels), None)


def _is_ours(thing: Json) -> bool:
    """Whether it belongs to a concurrent claim."""
    return names.is_probe_namespace(str(thing["metadata"].get("namespace") or thing["metadata"]["name"]))
