"""Reads the versions of a cluster's istiods and of their connected proxies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from meshproof.clients.istio import istiod_debug as istiod_client
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.errors import Broken, NotReady
from meshproof.providers.kubeconfig import hub_and_tag
from meshproof.upgrade.precheck.facts import IstiodFacts, Proxy
from meshproof.upgrade.precheck.reading import TolerantReader

T = TypeVar("T")


def istiods_of(reading: TolerantReader) -> Iterator[IstiodFacts]:
    for deployment in reading.all_of("Deployment", names.SYSTEM_NAMESPACE, labels="app=istiod"):
        labels = deployment["metadata"].get("labels") or {}
        revision = str(labels.get(names.REVISION_LABEL) or names.DEFAULT_REVISION)
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        image = str(container.get("image") or "")
        pods = [pod for pod in _running(reading) if _revision_of(pod) == revision]
        versions = [reading.may(f"version of {pod}", partial(_version, reading, pod), "") for pod in _names(pods)[:1]]
        yield IstiodFacts(
            name=deployment["metadata"]["name"],
            revision=revision,
            version=next(filter(None, versions), "") or hub_and_tag(image)[1],
            image=image,
            env=MappingProxyType({e["name"]: str(e.get("value", "")) for e in container.get("env") or []}),
            compatibility=_compatibility(reading, revision),
        )


def _version(reading: TolerantReader, pod: str) -> str:
    return _query(lambda: istiod_client.version(reading.kube, pod))


def _connected(reading: TolerantReader, pod: str) -> tuple[istiod_client.ProxySync, ...]:
    return _query(lambda: istiod_client.syncz(reading.kube, pod))


def _query(query: Callable[[], T]) -> T:
    """The response of istiod; raises `NotReady` without one, which is recorded and does not end the check."""
    try:
        return query()
    except NotReady:
        raise
    except Broken as problem:
        raise NotReady(problem.what, problem.reason) from None


def _running(reading: TolerantReader) -> list[Json]:
    pods = reading.all_of("Pod", names.SYSTEM_NAMESPACE, labels="app=istiod")
    return [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]


def _names(pods: Iterable[Json]) -> list[str]:
    return [str(pod["metadata"]["name"]) for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def _revision_of(thing: Json) -> str:
    return str((thing["metadata"].get("labels") or {}).get(names.REVISION_LABEL) or names.DEFAULT_REVISION)


def _compatibility(reading: TolerantReader, revision: str) -> str:
    """The release whose behaviour it keeps (compatibilityVersion), from its chart's ConfigMap `values`."""
    name = names.of_revision("values", revision)
    found = reading.may(f"ConfigMap {name}", lambda: reading.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE), None)
    try:
        values = json.loads(((found or {}).get("data") or {}).get("original-values") or "{}")
    except ValueError:
        return ""
    return str(values.get("compatibilityVersion") or "") if isinstance(values, dict) else ""


def proxies_of(reading: TolerantReader) -> Iterator[Proxy]:
    for pod in _names(_running(reading)):
        istiod_version = reading.may(f"version of {pod}", partial(_version, reading, pod), "")
        connected = reading.may(f"proxies of {pod}", partial(_connected, reading, pod), ())
        for proxy in connected:
            yield Proxy(where=f"{proxy.cluster} {proxy.proxy}", version=proxy.version, istiod=istiod_version)
