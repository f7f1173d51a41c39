"""The toolbox for clusters on which Istio is to be installed, from istioctl's release."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from meshproof.clients.istio.istioctl import Istioctl
from meshproof.core.errors import BadInput
from meshproof.mesh.access import Toolbox

ISTIO_HUB: Final = "docker.io/istio"
PUBLISHED: Final = re.compile(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?")
"""Versions of Istio with published images."""
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


def release_toolbox(
    istioctl: Path | None, images: Mapping[str, str], values: Mapping[str, object] = NOTHING
) -> Toolbox:
    """The images of istioctl's release, or those of `hub` and `tag` in `values`.

    `values` are merged into the spec of each IstioOperator. Istio's proxy image has envoy, and in its default build
    also sh, curl and openssl, so probes use it too. Raises `BadInput` if there is no istioctl, or none with images.
    """
    found = istioctl or shutil.which("istioctl")
    if found is None:
        raise BadInput("istioctl", "not in PATH", "install a release of Istio, or name the program with --istioctl")
    version = Istioctl(Path(found), Path(), "").version()
    hub, tag = str(values.get("hub") or ISTIO_HUB), str(values.get("tag") or version)
    if hub == ISTIO_HUB and "tag" not in values and not PUBLISHED.fullmatch(tag):
        raise BadInput(
            f"istioctl {found}",
            f"its version is {version}, but {ISTIO_HUB} has images of releases only",
            "name the istioctl of a release with --istioctl",
        )
    proxy = f"{hub}/proxyv2:{tag}"
    return Toolbox(
        istioctl=Path(found),
        istio_version=version,
        hub=hub,
        tag=tag,
        images={"app": proxy, "client": proxy} | dict(images),
        istio_values=dict(values),
        data_plane=f"Istio's proxy {tag}",
    )
