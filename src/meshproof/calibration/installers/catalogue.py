"""Installations by others, as records like variants: each is made on empty clusters of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshproof.calibration.installers.by_charts import ChartInstall
from meshproof.calibration.installers.by_gateway_api import GatewayApiInstall
from meshproof.calibration.installers.by_istioctl import IstioctlInstall
from meshproof.calibration.installers.documented import DocumentedInstall
from meshproof.calibration.variants.legal_mesh import LegalMesh, Skip
from meshproof.claims.claim import Need
from meshproof.core.progress import Narrator
from meshproof.mesh.handles import Mesh
from meshproof.providers.lab.build.go import GATEWAY_API, ISTIO, module_sources
from meshproof.providers.lab.build.helm import ensure_helm


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation(LegalMesh):
    """`make` prepares it: given the clusters, a folder for certificates, and where to report progress."""

    make: Callable[[Mesh, Path, Narrator], DocumentedInstall] = field(repr=False)


def _by_istioctl(mesh: Mesh, work: Path, narrator: Narrator) -> DocumentedInstall:
    return IstioctlInstall(mesh, module_sources(ISTIO, narrator), work, narrator)


def _by_charts(mesh: Mesh, work: Path, narrator: Narrator) -> DocumentedInstall:
    return ChartInstall(mesh, module_sources(ISTIO, narrator), work, narrator, helm=ensure_helm(narrator))


def _by_gateway_api(mesh: Mesh, work: Path, narrator: Narrator) -> DocumentedInstall:
    gateway_api = module_sources(GATEWAY_API, narrator)
    return GatewayApiInstall(mesh, module_sources(ISTIO, narrator), work, narrator, gateway_api=gateway_api)


ONLY_PRIMARIES: Final = Need(
    name="no remotes",
    applies=lambda topology: not topology.remotes,
    otherwise="istiod creates gateways for the Gateway API in its own cluster only",
)
INGRESS_CLAIMS: Final = ("TRAFFIC-01", "TRAFFIC-08")
"""Those that are proven through ingress gateways only."""

EXISTING: Final = Skip(codes=("CONTROL-01",), reason="the mesh existed already")
"""Half of it is about the time before the remote secret."""

INSTALLATIONS: Final = (
    Installation(
        id="docs-install",
        sentence="installed by istioctl with its default profile and Istio's own scripts and samples",
        legal="istio.io, Install Multicluster",
        skips=(EXISTING,),
        make=_by_istioctl,
    ),
    Installation(
        id="helm-install",
        sentence="installed by Istio's Helm charts, with ingress gateways in a namespace of their own",
        legal="istio.io, Install with Helm",
        skips=(EXISTING,),
        make=_by_charts,
    ),
    Installation(
        id="gateway-api",
        sentence="ingress and east-west gateways are Gateways of the Gateway API, for which istiod creates Deployments",
        legal="istio.io, Kubernetes Gateway API",
        needs=(ONLY_PRIMARIES,),
        skips=(Skip(codes=INGRESS_CLAIMS, reason="it was created by the Gateway API"),),
        make=_by_gateway_api,
    ),
)
