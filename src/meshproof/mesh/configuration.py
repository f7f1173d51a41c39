"""Applies temporary Istio configuration objects for the duration of a probe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from meshproof.clients.kubernetes.client import ApiError, Json
from meshproof.core.concurrency import together
from meshproof.core.errors import ClaimFailed
from meshproof.mesh.handles import Cluster


@contextmanager
def applied(wanted: Iterable[tuple[Cluster, Json]]) -> Iterator[None]:
    """Apply these objects for the duration of the block; removes all of them, even if only some could be applied."""
    everything = list(wanted)
    try:
        together(lambda item: apply_config(*item), everything)
        yield
    finally:
        together(lambda item: removed(*item), everything)


def apply_config(cluster: Cluster, item: Json) -> None:
    """Apply an object of Istio's configuration. Raises `ClaimFailed` if admission denies it, or its webhook does not
    respond."""
    try:
        cluster.kube.apply(item)
    except ApiError as problem:
        if "webhook" not in problem.reason:
            raise
        text = f"{cluster}: configuration cannot be changed, so this claim cannot be tested; see CONTROL-07"
        raise ClaimFailed(f"{text}\n  last seen   {problem.reason}") from None


def removed(cluster: Cluster, item: Json) -> None:
    """Delete an object that may not exist."""
    cluster.kube.delete(item["kind"], item["metadata"]["name"], item["metadata"]["namespace"])
