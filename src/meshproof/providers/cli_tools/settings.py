"""What a run needs to know to make clusters with other people's tools, as the options and the environment say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshproof.core.errors import BadInput

KIND_VARIABLE: Final = "KIND_EXPERIMENTAL_PROVIDER"
"""kind's own variable for what it runs node containers with (kind, quick start and rootless)."""
DOCKER: Final = "docker"
PODMAN: Final = "podman"
RUNTIMES: Final = (DOCKER, PODMAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How clusters are made.

    `istioctl` None: the one in PATH. `images` has those that were given, by purpose. `runtime` is what kind's variable
    names, `project` and `zone` what the options for gke name; empty where they say nothing.
    """

    istioctl: Path | None
    images: Mapping[str, str]
    runtime: str = ""
    project: str = ""
    zone: str = ""


def container_runtime(environment: Mapping[str, str]) -> str:
    """What kind's variable names, or empty. Raises `BadInput` for one that kind knows and we do not."""
    named = environment.get(KIND_VARIABLE, "")
    if named and named not in RUNTIMES:
        raise BadInput(
            f"{KIND_VARIABLE}={named}", "routes are set in node containers of docker or podman only", "set one of these"
        )
    return named
