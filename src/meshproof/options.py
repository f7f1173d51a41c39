"""Every option once, as a record; help, checks and errors derive from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshproof.deadlines import DEADLINES
from meshproof.errors import BadInput
from meshproof.model import Topology
from meshproof.topology import available, load_topology

ALL: Final = "all"
PROVIDERS: Final = ("lab",)
INSTALL: Final = "install"
MESHES: Final = (INSTALL, "existing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. An empty `metavar` means a switch; `default` None that it must be given or is derived."""

    flag: str
    help: str
    metavar: str = ""
    default: str | None = None

    @property
    def dest(self) -> str:
        """The name under which pytest keeps its value; prefixed, since other plugins have options too."""
        return "meshproof_" + self.flag.lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        return not self.metavar


TOPOLOGY: Final = Option(
    flag="--topology",
    metavar="NAME|FILE|all",
    help=f"which mesh to build and prove: {', '.join(available())}, a YAML file of your own, or all of these in turn "
    "on the same clusters",
)
PROVIDER: Final = Option(
    flag="--provider", metavar="NAME", default="lab", help=f"where clusters come from: {', '.join(PROVIDERS)}"
)
LAB_NAME: Final = Option(
    flag="--lab-name", metavar="NAME", default="default", help="which lab to use; a lab that is up is used as it is"
)
KEEP: Final = Option(flag="--keep", help="leave clusters and mesh for the next run")
REPORT_DIR: Final = Option(
    flag="--report-dir", metavar="FOLDER", help="where verdict and evidence go (default: reports)"
)
OUTAGE: Final = Option(
    flag="--outage",
    metavar="SECONDS",
    default=f"{DEADLINES.outage:g}",
    help="how long a stopped control plane stays down in FAILOVER claims (5 to 3600)",
)

MESH: Final = Option(
    flag="--mesh",
    metavar="install|existing",
    default="install",
    help="install: make the mesh, or complete it; existing: verify what is there, and change nothing but probe "
    "namespaces, which are removed again",
)
ALLOW_DISRUPTIVE: Final = Option(
    flag="--allow-disruptive",
    help="let FAILOVER claims stop control planes of clusters that meshproof did not make",
)
MUTANTS: Final = Option(
    flag="--mutants",
    metavar="ID,ID",
    help="for tests/sensitivity: these faults of `meshproof fault list` only (default: all)",
)
SLICE: Final = Option(
    flag="--slice",
    metavar="N",
    help="for tests/sensitivity: N mutants, other ones each day, so that all have their turn on every topology",
)

OPTIONS: Final = (TOPOLOGY, PROVIDER, LAB_NAME, MESH, ALLOW_DISRUPTIVE, KEEP, REPORT_DIR, OUTAGE, MUTANTS, SLICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options' values, checked. `topologies` is empty if none was chosen."""

    topologies: tuple[Topology, ...]
    provider: str
    lab_name: str
    installs: bool
    may_disrupt: bool
    keep: bool
    report_dir: Path
    outage_s: float
    mutants: str = ""
    slice: int = 0

    def topology(self, name: str) -> Topology:
        return next(topology for topology in self.topologies if topology.name == name)


def read_settings(values: Mapping[str, object], *, root: Path) -> Settings:
    """Check the values (by `Option.dest`). Raises `BadInput` that names the option, the value and the legal ones."""

    def text(option: Option) -> str | None:
        value = values.get(option.dest)
        return option.default if value is None else str(value)

    provider = text(PROVIDER) or ""
    if provider not in PROVIDERS:
        raise BadInput(f"--provider={provider}", "there is no such provider", f"use one of {', '.join(PROVIDERS)}")
    mesh = text(MESH) or ""
    if mesh not in MESHES:
        raise BadInput(f"--mesh={mesh}", "there is no such way to get a mesh", f"use one of {', '.join(MESHES)}")
    folder = text(REPORT_DIR)
    return Settings(
        topologies=_topologies(text(TOPOLOGY)),
        provider=provider,
        lab_name=text(LAB_NAME) or "",
        installs=mesh == INSTALL,
        may_disrupt=provider == "lab" or bool(values.get(ALLOW_DISRUPTIVE.dest)),
        keep=bool(values.get(KEEP.dest)),
        report_dir=Path(folder).absolute() if folder else root / "reports",
        outage_s=_outage(text(OUTAGE) or ""),
        mutants=text(MUTANTS) or "",
        slice=_slice(text(SLICE)),
    )


def choose_topology() -> BadInput:
    """The error for a run that needs a mesh and was not told which."""
    return BadInput(
        "--topology is missing", "there is no default mesh", f"use --topology={' | '.join((*available(), ALL))}"
    )


def _topologies(value: str | None) -> tuple[Topology, ...]:
    if value is None:
        return ()
    if value != ALL:
        return (load_topology(value),)
    loaded = tuple(load_topology(name) for name in available())
    if not loaded:
        raise BadInput(f"--topology={ALL}", "there is no topology", "put one into topologies/")
    return loaded


def _outage(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 5 <= seconds <= 3600:
        raise BadInput(f"--outage={value}", "not a number of seconds that makes sense here", "use 5 to 3600")
    return seconds


def _slice(value: str | None) -> int:
    if value is None:
        return 0
    if not value.isdecimal() or int(value) == 0:
        raise BadInput(f"--slice={value}", "not a number of mutants", "use 1 or more")
    return int(value)
