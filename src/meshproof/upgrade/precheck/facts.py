"""Facts that an upgrade check has read: immutable, without secrets, and with what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from meshproof.clients.kubernetes.rbac import AccessRule as Right
from meshproof.core.versions import Version


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Something that could not be read, and why."""

    where: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IstiodFacts:
    """One Deployment of istiod. `version` is reported by its pod; if that fails, it is the tag of its image."""

    name: str
    revision: str
    version: str
    image: str
    env: Mapping[str, str] = field(default_factory=_nothing)
    compatibility: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that is connected to an istiod, with both versions."""

    where: str
    version: str
    istiod: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Crd:
    """A CustomResourceDefinition of Istio or of the Gateway API.

    `stored` are the versions of objects in etcd; `bundle` is the Gateway API release of the CRD. `in_use`: whether an
    object of it exists; None: unknown.
    """

    name: str
    served: frozenset[str]
    stored: frozenset[str]
    bundle: str = ""
    in_use: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """An admission webhook configuration of Istio, and the Services in its cluster that it calls."""

    name: str
    revision: str
    tag: str
    services: tuple[str, ...]
    injects: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace with a revision label; `revision` is the label's value, a revision or a tag."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedPod:
    """A pod with a revision label (`wants`: revision or tag to inject it) or annotation (`has`: the one that did)."""

    name: str
    wants: str = ""
    has: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One patch of an EnvoyFilter. `version` is the regular expression for proxy versions; empty: all.

    `untyped` are extensions without a `typed_config`, `old_types` type URLs of Envoy's API v2.
    """

    filter: str
    kind: str
    version: str
    untyped: tuple[str, ...] = ()
    old_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderAccount:
    """The account with which other clusters' istiods read this one, and the rights from all roles bound to it."""

    account: str
    rights: tuple[Right, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiringCredential:
    """A credential with an expiry. `token`: a token of a remote secret, not a certificate."""

    what: str
    ends: datetime
    token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSeen:
    """One cluster. `readers` are the other clusters whose istiods read it. `configured` lists objects by the feature
    that they use (`outlierDetection`, `mirror`), `annotated` pods by an Istio annotation. `reader` is None if it could
    not be read, or if no istiod reads the cluster.
    """

    name: str
    is_primary: bool
    readers: tuple[str, ...]
    kubernetes: str
    istiods: tuple[IstiodFacts, ...] = ()
    crds: tuple[Crd, ...] = ()
    hooks: tuple[Hook, ...] = ()
    services: frozenset[str] = frozenset()
    alive: frozenset[str] = frozenset()
    namespaces: tuple[Namespace, ...] = ()
    members: tuple[InjectedPod, ...] = ()
    patches: tuple[Patch, ...] = ()
    configured: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    annotated: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    reader: ReaderAccount | None = None
    expiring: tuple[ExpiringCredential, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The whole mesh at one moment."""

    now: datetime
    clusters: tuple[ClusterSeen, ...]
    proxies: tuple[Proxy, ...] = ()
    withheld: tuple[Withheld, ...] = ()

    @property
    def istiods(self) -> tuple[tuple[ClusterSeen, IstiodFacts], ...]:
        return tuple((cluster, istiod) for cluster in self.clusters for istiod in cluster.istiods)

    @property
    def oldest(self) -> Version | None:
        """The oldest version of an istiod; None if no version is known."""
        found = [version for _, istiod in self.istiods if (version := Version.parse(istiod.version))]
        return min(found, default=None)
