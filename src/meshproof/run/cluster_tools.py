"""The cluster maker for the settings, and the plan of a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from meshproof.core.model import Topology
from meshproof.core.progress import Narrator
from meshproof.providers.cli_tools import gke, kind
from meshproof.providers.cli_tools.clusters import MadeClusters, Maker, is_kept, open_made, toolbox_of
from meshproof.providers.cli_tools.commands import DryRunner, Runner, Shell, Tool, missing_tools, require_tools
from meshproof.providers.cli_tools.settings import Making
from meshproof.run.settings import GKE, KIND, MESH, Settings, choose_topology

ISTIOCTL: Final = Tool(name="istioctl", repair="install a release of Istio, or name the program with --istioctl")


def tools_of(settings: Settings, making: Making) -> tuple[Tool, ...]:
    """The required programs, without istioctl if its path was given."""
    own = kind.tools(kind.runtime_of(making.runtime)) if settings.provider == KIND else gke.TOOLS
    return own if making.istioctl else (*own, ISTIOCTL)


def maker_of(settings: Settings, making: Making, runner: Runner) -> Maker:
    """The chosen maker, for the clusters of the first topology: all topologies run on the same clusters."""
    topology = settings.topologies[0]
    if settings.provider == KIND:
        return kind.KindProvider(settings.lab_name, topology, runner, runtime=kind.runtime_of(making.runtime))
    assert settings.provider == GKE
    return gke.GkeProvider(settings.lab_name, topology, runner, project=making.project, zone=making.zone)


def open_maker(settings: Settings, making: Making, narrator: Narrator) -> AbstractContextManager[MadeClusters]:
    """The chosen clusters as a context manager. Raises `BadInput` at once if a program is missing."""
    require_tools(settings.provider, tools_of(settings, making))
    toolbox = toolbox_of(making)
    maker = maker_of(settings, making, Shell(narrator))
    return open_made(maker, settings.topologies[0], toolbox, narrator, keep=settings.keep)


def are_kept(settings: Settings, making: Making, narrator: Narrator) -> bool:
    """Whether an earlier run has kept the clusters, according to its record."""
    require_tools(settings.provider, tools_of(settings, making))
    return is_kept(maker_of(settings, making, Shell(narrator)))


# -- plan -----------------------------------------------------------------------------------------------


def plan_of(settings: Settings) -> str:
    """The plan of a run with these settings, as a commented shell script. Runs and contacts nothing.

    Raises `BadInput` if no topology was chosen.
    """
    if not settings.topologies:
        raise choose_topology()
    return "\n".join((*_heading(settings), *_body(settings)))


def _heading(settings: Settings) -> Iterator[str]:
    yield f"# plan for --provider={settings.provider}: {', '.join(t.name for t in settings.topologies)}"
    yield "# nothing has been started"


def _body(settings: Settings) -> Iterator[str]:
    if settings.making is not None:
        yield from _commands(settings, settings.making)
        return
    if settings.attachment is not None:
        yield from _looking(settings)
        return
    clusters = ", ".join(cluster.name for cluster in settings.topologies[0].clusters)
    yield f"# lab {settings.lab_name} is used if it is up; otherwise missing Debian packages are installed, programs"
    yield f"# not in the cache are built, and {clusters} are started on this machine, as root (docs/lab.md)"
    for topology in settings.topologies:
        yield f"# {topology.name}: {_routes(topology)}; {_mesh(settings)}, and the claims are proven"
    yield (
        "# a lab started by this run stays up, with its mesh"
        if settings.keep
        else "# a lab started by this run is removed"
    )


def _looking(settings: Settings) -> Iterator[str]:
    assert settings.attachment is not None
    named, source = settings.attachment.contexts, settings.attachment.source
    for cluster in settings.topologies[0].clusters:
        context = named[cluster.name].name if cluster.name in named else cluster.name
        yield f"# {cluster.name} is context {context} of {source}: its version and our rights are queried"
    for topology in settings.topologies:
        yield f"# {topology.name}: {_mesh(settings)}, and the claims are proven (docs/attach.md)"
    if not settings.installs:
        yield "# clusters stay unchanged; probe namespaces created by this run are removed"


def _mesh(settings: Settings) -> str:
    return "the mesh is installed" if settings.installs else f"the existing mesh is used ({MESH.flag}=existing)"


def _routes(topology: Topology) -> str:
    return "routes between pods" if any(topology.pairs_on_one_network) else "no routes between pods"


def _commands(settings: Settings, making: Making) -> Iterator[str]:
    tools = tools_of(settings, making)
    missing = missing_tools(tools, shutil.which)
    yield f"# needs {', '.join(tool.name for tool in tools)}" + (
        f"; not in PATH here: {', '.join(tool.name for tool in missing)}" if missing else ""
    )
    yield "# assuming that no such clusters exist; outputs of queries are examples, which later commands use"
    rehearsal = DryRunner()
    maker = maker_of(settings, making, rehearsal)
    maker.existing(tuple(maker.names.values()))
    yield from _script_lines(rehearsal)
    if settings.installs:
        maker.create()
    maker.peers()
    yield from _script_lines(rehearsal)
    for topology in settings.topologies:
        yield f"\n# -- topology {topology.name}"
        if settings.installs:
            maker.connect(topology)
        yield from _script_lines(rehearsal)
        yield f"# {_mesh(settings)}, through the clusters' API and {_istioctl(making)}, and the claims are proven"
    yield "\n# -- at the end"
    if settings.keep:
        yield "# clusters and mesh stay (--keep); the next run without --keep removes them:"
    maker.existing(tuple(maker.names.values()))
    maker.remove(tuple(maker.names.values()))
    yield from _script_lines(rehearsal, as_comment=settings.keep)


def _istioctl(making: Making) -> Path | str:
    return making.istioctl or ISTIOCTL.name


def _script_lines(rehearsal: DryRunner, *, as_comment: bool = False) -> Iterator[str]:
    """The commands recorded since the last call."""
    for command in rehearsal.commands:
        yield f"\n# {command.why}"
        yield "\n".join(f"# {line}" for line in command.text.splitlines()) if as_comment else command.text
        if command.example:
            yield f"# prints, for example: {' '.join(command.example.split())}"
    rehearsal.commands.clear()
