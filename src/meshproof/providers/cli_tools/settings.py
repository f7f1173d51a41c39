"""Settings for creating clusters with other tools, from options and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshproof.core.errors import BadInput

KIND_VARIABLE: Final = "KIND_EXPERIMENTAL_PROVIDER"
"""kind's own variable for its container runtime (kind, quick start and rootless)."""
DOCKER: Final = "docker"
PODMAN: Final = "podman"
RUNTIMES: Final = (DOCKER, PODMAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How clusters are created.

    `istioctl` None: the one in PATH. `images` are the given ones, by purpose. `runtime` is the value of kind's
    variable, `project` and `zone` those of the options for gke; empty if not given.
    """

    istioctl: Path | None
    images: Mapping[str, str]
    runtime: str = ""
    project: str = ""
    zone: str = ""


def container_runtime(environment: Mapping[str, str]) -> str:
    """The value of kind's variable, or empty. Raises `BadInput` for a runtime that we do not support."""
    named = environment.get(KIND_VARIABLE, "")
    if named and named not in RUNTIMES:
        raise BadInput(
            f"{KIND_VARIABLE}={named}",
            "only docker and podman are supported, since routes are set in node containers",
            "set it to docker or podman",
        )
    return named
