"""Container images built from files of this machine, and a containerd folder with all of them unpacked, built once.

A node gets a hard-linked copy of that folder: snapshots and blobs are immutable, so links are safe, and the
copy takes milliseconds. Envoy is a separate layer, shared by sidecars, gateways and the demonstration service, so it
is in memory once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshproof.clients.process import run
from meshproof.core.errors import Broken
from meshproof.core.paths import cache_root, private_folder
from meshproof.core.progress import Narrator, Silent
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.build import go as gobuild
from meshproof.providers.lab.build.debian import program
from meshproof.providers.lab.build.istio_releases import CURRENT, Release
from meshproof.providers.lab.build.wheels import ENVOY, fetch_wheel, go_program
from meshproof.providers.lab.locks import exclusively

PAUSE = "registry.k8s.io/pause:3.10"
COREDNS = f"registry.k8s.io/coredns/coredns:v{gobuild.COREDNS_VERSION}"
APP = f"docker.io/envoyproxy/envoy:v{ENVOY.version}"
CLIENT = "meshproof.lab/client:1"
"""curl, openssl and a shell. No public image has just these, so its name is not that of one."""

# Increase this when a layer changes by code only, not by its inputs.
RECIPE = 4


def istio_image(name: str, release: Release) -> str:
    return f"{gobuild.PUBLIC_HUB}/{name}:{release.version}"


@dataclass(kw_only=True)
class Layer:
    """Files of one layer: path inside the image -> a file of this machine, or bytes; links; and world-writable folders.

    `dated` files keep their times, which Python's bytecode cache needs.
    """

    files: dict[str, Path | bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    open_folders: tuple[str, ...] = ()
    dated: bool = False

    def add_program(self, source: Path, target: str) -> None:
        """Add a program together with the shared libraries that `ldd` names for it."""
        self.files[target] = source
        listed = subprocess.run(["ldd", source], capture_output=True, text=True, timeout=30)
        for match in re.finditer(r"(?:=> )?(/\S+) \(0x", listed.stdout):
            self.files[match[1].removeprefix("/usr").lstrip("/")] = Path(match[1]).resolve()

    def tar(self) -> bytes:
        """The layer as an uncompressed, reproducible tar."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for folder in _folders((*self.files, *self.links), self.open_folders):
                entry = tarfile.TarInfo(folder)
                entry.type = tarfile.DIRTYPE
                entry.mode = 0o1777 if folder in self.open_folders else 0o755
                archive.addfile(entry)
            for target, source in sorted(self.files.items()):
                content = source if isinstance(source, bytes) else source.read_bytes()
                entry = tarfile.TarInfo(target)
                entry.size = len(content)
                entry.mode = 0o755 if isinstance(source, Path) and os.access(source, os.X_OK) else 0o644
                if self.dated and isinstance(source, Path):
                    entry.mtime = int(source.stat().st_mtime)
                archive.addfile(entry, io.BytesIO(content))
            for target, to in sorted(self.links.items()):
                entry = tarfile.TarInfo(target)
                entry.type = tarfile.SYMTYPE
                entry.linkname = to
                archive.addfile(entry)
        return buffer.getvalue()


def _folders(targets: Iterable[str], extra: Iterable[str]) -> list[str]:
    found: set[str] = set()
    for target in (*targets, *(f"{e}/x" for e in extra)):
        parts = target.split("/")[:-1]
        found.update("/".join(parts[:n]) for n in range(1, len(parts) + 1))
    return sorted(found)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: its name, its layers, and its entry point."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...]
    user: str = ""
    folder: str = ""
    environment: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def catalogue(builds: Mapping[Release, Path], envoy: Path) -> tuple[Image, ...]:
    """The images of the lab. `builds` are the folders of programs by release; `CURRENT` must be among them."""
    busybox = program("busybox")
    accounts: dict[str, Path | bytes] = {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nistio-proxy:x:1337:1337::/var/lib/istio:/bin/sh\n",
        "etc/group": b"root:x:0:\nistio-proxy:x:1337:\n",
        "etc/nsswitch.conf": b"hosts: files dns\n",
        "etc/ssl/certs/ca-certificates.crt": Path("/etc/ssl/certs/ca-certificates.crt").resolve(),
    }
    shell = Layer(files={"bin/busybox": busybox, **accounts}, links={f"bin/{a}": "busybox" for a in _APPLETS})
    shell.open_folders = ("tmp",)

    envoy_layer = Layer()
    envoy_layer.add_program(envoy, "usr/local/bin/envoy")

    client = Layer()
    client.add_program(program("curl"), "usr/bin/curl")
    client.add_program(program("openssl"), "usr/bin/openssl")
    client.files["usr/lib/ssl/openssl.cnf"] = Path("/etc/ssl/openssl.cnf").resolve()

    dns = Layer(files={**accounts, "coredns": builds[CURRENT] / "coredns"})
    below = (shell, client, envoy_layer)
    of_istio = [i for r, folder in builds.items() for i in _of_istio(r, folder, accounts, below)]
    return (
        Image(name=PAUSE, layers=(shell,), entrypoint=("/bin/sleep", "2147483647")),
        Image(name=COREDNS, layers=(dns,), entrypoint=("/coredns",)),
        *of_istio,
        Image(name=APP, layers=(shell, envoy_layer), entrypoint=("/usr/local/bin/envoy",)),
        Image(name=CLIENT, layers=(shell, client), entrypoint=("/bin/sleep", "2147483647")),
    )


def _of_istio(
    release: Release, programs: Path, accounts: Mapping[str, Path | bytes], below: tuple[Layer, ...]
) -> tuple[Image, Image]:
    """istiod and the proxy of one release. The proxy's upstream Envoy comes in the layers `below`.

    So do curl and openssl, which are in Istio's default image as well (docker/Dockerfile.base in its source).
    """
    agent = Layer(
        files={
            **accounts,
            "usr/local/bin/pilot-agent": programs / "pilot-agent",
            "var/lib/istio/envoy/envoy_bootstrap_tmpl.json": _bootstrap_template(release),
        },
        open_folders=("tmp", "var/lib/istio", "var/lib/istio/data", "etc/istio", "etc/istio/proxy", "run"),
    )
    _add_iptables(agent)
    pilot = Layer(files={**accounts, "usr/local/bin/pilot-discovery": programs / "pilot-discovery"})
    pilot.open_folders = ("tmp", "var/lib/istio", "etc/istio")
    entrypoint = ("/usr/local/bin/pilot-discovery",)
    return (
        Image(name=istio_image("pilot", release), layers=(pilot,), entrypoint=entrypoint, user="1337"),
        Image(
            name=istio_image("proxyv2", release),
            layers=(*below, agent),
            entrypoint=("/usr/local/bin/pilot-agent",),
            environment=(
                *Image.environment,
                "ISTIO_META_ISTIO_PROXY_SHA=upstream-envoy",
                f"ISTIO_META_ISTIO_VERSION={release.version}",
            ),
        ),
    )


_APPLETS = (
    "sh",
    "sleep",
    "cat",
    "ls",
    "echo",
    "date",
    "printf",
    "timeout",
    "nc",
    "head",
    "tail",
    "grep",
    "sed",
    "seq",
    "wc",
    "id",
    "env",
    "true",
    "false",
    "rm",
    "mkdir",
    "nslookup",
    "ip",
    "wget",
    "kill",
    "ps",
    "test",
)


def _add_iptables(layer: Layer) -> None:
    for flavour in ("nft", "legacy"):
        layer.add_program(program(f"xtables-{flavour}-multi"), f"usr/sbin/xtables-{flavour}-multi")
        for family in ("iptables", "ip6tables"):
            for action in ("", "-save", "-restore"):
                layer.links[f"usr/sbin/{family}-{flavour}{action}"] = f"xtables-{flavour}-multi"
    for family in ("iptables", "ip6tables"):
        for action in ("", "-save", "-restore"):
            layer.links[f"usr/sbin/{family}{action}"] = f"{family}-nft{action}"
    for module in sorted(Path("/usr/lib").glob("*/xtables/*.so")):
        layer.files[str(module).removeprefix("/")] = module
        layer.add_program(module, str(module).removeprefix("/"))


def archive(images: Iterable[Image], target: Path) -> None:
    """Write `images` into one docker-archive, each distinct layer once."""
    written: dict[str, str] = {}
    manifest: list[Mapping[str, object]] = []
    with tarfile.open(target, "w") as out:

        def put(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))

        for image in images:
            digests = []
            for layer in image.layers:
                content = layer.tar()
                digest = hashlib.sha256(content).hexdigest()
                digests.append(digest)
                if digest not in written:
                    written[digest] = f"{digest}/layer.tar"
                    put(written[digest], content)
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {
                        "Entrypoint": image.entrypoint,
                        "User": image.user,
                        "WorkingDir": image.folder,
                        "Env": image.environment,
                    },
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{d}" for d in digests]},
                    "history": [{"created_by": "meshproof"} for _ in digests],
                }
            ).encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            put(name, config)
            manifest.append({"Config": name, "RepoTags": [image.name], "Layers": [written[d] for d in digests]})
        put("manifest.json", json.dumps(manifest).encode())


CONTAINERD_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"""


def ensure_images(builds: Mapping[Release, Path], narrator: Narrator) -> Path:
    """A containerd folder with all images imported and unpacked, built once for these builds. Raises `Broken`."""
    envoy = fetch_wheel(ENVOY, narrator)
    keys = " ".join(sorted(folder.name for folder in builds.values()))
    digest = hashlib.sha256(f"{keys} {ENVOY.version} {RECIPE}".encode())
    for tool in ("curl", "openssl", "xtables-nft-multi", "busybox", "containerd"):
        facts = program(tool).resolve().stat()
        digest.update(f"{tool} {facts.st_size} {facts.st_mtime_ns}".encode())
    seed = cache_root() / "images" / digest.hexdigest()[:16]
    if (seed / ".complete").exists():
        return seed / "containerd"
    with exclusively("making images", narrator):
        if not (seed / ".complete").exists():
            with narrator.step("building and unpacking the container images, once"):
                shutil.rmtree(seed, ignore_errors=True)
                private_folder(seed)
                archive(catalogue(builds, envoy), seed / "images.tar")
                _unpack(seed)
                (seed / "images.tar").unlink()
                (seed / ".complete").touch()
    return seed / "containerd"


def _bootstrap_template(release: Release) -> Path:
    """Istio's own template of Envoy's bootstrap, from the programs' module version."""
    go = go_program(Silent())
    source = run(
        [go, "list", "-m", "-f", "{{.Dir}}", "istio.io/istio"],
        timeout_s=120,
        cwd=release.folder,
        env=gobuild.environment(),
    ).strip()
    return Path(source) / "tools" / "packaging" / "common" / "envoy_bootstrap.json"


def _unpack(seed: Path) -> None:
    """Run containerd on the new folder for the import, in a separate mount namespace."""
    run_folder = private_folder(seed / "run")
    socket = run_folder / "containerd.sock"
    config = run_folder / "config.toml"
    config.write_text(
        CONTAINERD_CONFIG.format(
            root=seed / "containerd",
            state=run_folder / "state",
            socket=socket,
            pause=PAUSE,
            restrict="true",
            cni=run_folder / "cni",
        )
    )
    log = seed / "containerd.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["unshare", "--mount", program("containerd"), "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:

            def answers() -> None:
                if process.poll() is not None:
                    raise Broken("containerd", f"exited with code {process.returncode}: {log.read_text()[-800:]}")
                if not socket.exists():
                    raise NotYet("no socket")

            eventually(answers, what="containerd for unpacking images", timeout_s=30)
            ctr = [str(program("ctr")), "--address", str(socket), "-n", "k8s.io"]
            enter = ["nsenter", "-t", str(process.pid), "-m"]
            run([*enter, *ctr, "images", "import", str(seed / "images.tar")], timeout_s=300)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
    shutil.rmtree(run_folder)


def copy_for_node(seed: Path, target: Path) -> None:
    """Give a node its own containerd folder: with linked blobs and snapshots, and copied databases."""
    if target.exists():
        shutil.rmtree(target)

    def link_or_copy(source: str, destination: str) -> str:
        if source.endswith(".db"):
            return str(shutil.copy2(source, destination))
        try:
            os.link(source, destination, follow_symlinks=False)
        except OSError:  # another file system, or no hard links
            shutil.copy2(source, destination, follow_symlinks=False)
        return destination

    shutil.copytree(seed, target, symlinks=True, copy_function=link_or_copy)
