"""Parts of a record from the configuration dump of one proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.istio.config_dump import camel, things
from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import Broken
from meshproof.core.names import mentions_probes
from meshproof.discovery.probe_filter import without_probes
from meshproof.upgrade.baseline.certificates import secret
from meshproof.upgrade.baseline.model import PROXY, VERSION, Content, Key
from meshproof.upgrade.baseline.normalise import canonical, endpoints, normal
from meshproof.upgrade.baseline.workload_identity import Directory, WorkloadPod


def proxy_parts(member: WorkloadPod, directory: Directory) -> dict[Key, Content]:
    """Read everything from the proxy in one request."""
    pod = member.pod
    dump = envoy.admin(member.cluster.kube, pod.namespace, pod.name, "/config_dump?include_eds")
    return parse_parts(dump, member, directory)


def parse_parts(dump: str, member: WorkloadPod, directory: Directory) -> dict[Key, Content]:
    """Parse `/config_dump?include_eds`. Parts that differ only in a pod's address become one."""
    try:
        dumped = camel(json.loads(dump))["configs"]
    except (ValueError, KeyError, TypeError):
        raise Broken(
            f"config dump of {member.pod} on {member.cluster}", f"it cannot be read: {dump[:200]!r}", "is it Envoy's?"
        ) from None
    found: dict[Key, dict[str, Content]] = {}
    theirs = _of_probes(dumped)
    parts = [each for part in dumped for each in _parts(part, directory, theirs)]
    used, learned = _routes_in_use(parts), _learned_by_envoy(parts)
    for kind, name, content in parts:
        named = directory.named(name)
        unused = kind == "route" and named not in used
        if not mentions_probes(named) and not unused and not (kind == "endpoints" and name in learned):
            key = Key(cluster=str(member.cluster), workload=member.workload, kind=kind, name=named)
            text = canonical(content)
            found.setdefault(key, {})[text] = directory.shared(content, text)
    return {key: _one(alike) for key, alike in found.items()}


def _of_probes(dumped: Sequence[Json]) -> frozenset[str]:
    """Kind and name of parts that exist only for our probes, including listeners on their ports."""
    present = {f"{kind} {thing['name']}": thing for part in dumped for kind, thing in things(part)}
    return frozenset(present.keys() - without_probes(present).keys())


def _routes_in_use(parts: Sequence[tuple[str, str, Content]]) -> set[str]:
    """Routes that a listener refers to. Envoy keeps others while a removed listener still has connections."""
    return {found for kind, _, content in parts if kind == "listener" for found in _route_names(content)}


def _route_names(value: Content) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(name := value.get("routeConfigName"), str):
            yield name
        for each in value.values():
            yield from _route_names(each)
    elif isinstance(value, list):
        for each in value:
            yield from _route_names(each)


def _learned_by_envoy(parts: Sequence[tuple[str, str, Content]]) -> set[str]:
    """Clusters whose endpoints are recent destinations (ORIGINAL_DST) or the addresses of a name (DNS)."""
    clusters = [(name, content) for kind, name, content in parts if kind == "cluster" and isinstance(content, dict)]
    return {name for name, content in clusters if content.get("type") != "EDS"}


def _one(alike: dict[str, Content]) -> Content:
    contents = [content for _, content in sorted(alike.items())]
    return contents[0] if len(contents) == 1 else contents


def _parts(part: Json, directory: Directory, theirs: frozenset[str]) -> Iterator[tuple[str, str, Content]]:
    for kind, thing in things(part):
        if f"{kind} {thing['name']}" not in theirs:
            yield kind, str(thing["name"]), normal(_shown(thing), directory.named)
    match str(part.get("@type")).rpartition(".")[2]:
        case "BootstrapConfigDump":
            yield VERSION, PROXY, _versions((part.get("bootstrap") or {}).get("node") or {})
        case "EndpointsConfigDump":
            for each in part.get("dynamicEndpointConfigs") or []:
                assignment = each["endpointConfig"]
                yield "endpoints", str(assignment.get("clusterName")), endpoints(assignment, directory.named)
        case "SecretsConfigDump":
            for each in part.get("dynamicActiveSecrets") or []:
                yield "secret", str(each["name"]), secret(each.get("secret") or {})
        case "EcdsConfigDump":
            for each in part.get("ecdsFilters") or []:
                content = each["ecdsFilter"]
                yield "extension", str(content.get("name")), normal(content, directory.named)


def _shown(thing: Json) -> Json:
    """The reason for a listener that the proxy rejects; the dump has no rejected content."""
    state = thing.get("errorState")
    return thing if state is None else {"name": thing["name"], "refused": state.get("details")}


def _versions(node: Json) -> Content:
    """Versions of Istio (from the agent's metadata) and of Envoy (from the user agent)."""
    user_agent: dict[str, Any] = (node.get("userAgentBuildVersion") or {}).get("version") or {}
    numbers = [str(user_agent.get(key, 0)) for key in ("majorNumber", "minorNumber", "patch")]
    meta = node.get("metadata") or {}
    version = meta.get("ISTIO_VERSION") or ""
    return {"istio": version, "envoy": ".".join(numbers) if user_agent else ""}
