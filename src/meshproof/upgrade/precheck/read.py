"""Reads a mesh for an upgrade check: changes nothing, and records what could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from meshproof.clients.istio.istioctl import READER_ACCOUNT
from meshproof.clients.istio.release_notes import BUNDLES, GONE_ANNOTATIONS, MIRRORS, OUTLIERS
from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Unavailable
from meshproof.discovery.remote_secrets import RemoteSecret, remote_secrets
from meshproof.mesh.ca_files import CaFiles, ca_of
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import live_services
from meshproof.pki.verify import parse_chain, subject
from meshproof.upgrade.precheck.facts import (
    ClusterSeen,
    Crd,
    ExpiringCredential,
    Facts,
    Hook,
    InjectedPod,
    Namespace,
    Patch,
    Proxy,
    ReaderAccount,
    Withheld,
)
from meshproof.upgrade.precheck.read_istiods import istiods_of, proxies_of
from meshproof.upgrade.precheck.reader_role import account_of, reader_of
from meshproof.upgrade.precheck.reading import TolerantReader

_BUNDLE: Final = "gateway.networking.k8s.io/bundle-version"
_GATEWAY_API: Final = ".gateway.networking.k8s.io"
_VALIDATING: Final = "ValidatingWebhookConfiguration"
_MUTATING: Final = "MutatingWebhookConfiguration"
EXTENSIONS: Final = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"})
"""Kinds of patches whose value is an Envoy extension, with a name and a typed configuration."""
_INSERTS: Final = frozenset({"INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "ADD", "REPLACE"})
_OLD: Final = ("type.googleapis.com/envoy.api.v2.", "type.googleapis.com/envoy.config.filter.")
"""Type prefixes of Envoy's API v2, which was removed; types of v3 are named `envoy.extensions.…v3` and similar."""


def read_facts(mesh: Mesh, now: datetime) -> Facts:
    """Read all clusters concurrently. Raises `NotReady` if an API server does not respond."""
    accounts = reader_accounts(mesh)
    read = together(lambda cluster: _cluster(cluster, mesh, accounts[cluster.name]), mesh.clusters)
    return Facts(
        now=now,
        clusters=tuple(seen for seen, _, _ in read),
        proxies=tuple(proxy for _, proxies, _ in read for proxy in proxies),
        withheld=tuple(each for _, _, withheld in read for each in withheld),
    )


def _readers(mesh: Mesh, cluster: Cluster) -> tuple[str, ...]:
    return tuple(str(primary) for primary in mesh.primaries if primary is not cluster)


def _cluster(cluster: Cluster, mesh: Mesh, account: str) -> tuple[ClusterSeen, tuple[Proxy, ...], tuple[Withheld, ...]]:
    reading = TolerantReader(cluster)
    kube = cluster.kube
    kubernetes = str(kube.get("/version")["gitVersion"])  # an API server that does not respond ends the check
    services = reading.known("Service", names.SYSTEM_NAMESPACE)
    slices = reading.known("EndpointSlice", names.SYSTEM_NAMESPACE)
    injecting, validating = reading.known(_MUTATING), reading.known(_VALIDATING)
    hooks = [*((_MUTATING, each) for each in injecting or ()), *((_VALIDATING, each) for each in validating or ())]
    services_known = services is not None and slices is not None
    pods = reading.all_of("Pod")
    primary = cluster.is_primary  # istiods read configuration in primaries only
    seen = ClusterSeen(
        name=str(cluster),
        is_primary=primary,
        readers=_readers(mesh, cluster),
        kubernetes=kubernetes,
        istiods=tuple(istiods_of(reading)) if primary else (),
        crds=tuple(_crds(reading)),
        hooks=tuple(_hook(kind, found, services_known=services_known) for kind, found in hooks if _is_istios(found)),
        services=frozenset(_full_name(service) for service in services or ()),
        alive=_alive(services or (), slices or ()),
        namespaces=tuple(_namespaces(reading.all_of("Namespace"))) if injecting is not None else (),
        members=tuple(_members(pods)) if injecting is not None else (),
        patches=tuple(p for found in reading.all_of("EnvoyFilter") for p in patches_of(found)) if primary else (),
        configured=MappingProxyType(_configured(reading) if primary else {}),
        annotated=MappingProxyType(_annotated(pods)),
        reader=reader_in(reading, account) if _readers(mesh, cluster) else None,
        expiring=tuple(expiring_in(reading)),
    )
    return seen, tuple(proxies_of(reading)) if primary else (), tuple(reading.withheld)


# -- objects ----------------------------------------------------------------------------------------------------------


def _crds(reading: TolerantReader) -> Iterator[Crd]:
    least = {each.crd for each in BUNDLES}
    for found in reading.all_of("CustomResourceDefinition"):
        name = str(found["metadata"]["name"])
        if not name.endswith((".istio.io", _GATEWAY_API)):
            continue
        served = [version["name"] for version in found["spec"]["versions"] if version.get("served")]
        yield Crd(
            name=name,
            served=frozenset(served),
            stored=frozenset((found.get("status") or {}).get("storedVersions") or ()),
            bundle=(found["metadata"].get("annotations") or {}).get(_BUNDLE, ""),
            in_use=_in_use(reading, name, served[0]) if name in least and served else None,
        )


def _in_use(reading: TolerantReader, crd: str, version: str) -> bool | None:
    plural, _, group = crd.partition(".")
    path = f"/apis/{group}/{version}/{plural}"
    return reading.may(f"{plural} objects", lambda: bool(reading.kube.get(path, limit="1")["items"]), None)


def _is_istios(hook: Json) -> bool:
    labels = hook["metadata"].get("labels") or {}
    return names.REVISION_LABEL in labels or labels.get("app") in ("sidecar-injector", "istiod")


def _hook(kind: str, found: Json, *, services_known: bool) -> Hook:
    """The facts of a webhook; without its Services if their state is unknown."""
    labels = found["metadata"].get("labels") or {}
    targets = [(hook.get("clientConfig") or {}).get("service") for hook in found.get("webhooks") or []]
    return Hook(
        name=found["metadata"]["name"],
        revision=str(labels.get(names.REVISION_LABEL) or names.DEFAULT_REVISION),
        tag=str(labels.get(names.TAG_LABEL) or ""),
        services=tuple(dict.fromkeys(f"{t['namespace']}/{t['name']}" for t in targets if t and services_known)),
        injects=kind == _MUTATING,
    )


def _full_name(thing: Json) -> str:
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"


def _alive(services: Iterable[Json], slices: Iterable[Json]) -> frozenset[str]:
    """Services with a ready endpoint, or with an external name, whose state is unknown here."""
    elsewhere = {_full_name(service) for service in services if (service.get("spec") or {}).get("externalName")}
    return live_services(slices) | elsewhere


def _namespaces(found: Iterable[Json]) -> Iterator[Namespace]:
    for each in found:
        revision = (each["metadata"].get("labels") or {}).get(names.REVISION_LABEL)
        if revision:
            yield Namespace(name=each["metadata"]["name"], revision=str(revision))


def _members(pods: Iterable[Json]) -> Iterator[InjectedPod]:
    for pod in pods:
        meta = pod["metadata"]
        wants = (meta.get("labels") or {}).get(names.REVISION_LABEL, "")
        has = (meta.get("annotations") or {}).get(names.REVISION_LABEL, "")
        if (wants or has) and not names.is_probe_namespace(meta["namespace"]):
            yield InjectedPod(name=_full_name(pod), wants=str(wants), has=str(has))


def _configured(reading: TolerantReader) -> dict[str, tuple[str, ...]]:
    """Objects that are affected by changed defaults, by the feature that they use."""
    rules = [rule for rule in reading.all_of("DestinationRule") if _has_unlimited_outliers(rule["spec"])]
    routes = [
        service
        for service in reading.all_of("VirtualService")
        if any(route.get("mirror") or route.get("mirrors") for route in service["spec"].get("http") or [])
    ]
    return {
        OUTLIERS: tuple(f"DestinationRule {_full_name(rule)}" for rule in rules),
        MIRRORS: tuple(f"VirtualService {_full_name(service)}" for service in routes),
    }


def _has_unlimited_outliers(spec: Json) -> bool:
    """Whether an outlierDetection has no `minHealthPercent`, so that a changed default of 1.31 affects it."""
    policies = [spec.get("trafficPolicy") or {}, *(s.get("trafficPolicy") or {} for s in spec.get("subsets") or [])]
    policies += [port for policy in policies for port in policy.get("portLevelSettings") or []]
    found = [policy["outlierDetection"] for policy in policies if policy.get("outlierDetection") is not None]
    return any(not detection.get("minHealthPercent") for detection in found)


def _annotated(pods: Iterable[Json]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for pod in pods:
        for annotation in {each.name for each in GONE_ANNOTATIONS} & (pod["metadata"].get("annotations") or {}).keys():
            found.setdefault(annotation, []).append(_full_name(pod))
    return {annotation: tuple(names_) for annotation, names_ in found.items()}


# -- EnvoyFilters, reduced to what an upgrade of proxies may break ----------------------------------------------------


def patches_of(found: Json) -> Iterator[Patch]:
    """The patches of one EnvoyFilter."""
    name = f"{found['metadata']['namespace']}/{found['metadata']['name']}"
    for patch in (found.get("spec") or {}).get("configPatches") or []:
        kind = str(patch.get("applyTo") or "")
        change = patch.get("patch") or {}
        value = change.get("value") or {}
        inserted = kind in EXTENSIONS and change.get("operation") in _INSERTS
        yield Patch(
            filter=name,
            kind=kind,
            version=str(((patch.get("match") or {}).get("proxy") or {}).get("proxyVersion") or ""),
            untyped=tuple(_untyped(value)) if inserted else (),
            old_types=tuple(dict.fromkeys(_old_types(value))),
        )


def _untyped(value: Json) -> Iterator[str]:
    """The extension, if it has neither a typed configuration nor config discovery."""
    if not {"typed_config", "typedConfig", "config_discovery", "configDiscovery"} & value.keys():
        yield str(value.get("name") or "an unnamed extension")


def _old_types(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        url = value.get("@type")
        if isinstance(url, str) and url.startswith(_OLD) and ".v3." not in url:
            yield url
        for each in value.values():
            yield from _old_types(each)
    elif isinstance(value, list):
        for each in value:
            yield from _old_types(each)


# -- accounts of readers, their rights, and credentials that expire ---------------------------------------------------


def reader_accounts(mesh: Mesh) -> dict[str, str]:
    """By cluster, the account of its token in remote secrets; the default account if that cannot be read."""
    default = f"{names.SYSTEM_NAMESPACE}:{READER_ACCOUNT}"
    found: dict[str, str] = {}
    for secret in (secret for primary in mesh.primaries for secret in _secrets_or_none(primary.kube)):
        found.setdefault(secret.cluster, account_of(secret.token) or default)
    return {str(c.name): found.get(str(c.name), default) for c in mesh.clusters}


def _secrets_or_none(kube: Kube) -> tuple[RemoteSecret, ...]:
    try:
        return remote_secrets(kube)
    except Unavailable:
        return ()


def reader_in(reading: TolerantReader, account: str) -> ReaderAccount | None:
    """The rights of the account in one cluster; None if they cannot be read."""
    bindings, roles = reading.known("ClusterRoleBinding"), reading.known("ClusterRole")
    return None if bindings is None or roles is None else reader_of(account, bindings, roles)


def expiring_in(reading: TolerantReader) -> Iterator[ExpiringCredential]:
    """Credentials of one cluster that expire: certificates in cacerts, tokens in remote secrets."""
    ca = reading.may(f"secret {names.CACERTS}", lambda: _ca(reading.cluster), None)
    if ca is not None:
        for key in (name for name in ca.names.all if name != ca.names.key):
            try:
                chain = parse_chain(ca.files.get(key, b""))
            except ValueError:
                continue  # TRUST-01 reports it
            for certificate in chain:
                what = f"{subject(certificate)} in {key} of secret {ca.secret}"
                yield ExpiringCredential(what=what, ends=certificate.not_valid_after_utc)
    if reading.cluster.is_primary:
        for secret in reading.may("remote secrets", lambda: remote_secrets(reading.kube), ()):
            if secret.ends is not None:
                yield ExpiringCredential(
                    what=f"the {'token' if secret.token else 'client certificate'} in remote secret {secret}",
                    ends=secret.ends,
                    token=True,
                )


def _ca(cluster: Cluster) -> CaFiles | None:
    """The CA in a secret of the cluster; without an istiod nobody uses a self-signed one."""
    found, withheld = ca_of(cluster.kube) if cluster.is_primary else ca_of(cluster.kube, (names.CACERTS,))
    if withheld:
        raise Unavailable(f"secret {names.CACERTS}", withheld)
    return found
