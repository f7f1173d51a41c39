"""Which maker the settings name, and what a run with them would do."""

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
    """The programs that must be there. istioctl is not among them if it was named."""
    own = kind.tools(kind.runtime_of(making.runtime)) if settings.provider == KIND else gke.TOOLS
    return own if making.istioctl else (*own, ISTIOCTL)


def maker_of(settings: Settings, making: Making, runner: Runner) -> Maker:
    """The maker that was chosen, for the clusters of the first topology: all topologies run on the same ones."""
    topology = settings.topologies[0]
    if settings.provider == KIND:
        return kind.KindProvider(settings.lab_name, topology, runner, runtime=kind.runtime_of(making.runtime))
    assert settings.provider == GKE
    return gke.GkeProvider(settings.lab_name, topology, runner, project=making.project, zone=making.zone)


def open_maker(settings: Settings, making: Making, narrator: Narrator) -> AbstractContextManager[MadeClusters]:
    """The clusters that were chosen, as a context manager. Raises `BadInput` at once if a program is missing."""
    require_tools(settings.provider, tools_of(settings, making))
    toolbox = toolbox_of(making)
    maker = maker_of(settings, making, Shell(narrator))
    return open_made(maker, settings.topologies[0], toolbox, narrator, keep=settings.keep)


def are_kept(settings: Settings, making: Making, narrator: Narrator) -> bool:
    """Whether an earlier run has left the clusters, as far as is written down."""
    require_tools(settings.provider, tools_of(settings, making))
    return is_kept(maker_of(settings, making, Shell(narrator)))


# -- what would be done -----------------------------------------------------------------------------------------------


def plan_of(settings: Settings) -> str:
    """What a run with these settings would do, as a shell script with comments. Nothing is asked and nothing started.

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
    yield f"# lab {settings.lab_name} is used if it is up; else Debian packages that are missing are installed, what is"
    yield f"# not in the cache is built, and {clusters} are started on this machine, as root (docs/lab.md)"
    for topology in settings.topologies:
        yield f"# {topology.name}: {_routes(topology)}; {_mesh(settings)}, and the claims are proven"
    yield "# a lab that was started stays up, with its mesh" if settings.keep else "# a lab that was started is removed"


def _looking(settings: Settings) -> Iterator[str]:
    assert settings.attachment is not None
    named, source = settings.attachment.contexts, settings.attachment.source
    for cluster in settings.topologies[0].clusters:
        context = named[cluster.name].name if cluster.name in named else cluster.name
        yield f"# {cluster.name} is context {context} of {source}: asked for its version and our rights"
    for topology in settings.topologies:
        yield f"# {topology.name}: {_mesh(settings)}, and the claims are proven (docs/attach.md)"
    if not settings.installs:
        yield "# clusters stay as they are; probe namespaces that were made are removed"


def _mesh(settings: Settings) -> str:
    return "the mesh is installed" if settings.installs else f"the mesh that is there is used ({MESH.flag}=existing)"


def _routes(topology: Topology) -> str:
    return "routes between pods" if any(topology.pairs_on_one_network) else "no routes between pods"


def _commands(settings: Settings, making: Making) -> Iterator[str]:
    tools = tools_of(settings, making)
    missing = missing_tools(tools, shutil.which)
    yield f"# needs {', '.join(tool.name for tool in tools)}" + (
        f"; not in PATH here: {', '.join(tool.name for tool in missing)}" if missing else ""
    )
    yield "# as if no such clusters existed; answers to questions are examples, which later commands use"
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
    yield "\n# -- in the end"
    if settings.keep:
        yield "# clusters and mesh stay (--keep); the next run without --keep removes them:"
    maker.existing(tuple(maker.names.values()))
    maker.remove(tuple(maker.names.values()))
    yield from _script_lines(rehearsal, as_comment=settings.keep)


def _istioctl(making: Making) -> Path | str:
    return making.istioctl or ISTIOCTL.name


def _script_lines(rehearsal: DryRunner, *, as_comment: bool = False) -> Iterator[str]:
    """What has been rehearsed since the last time."""
    for command in rehearsal.commands:
        yield f"\n# {command.why}"
        yield "\n".join(f"# {line}" for line in command.text.splitlines()) if as_comment else command.text
        if command.example:
            yield f"# answers, for example: {' '.join(command.example.split())}"
    rehearsal.commands.clear()
