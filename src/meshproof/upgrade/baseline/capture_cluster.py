"""Parts of a record from API servers and istiods: versions, webhooks, mesh configuration, gateways."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final

import yaml

from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.kubernetes.client import Json, path_of
from meshproof.controlplane.versions import served_crds
from meshproof.core import names
from meshproof.install.removal import WEBHOOKS
from meshproof.mesh.objects import service_facts
from meshproof.upgrade.baseline.certificates import trusted
from meshproof.upgrade.baseline.model import ISTIOD, KUBERNETES, VERSION, Content, Key
from meshproof.upgrade.baseline.normalise import normal
from meshproof.upgrade.baseline.workload_identity import Directory, Raw, WorkloadPod

ISTIOS: Final = ".istio.io"
"""Suffix of the names of Istio's webhooks and CRDs."""


def cluster_parts(raw: Raw, istiods: list[WorkloadPod], directory: Directory) -> dict[Key, Content]:
    """All parts that are not from proxies."""
    kube = raw.cluster.kube
    found: list[tuple[str, str, Content]] = [(VERSION, KUBERNETES, kube.get("/version")["gitVersion"])]
    for kind in WEBHOOKS:
        found += [("webhook", name, content) for name, content in webhooks(kube.list(kind), directory)]
    for config in kube.get(path_of("ConfigMap", names.SYSTEM_NAMESPACE))["items"]:
        found += mesh_settings(config, directory)
    for service in raw.services:
        found += gateways(service)
    for name, versions in served_crds(kube.list("CustomResourceDefinition")).items():
        found.append(("crd", name, sorted(versions)))
    cluster = str(raw.cluster)
    parts = {Key(cluster=cluster, workload="", kind=kind, name=name): content for kind, name, content in found}
    for member in istiods:
        key = Key(cluster=cluster, workload=member.workload, kind=VERSION, name=ISTIOD)
        parts[key] = {"istio": istiod.version(kube, member.pod.name)}
    return parts


def webhooks(configurations: list[Json], directory: Directory) -> Iterator[tuple[str, Content]]:
    """Istio's webhooks (by the suffix of their names), by configuration and name."""
    for configuration in configurations:
        labels = configuration["metadata"].get("labels") or {}
        for hook in configuration.get("webhooks") or []:
            if not str(hook.get("name", "")).endswith(ISTIOS):
                continue
            content = {key: value for key, value in hook.items() if key not in ("name", "clientConfig")}
            target = dict(hook.get("clientConfig") or {})
            bundle = _decoded(target.pop("caBundle", "") or "")
            content |= {"target": target, "trusted": trusted(bundle) if bundle else "nobody"}
            content |= {"revision": labels.get(names.REVISION_LABEL, ""), "tag": labels.get(names.TAG_LABEL, "")}
            yield f"{configuration['metadata']['name']} {hook['name']}", normal(content, directory.named)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b"?"


def mesh_settings(config: Json, directory: Directory) -> Iterator[tuple[str, str, Content]]:
    """The mesh configuration, if this ConfigMap contains one."""
    text = (config.get("data") or {}).get("mesh")
    if text is None:
        return
    try:
        parsed: Any = yaml.load(text, Loader=yaml.CSafeLoader) if hasattr(yaml, "CSafeLoader") else yaml.safe_load(text)
    except yaml.YAMLError:
        parsed = text
    yield "mesh configuration", config["metadata"]["name"], normal(parsed, directory.named)


def gateways(service: Json) -> Iterator[tuple[str, str, Content]]:
    """Addresses and ports of a Service, if it exposes a gateway."""
    facts = service_facts(service)
    if facts.leads_in and not names.is_probe_namespace(facts.namespace):
        ports = [f"{port.name} {port.number}" for port in facts.ports]
        yield "gateway", str(facts), {"addresses": sorted(facts.addresses), "ports": sorted(ports)}
