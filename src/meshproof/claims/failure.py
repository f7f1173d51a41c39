"""The text of a failed claim: the sentence, what was seen, on which mesh, where to look, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from textwrap import shorten
from typing import Final

from meshproof.claims.claim import Claim
from meshproof.claims.findings import INDENT, listed
from meshproof.core.model import Topology
from meshproof.core.option_names import KEEP_FLAG

MOST_IN_LINE: Final = 160


def render_failure(
    claim: Claim,
    topology: Topology,
    said: str,
    *,
    evidence: Sequence[Path] = (),
    beneath: Sequence[str] = (),
    notes: Sequence[str] = (),
    options: str = KEEP_FLAG,
) -> str:
    """The whole text for a claim that does not hold.

    `said` is the text of `ClaimFailed`: its first line is put behind the sentence, the rest below it as it is.
    `evidence` are files to look at, `beneath` troubles of the provider, `notes` what was added to the exception,
    `options` what a command needs to use the same clusters.
    """
    first, *rest = said.strip().splitlines() or ["it does not hold"]
    lines = [f"{claim.code} {claim.sentence}: {first}", *rest]
    lines += [listed("also", notes)] if notes else []
    lines.append(f"  mesh        {mesh_line(topology)}")
    lines += [listed("beneath", beneath)] if beneath else []
    lines += [listed("look at", [str(path) for path in evidence])] if evidence else []
    lines.append(f"  promised    {claim.promised_by}")
    lines.append(f"  try         {_wrapped(claim.hint)}")
    lines.append(f"  again       {again(claim, topology, options)}")
    return "\n".join(lines)


def render_broken(
    claim: Claim,
    topology: Topology,
    said: str,
    *,
    beneath: Sequence[str] = (),
    notes: Sequence[str] = (),
    options: str = KEEP_FLAG,
) -> str:
    """The text for a claim without a result, because our tool or its environment failed."""
    lines = [f"{claim.code} BROKEN, so nothing is known about: {claim.sentence}"]
    lines += [f"  {line}" for line in said.strip().splitlines()]
    lines += [listed("also", notes)] if notes else []
    lines += [listed("beneath", beneath)] if beneath else []
    lines.append(f"  mesh        {mesh_line(topology)}")
    lines.append(f"  again       {again(claim, topology, options)}")
    return "\n".join(lines)


def why_broken(text: str) -> tuple[str, str]:
    """The cause and its repair in a text of `render_broken`: the same for each claim with that cause.

    Any other text is its own cause.
    """
    head, *rest = text.strip().splitlines() or [""]
    if " BROKEN, so nothing is known about: " not in head:
        return text.strip(), ""
    said = [line.removeprefix("  ") for line in takewhile(lambda line: not line.startswith(_LABELS), rest)]
    repairs = [line.lstrip().removeprefix(_REPAIR) for line in said if line.lstrip().startswith(_REPAIR)]
    cause = [line for line in said if not line.lstrip().startswith(_REPAIR)]
    return "\n".join(cause), "; ".join(repairs)


_LABELS: Final = tuple(f"  {label:<12}" for label in ("also", "beneath", "mesh"))
_REPAIR: Final = "repair: "


def in_one_line(text: str) -> str:
    """The first two lines and the repair of both texts above, for lists with one line per claim."""
    head, *rest = text.splitlines()
    shown = [line for place, line in enumerate(rest) if place == 0 or line.lstrip().startswith(("try ", "repair: "))]
    return " ▸ ".join([head, *(shorten(line, MOST_IN_LINE, placeholder=" …") for line in shown)])


def mesh_line(topology: Topology) -> str:
    """A topology in one line: `multi-primary-multinet: cluster1(primary, network1) cluster2(primary, network2)`."""
    clusters = " ".join(
        f"{c.name}({c.role if c.control_plane == c.name else f'{c.role} of {c.control_plane}'}, {c.network})"
        for c in topology.clusters
    )
    return f"{topology.name}: {clusters}"


def again(claim: Claim, topology: Topology, options: str = KEEP_FLAG) -> str:
    """A command that runs this claim alone on this topology."""
    return f"pytest --topology={topology.name} -k {claim.code} {options}"


def _wrapped(text: str) -> str:
    return f"\n{INDENT}".join(text.splitlines())
