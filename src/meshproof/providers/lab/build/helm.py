"""Helm, built from its Go module: for meshes that are installed by Istio's charts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from meshproof.clients.process import run
from meshproof.core.paths import cache_root, private_folder
from meshproof.core.progress import Narrator
from meshproof.providers.lab.build.go import environment
from meshproof.providers.lab.build.wheels import go_program
from meshproof.providers.lab.locks import exclusively

VERSION: Final = "3.22.0"
BUILD_S: Final = 1200.0


def ensure_helm(narrator: Narrator) -> Path:
    """The program, after building it if the cache does not have it. Raises `Broken` with the compiler's error."""
    folder = cache_root() / "bin" / f"helm-{VERSION}"
    program = folder / "helm"
    with exclusively("building helm", narrator):
        if not program.exists():
            with narrator.step(f"building Helm {VERSION}"):
                partial = private_folder(folder.with_name(f"{folder.name}.partial"))
                package = f"helm.sh/helm/v3/cmd/helm@v{VERSION}"
                argv: list[str | Path] = [go_program(narrator), "install", "-trimpath", package]
                run(argv, timeout_s=BUILD_S, env={**environment(), "GOBIN": str(partial)})
                partial.replace(folder)
    return program
