"""Reading a mesh for an upgrade check: nothing is changed, and what may not be read is noted instead of left away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final, TypeVar

from meshproof import names
from meshproof.certificates import CA_CERT, CERT_CHAIN, ROOT_CERT, parse_chain, subject
from meshproof.clients import istiod as istiod_client
from meshproof.clients.istioctl import READER_ACCOUNT
from meshproof.clients.kube import FORBIDDEN, ApiError, Json, Kube
from meshproof.errors import Broken, NotReady, Unavailable
from meshproof.facts import SERVICE_OF_SLICE
from meshproof.mesh import Cluster, Mesh
from meshproof.parallel import together
from meshproof.providers.kubeconfig import hub_and_tag
from meshproof.remote_secrets import RemoteSecret, remote_secrets
from meshproof.snapshot import CaFiles, ca_of
from meshproof.upgrade.check.facts import (
    ClusterSeen,
    Crd,
    Ending,
    Facts,
    Hook,
    Istiod,
    Namespace,
    Proxy,
    Reader,
    Withheld,
)
from meshproof.upgrade.check.filters import patches_of
from meshproof.upgrade.check.reader import account_of, reader_of
from meshproof.upgrade.check.releases import BUNDLES, GONE_ANNOTATIONS, MIRRORS, OUTLIERS

T = TypeVar("T")
D = TypeVar("D")

_BUNDLE: Final = "gateway.networking.k8s.io/bundle-version"
_GATEWAY_API: Final = ".gateway.networking.k8s.io"
_TAG: Final = "istio.io/tag"
_VALIDATING: Final = "ValidatingWebhookConfiguration"
_MUTATING: Final = "MutatingWebhookConfiguration"


class _Reading:
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

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        return self.may(f"{kind} objects", lambda: self.kube.list(kind, namespace, labels=labels), [])


def read_facts(mesh: Mesh, now: datetime) -> Facts:
    """All clusters at once. Raises `NotReady` if an API server does not answer."""
    accounts = _reader_accounts(mesh)
    read = together(lambda cluster: _cluster(cluster, mesh, accounts.get(cluster.name, "")), mesh.clusters)
    return Facts(
        now=now,
        clusters=tuple(seen for seen, _, _ in read),
        proxies=tuple(proxy for _, proxies, _ in read for proxy in proxies),
        withheld=tuple(each for _, _, withheld in read for each in withheld),
    )


def _reader_accounts(mesh: Mesh) -> dict[str, str]:
    """By cluster whose tokens lie in the others' remote secrets; the default account where that cannot be seen."""
    default = f"{names.SYSTEM_NAMESPACE}:{READER_ACCOUNT}"
    found: dict[str, str] = {}
    for secret in (secret for primary in mesh.primaries for secret in _secrets_or_none(primary.kube)):
        found.setdefault(secret.cluster, account_of(secret.token) or default)
    return {str(c.name): found.get(str(c.name), default) for c in mesh.clusters if _readers(mesh, c)}


def _secrets_or_none(kube: Kube) -> tuple[RemoteSecret, ...]:
    try:
        return remote_secrets(kube)
    except Unavailable:
        return ()


def _readers(mesh: Mesh, cluster: Cluster) -> tuple[str, ...]:
    return tuple(str(primary) for primary in mesh.primaries if primary is not cluster)


def _cluster(cluster: Cluster, mesh: Mesh, account: str) -> tuple[ClusterSeen, tuple[Proxy, ...], tuple[Withheld, ...]]:
    reading = _Reading(cluster)
    kube = cluster.kube
    kubernetes = str(kube.get("/version")["gitVersion"])  # an API server that does not answer ends the check
    hooks = [(kind, found) for kind in (_MUTATING, _VALIDATING) for found in reading.list(kind)]
    slices = reading.list("EndpointSlice", names.SYSTEM_NAMESPACE)
    services = reading.list("Service", names.SYSTEM_NAMESPACE)
    istiods = tuple(_istiods(reading)) if cluster.is_primary else ()
    seen = ClusterSeen(
        name=str(cluster),
        is_primary=cluster.is_primary,
        readers=_readers(mesh, cluster),
        kubernetes=kubernetes,
        istiods=istiods,
        crds=tuple(_crds(reading)),
        hooks=tuple(_hook(kind, found) for kind, found in hooks if _is_istios(found)),
        services=frozenset(_full_name(service) for service in services),
        alive=frozenset(_alive(slices)),
        namespaces=tuple(_namespaces(reading.list("Namespace"))),
        patches=tuple(p for found in reading.list("EnvoyFilter") for p in patches_of(found)),
        configured=MappingProxyType(_configured(reading) if cluster.is_primary else {}),
        annotated=MappingProxyType(_annotated(reading.list("Pod"))),
        reader=_reader(reading, account) if account else None,
        endings=tuple(_endings(reading)),
    )
    return seen, tuple(_proxies(reading)) if cluster.is_primary else (), tuple(reading.withheld)


# -- control planes ---------------------------------------------------------------------------------------------------


def _istiods(reading: _Reading) -> Iterator[Istiod]:
    for deployment in reading.list("Deployment", names.SYSTEM_NAMESPACE, labels="app=istiod"):
        labels = deployment["metadata"].get("labels") or {}
        revision = str(labels.get(names.REVISION_LABEL) or names.DEFAULT_REVISION)
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        image = str(container.get("image") or "")
        pods = [pod for pod in _running(reading) if _revision_of(pod) == revision]
        told = [reading.may(f"version of {pod}", partial(_version, reading, pod), "") for pod in _names(pods)[:1]]
        yield Istiod(
            name=deployment["metadata"]["name"],
            revision=revision,
            version=next(filter(None, told), "") or hub_and_tag(image)[1],
            image=image,
            env=MappingProxyType({e["name"]: str(e.get("value", "")) for e in container.get("env") or []}),
            compatibility=_compatibility(reading, revision),
        )


def _version(reading: _Reading, pod: str) -> str:
    return _asked(lambda: istiod_client.version(reading.kube, pod))


def _connected(reading: _Reading, pod: str) -> tuple[istiod_client.ProxySync, ...]:
    return _asked(lambda: istiod_client.syncz(reading.kube, pod))


def _asked(ask: Callable[[], T]) -> T:
    """An answer of istiod; that it gives none is something to be noted, not the end."""
    try:
        return ask()
    except NotReady:
        raise
    except Broken as problem:
        raise NotReady(problem.what, problem.reason) from None


def _running(reading: _Reading) -> list[Json]:
    pods = reading.list("Pod", names.SYSTEM_NAMESPACE, labels="app=istiod")
    return [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]


def _names(pods: Iterable[Json]) -> list[str]:
    return [str(pod["metadata"]["name"]) for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def _revision_of(thing: Json) -> str:
    return str((thing["metadata"].get("labels") or {}).get(names.REVISION_LABEL) or names.DEFAULT_REVISION)


def _compatibility(reading: _Reading, revision: str) -> str:
    """Of which release it behaves like one, as its chart has written down (ConfigMap `values`)."""
    name = names.of_revision("values", revision)
    found = reading.may(f"ConfigMap {name}", lambda: reading.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE), None)
    try:
        values = json.loads(((found or {}).get("data") or {}).get("original-values") or "{}")
    except ValueError:
        return ""
    return str(values.get("compatibilityVersion") or "") if isinstance(values, dict) else ""


def _proxies(reading: _Reading) -> Iterator[Proxy]:
    for pod in _names(_running(reading)):
        home = reading.may(f"version of {pod}", partial(_version, reading, pod), "")
        connected = reading.may(f"proxies of {pod}", partial(_connected, reading, pod), ())
        for proxy in connected:
            yield Proxy(where=f"{proxy.cluster} {proxy.proxy}", version=proxy.version, istiod=home)


# -- objects ----------------------------------------------------------------------------------------------------------


def _crds(reading: _Reading) -> Iterator[Crd]:
    least = {each.crd for each in BUNDLES}
    for found in reading.list("CustomResourceDefinition"):
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


def _in_use(reading: _Reading, crd: str, version: str) -> bool | None:
    plural, _, group = crd.partition(".")
    path = f"/apis/{group}/{version}/{plural}"
    return reading.may(f"{plural} objects", lambda: bool(reading.kube.get(path, limit="1")["items"]), None)


def _is_istios(hook: Json) -> bool:
    labels = hook["metadata"].get("labels") or {}
    return names.REVISION_LABEL in labels or labels.get("app") in ("sidecar-injector", "istiod")


def _hook(kind: str, found: Json) -> Hook:
    labels = found["metadata"].get("labels") or {}
    targets = [(hook.get("clientConfig") or {}).get("service") for hook in found.get("webhooks") or []]
    return Hook(
        name=found["metadata"]["name"],
        revision=str(labels.get(names.REVISION_LABEL) or names.DEFAULT_REVISION),
        tag=str(labels.get(_TAG) or ""),
        services=tuple(dict.fromkeys(f"{t['namespace']}/{t['name']}" for t in targets if t)),
        injects=kind == _MUTATING,
    )


def _full_name(thing: Json) -> str:
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"


def _alive(slices: Iterable[Json]) -> Iterator[str]:
    """Services with an endpoint that is ready."""
    for found in slices:
        service = (found["metadata"].get("labels") or {}).get(SERVICE_OF_SLICE)
        ready = [(e.get("conditions") or {}).get("ready") is not False for e in found.get("endpoints") or []]
        if service and any(ready):
            yield f"{found['metadata']['namespace']}/{service}"


def _namespaces(found: Iterable[Json]) -> Iterator[Namespace]:
    for each in found:
        revision = (each["metadata"].get("labels") or {}).get(names.REVISION_LABEL)
        if revision:
            yield Namespace(name=each["metadata"]["name"], revision=str(revision))


def _configured(reading: _Reading) -> dict[str, tuple[str, ...]]:
    """Configuration that a changed default touches, by what it uses."""
    rules = [rule for rule in reading.list("DestinationRule") if _has_unlimited_outliers(rule["spec"])]
    routes = [
        service
        for service in reading.list("VirtualService")
        if any(route.get("mirror") or route.get("mirrors") for route in service["spec"].get("http") or [])
    ]
    return {
        OUTLIERS: tuple(f"DestinationRule {_full_name(rule)}" for rule in rules),
        MIRRORS: tuple(f"VirtualService {_full_name(service)}" for service in routes),
    }


def _has_unlimited_outliers(spec: Json) -> bool:
    """Whether some outlierDetection is without `minHealthPercent`, so that a changed default of 1.31 touches it."""
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


# -- rights and credentials -------------------------------------------------------------------------------------------


def _reader(reading: _Reading, account: str) -> Reader | None:
    bindings = reading.may("ClusterRoleBinding objects", lambda: reading.kube.list("ClusterRoleBinding"), None)
    roles = reading.may("ClusterRole objects", lambda: reading.kube.list("ClusterRole"), None)
    return None if bindings is None or roles is None else reader_of(account, bindings, roles)


def _endings(reading: _Reading) -> Iterator[Ending]:
    ca = reading.may(f"secret {names.CACERTS}", lambda: _ca(reading.kube), None)
    if ca is not None:
        for key in (CA_CERT, CERT_CHAIN, ROOT_CERT):
            try:
                chain = parse_chain(ca.files.get(key, b""))
            except ValueError:
                continue  # TRUST-01 says so
            for certificate in chain:
                what = f"{subject(certificate)} in {key} of secret {names.CACERTS}"
                yield Ending(what=what, ends=certificate.not_valid_after_utc)
    if reading.cluster.is_primary:
        for secret in reading.may("remote secrets", lambda: remote_secrets(reading.kube), ()):
            if secret.ends is not None:
                yield Ending(what=f"the token in remote secret {secret}", ends=secret.ends, token=True)


def _ca(kube: Kube) -> CaFiles | None:
    found, withheld = ca_of(kube)
    if withheld:
        raise Unavailable(f"secret {names.CACERTS}", withheld)
    return found
