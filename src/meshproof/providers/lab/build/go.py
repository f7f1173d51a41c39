"""Builds the lab's Go programs from pinned modules, once, into a cache keyed by all inputs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from meshproof.clients.process import run
from meshproof.core.errors import BadInput, Broken
from meshproof.core.paths import cache_root, private_folder
from meshproof.core.progress import Narrator
from meshproof.providers.lab.build.istio_releases import CURRENT, Release
from meshproof.providers.lab.build.wheels import go_program
from meshproof.providers.lab.locks import exclusively

KUBERNETES_VERSION = "1.36.1"
COREDNS_VERSION = "1.15.0"
PUBLIC_HUB = "docker.io/istio"
DOWNLOAD_S = 300.0

# Istio's releases use these two; they exclude unused code of the Envoy API.
TAGS = "vtprotobuf,disable_pgv"


def _link_flags(release: Release) -> str:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    kube, istio = "k8s.io/component-base/version", "istio.io/istio/pkg/version"
    version = release.version
    values = {
        f"{kube}.gitVersion": f"v{KUBERNETES_VERSION}",
        f"{kube}.gitMajor": major,
        f"{kube}.gitMinor": minor,
        f"{kube}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": f"v{KUBERNETES_VERSION}",
        f"{istio}.buildVersion": version,
        f"{istio}.buildTag": version,
        f"{istio}.buildGitRevision": release.commit,
        f"{istio}.buildHub": PUBLIC_HUB,
        f"{istio}.buildStatus": "Clean",
    }
    return "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())


def cache_key(release: Release, go_version: str) -> str:
    """Sixteen hexadecimal digits of a hash over all inputs of the build."""
    digest = hashlib.sha256()
    sources = sorted(p for p in release.folder.rglob("*") if p.is_file())
    for source in sources:
        digest.update(f"{source.relative_to(release.folder)}\0".encode() + source.read_bytes() + b"\0")
    for fact in (go_version, TAGS, _link_flags(release), *release.programs, *release.programs.values()):
        digest.update(fact.encode() + b"\0")
    return digest.hexdigest()[:16]


def ensure_programs(narrator: Narrator, release: Release = CURRENT) -> Path:
    """The folder with all programs of a release, after building what is missing.

    Raises `Broken` with the error of the compiler, the disk or the Go module proxy. A build that was
    interrupted is resumed: compiled packages are in Go's own build cache.
    """
    go = go_program(narrator)
    go_version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60).stdout.strip()
    folder = cache_root() / "bin" / cache_key(release, go_version)
    if (folder / ".complete").exists():
        narrator.say(f"nothing to build: the cache has {release.holds}")
        return folder
    with exclusively("building programs", narrator):
        if (folder / ".complete").exists():
            return folder
        title = f"building {len(release.programs)} programs with {go_version} ({release.holds})"
        narrator.say(f"{title}; about {release.minutes} minutes on 2 cores the first time")
        with narrator.step(title):
            _build(go, release, folder, narrator)
        (folder / ".complete").touch()
    return folder


ISTIO: Final = "istio.io/istio"
GATEWAY_API: Final = "sigs.k8s.io/gateway-api"


def module_sources(module: str, narrator: Narrator, release: Release = CURRENT) -> Path:
    """The folder with the sources of a Go module in the version that a release pins: Istio's charts, samples and tools.

    Raises `Broken` with the error of the Go module proxy.
    """
    go = go_program(narrator)
    listing: list[str | Path] = [go, "list", "-m", "-f", "{{.Dir}}", module]
    # In a copy: the toolchain may want to write next to go.mod.
    with tempfile.TemporaryDirectory() as copy:
        work = Path(shutil.copytree(release.folder, Path(copy) / "module"))
        run([go, "mod", "download", module], timeout_s=DOWNLOAD_S, cwd=work, env=environment())
        return Path(run(listing, timeout_s=60, cwd=work, env=environment()).strip())


def built(program: str) -> Path | None:
    """The newest build of a program that is in the cache, or None. Builds nothing."""
    try:
        whole = [p.parent for p in (cache_root() / "bin").glob(f"*/{program}") if (p.parent / ".complete").exists()]
    except BadInput:
        return None  # a cache that root must not use; callers have alternatives
    newest = max(whole, key=lambda folder: (folder / ".complete").stat().st_mtime, default=None)
    return newest / program if newest else None


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("GOFLAGS", "GOOS", "GOARCH", "GONOSUMDB", "GONOSUMCHECK")}
    # -mod=readonly: builds exactly what go.mod and go.sum pin, checked against the public checksum database.
    if kept.get("GOSUMDB") == "off":
        del kept["GOSUMDB"]
    return {**kept, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


def _build(go: Path, release: Release, folder: Path, narrator: Narrator) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    partial = private_folder(folder.with_name(folder.name + ".partial"))
    env = environment()
    packages = list(release.programs.values())
    tool = str(go)
    # The build runs on a copy, so that nothing is written next to the committed files.
    work = partial / "src"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(release.folder, work)
    listed = subprocess.run(
        [tool, "list", "-deps", "-tags", TAGS, *packages], cwd=work, env=env, capture_output=True, text=True
    )
    if listed.returncode:
        raise Broken(
            "go list", listed.stderr.strip()[-2000:], "check the network, and go.mod and go.sum in the checkout"
        )
    total = len(listed.stdout.split())
    log = partial / "build.log"
    argv = [
        tool,
        "build",
        "-v",
        "-trimpath",
        "-tags",
        TAGS,
        "-ldflags",
        _link_flags(release),
        "-o",
        f"{partial}/out/",
    ]
    (partial / "out").mkdir(exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*argv, *packages], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            _watch(process, log, partial / "out", total, len(release.programs), narrator)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        words = [line for line in log.read_text().splitlines() if " " in line or ":" in line][-15:]
        no_space = any("no space left" in word for word in words)
        repair = f"free some space on {partial}" if no_space else f"see {log}; run again to resume the build"
        raise Broken("go build", "\n    ".join(words), repair)
    (partial / "out").rename(folder)
    shutil.rmtree(partial)


def _watch(
    process: subprocess.Popen[bytes], log: Path, out: Path, total: int, programs: int, narrator: Narrator
) -> None:
    """Report the build's progress every fifteen seconds, until it ends."""
    begin = time.monotonic()
    while True:
        try:
            process.wait(timeout=15)
            return
        except subprocess.TimeoutExpired:
            compiled = sum(1 for line in log.read_text().splitlines() if "/" in line and " " not in line)
            linked = sorted(p.name for p in out.iterdir())
            spent = time.monotonic() - begin
            narrator.say(
                f"  compiled {compiled} of at most {total} packages, "
                f"linked {len(linked)} of {programs} programs, {spent:.0f} s"
            )
