"""The test bed that all concurrent claims of a mesh share."""

from __future__ import annotations

from contextlib import ExitStack
from contextvars import Context
from functools import partial
from threading import Lock

from meshproof.claims.job import require_config_pushes
from meshproof.clients.kubernetes.rollout import until
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.workloads.testbed.lifecycle import FreshPods, TestBed, fresh_pods


class SharedTestBed:
    """New pods and their test bed: created once, at the latest when a claim first uses it.

    Creating it makes istiod push configuration. A claim cannot know whether its use is the first: it must declare that.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._stack = ExitStack()
        self._lock = Lock()
        self._made: FreshPods | None = None
        self._closed = False

    def start(self) -> FreshPods:
        """Start creating it, unless that was done; returns at once. Raises `Broken` after `close`."""
        with self._lock:
            if self._closed:
                raise Broken("shared test bed", "it is already deleted: all concurrent claims have ended")
            if self._made is None:
                # In a context of its own: it belongs to no claim, not even the first one.
                self._made = Context().run(self._stack.enter_context, fresh_pods(self._mesh))
            return self._made

    def fresh_pods(self) -> FreshPods:
        """A new pod in each cluster, starting in the background."""
        require_config_pushes("uses the fresh pods of the shared test bed")
        return self.start()

    def test_bed(self) -> TestBed:
        """The test bed once it is ready. Raises the reason if it could not be created."""
        require_config_pushes("uses the shared test bed")
        return self.start().test_bed()

    def close(self) -> None:
        """Delete it, if it was created; Kubernetes removes its contents in the background."""
        with self._lock:
            self._closed = True
            self._stack.close()

    def await_removal(self) -> None:
        """Wait until its namespaces are gone (first call only). Raises `NotReady` on timeout."""
        made, self._made = self._made, None
        if made is not None:
            together(partial(_await_removal, made.namespace), self._mesh.clusters)


def _await_removal(namespace: str, cluster: Cluster) -> None:
    until(
        cluster.kube,
        "Namespace",
        namespace,
        None,
        lambda found: True if found is None else None,
        what=f"deletion of namespace {namespace}",
        timeout_s=DEADLINES.test_bed_gone_s,
        repair="see its conditions and finalizers: kubectl get namespace -o yaml",
    )
