"""Claims as records: one sentence that must hold, who promises it, to what it applies, and what to try if it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from meshproof.claims.references import Page, cited
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.core.model import Topology

F = TypeVar("F", bound=Callable[..., Any])


class Family(StrEnum):
    """What a claim is about; the first part of its code, in the order in which reports list them."""

    TRUST = "TRUST"
    DISCOVERY = "DISCOVERY"
    GATEWAYS = "GATEWAYS"
    CONTROL = "CONTROL"
    TRAFFIC = "TRAFFIC"
    FAILOVER = "FAILOVER"
    UPGRADE = "UPGRADE"


CODE: Final = re.compile(rf"({'|'.join(Family)})-\d\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a topology must have for a claim to apply to it.

    `name` is its name in documentation and markers, `applies` decides, `otherwise` is the reason that a report gives
    for NOT_APPLICABLE.
    """

    name: str
    applies: Callable[[Topology], bool]
    otherwise: str


EVERYWHERE: Final = Need(
    name="every topology",
    applies=lambda topology: True,
    otherwise="",
)
ACROSS_NETWORKS: Final = Need(
    name="more than one network",
    applies=lambda topology: len(topology.networks) > 1,
    otherwise="all clusters are on one network",
)
REMOTES: Final = Need(
    name="a remote cluster",
    applies=lambda topology: bool(topology.remotes),
    otherwise="every cluster is a primary",
)
TWO_PRIMARIES: Final = Need(
    name="at least two primaries",
    applies=lambda topology: len(topology.primaries) > 1,
    otherwise="there is only one primary",
)


class Isolation(StrEnum):
    """What may run at the same time as a claim, in the order in which claims begin.

    `EXCLUSIVE`: nothing; for claims that count what passes through proxies. `BEFORE_CONFIG_PUSHES`: nothing that has
    istiod push configuration; a push that is acknowledged hides one before it that was not. `SHARED`: everything.
    `PUSHES_CONFIG`: the claim has istiod push something itself, or uses the shared test bed.
    """

    EXCLUSIVE = "exclusive"
    BEFORE_CONFIG_PUSHES = "before configuration pushes"
    SHARED = "shared"
    PUSHES_CONFIG = "pushes configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence that must hold.

    `promised_by` is where Istio, Kubernetes or an RFC promises it, `hint` what to try when it does not hold, `needs`
    to which topologies it applies (all of them must), and `disruptive` whether proving it changes or breaks something.
    `isolation` is what may run at the same time, `deadline_s` how long the proof may take then, and `serial` is for a
    proof that must run by itself though it disrupts nothing. `credentials` names the credentials of the mesh the proof
    makes for itself; empty for none. `last` is for what leaves the mesh healthy, but slower: it comes after the others
    of its suite. `option` is the flag without which the claim does not apply. `settings` are the legal settings of
    Istio and Kubernetes that change what is expected or examined, with what becomes of it; empty if none is known.
    """

    code: str
    sentence: str
    promised_by: str
    hint: str
    needs: tuple[Need, ...]
    disruptive: bool
    isolation: Isolation = Isolation.SHARED
    deadline_s: float = DEADLINES.claim_s
    serial: bool = False
    credentials: str = ""
    last: bool = False
    option: str = ""
    settings: str = ""

    @property
    def concurrent(self) -> bool:
        """Whether it is proven at the same time as others."""
        return not (self.disruptive or self.serial)

    @property
    def family(self) -> Family:
        return Family(self.code.partition("-")[0])

    @property
    def pages(self) -> tuple[Page, ...]:
        """The web pages that `promised_by` cites."""
        return cited(self.promised_by)

    def __str__(self) -> str:
        return f"{self.code} {self.sentence}"


class Registry:
    """Every claim that was declared, by code. One code, one function that proves it."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._places: dict[str, str] = {}

    def add(self, claim: Claim, place: str) -> None:
        """Register `claim`, declared at `place` (`module.function`).

        Raises `Broken` for a malformed code, for an empty text, and for a code that another place has taken.
        The same place again is the same claim: pytest may import a module twice.
        """
        if not CODE.fullmatch(claim.code):
            raise Broken(
                f"claim {claim.code!r} at {place}",
                "a code is a family, a dash and two digits",
                f"use one of {', '.join(f'{family}-01' for family in Family)}",
            )
        for field in ("sentence", "promised_by", "hint"):
            if not getattr(claim, field).strip():
                raise Broken(f"claim {claim.code} at {place}", f"{field} is empty", "write one sentence")
        taken = self._places.get(claim.code)
        if taken is not None and taken != place:
            raise Broken(f"claim {claim.code} at {place}", f"{taken} has this code", "use the next free number")
        self._claims[claim.code] = claim
        self._places[claim.code] = place

    def __iter__(self) -> Iterator[Claim]:
        """The claims by family, then by number."""
        order = list(Family)
        return iter(sorted(self._claims.values(), key=lambda c: (order.index(c.family), c.code)))

    def __len__(self) -> int:
        return len(self._claims)

    def __contains__(self, code: object) -> bool:
        return code in self._claims

    def __getitem__(self, code: str) -> Claim:
        """The claim of that code; `KeyError` if none is declared (its test module may not be imported)."""
        return self._claims[code]

    def place_of(self, claim: Claim) -> str:
        """Where a claim is declared: `module.function`."""
        return self._places[claim.code]


REGISTRY: Final = Registry()
"""The claims of every suite that has been imported."""


def claim(
    code: str,
    sentence: str,
    *,
    promised_by: str,
    hint: str,
    needs: Need | tuple[Need, ...] = EVERYWHERE,
    disruptive: bool = False,
    isolation: Isolation = Isolation.SHARED,
    deadline_s: float = DEADLINES.claim_s,
    serial: bool = False,
    credentials: str = "",
    last: bool = False,
    option: str = "",
    settings: str = "",
    registry: Registry = REGISTRY,
) -> Callable[[F], F]:
    """Declare that the decorated function proves a claim: registers it and attaches it as `function.__claim__`.

    Raises what `Registry.add` raises.
    """
    record = Claim(
        code=code,
        sentence=sentence,
        promised_by=promised_by,
        hint=hint,
        needs=needs if isinstance(needs, tuple) else (needs,),
        disruptive=disruptive,
        isolation=isolation,
        deadline_s=deadline_s,
        serial=serial,
        credentials=credentials,
        last=last,
        option=option,
        settings=settings,
    )

    def declare(function: F) -> F:
        registry.add(record, f"{function.__module__}.{function.__qualname__}")
        function.__claim__ = record  # type: ignore[attr-defined]
        return function

    return declare


def claim_of(function: object) -> Claim | None:
    """The claim that a function proves, or None if it declares none."""
    found = getattr(function, "__claim__", None)
    return found if isinstance(found, Claim) else None


def not_applicable(claim: Claim, topology: Topology) -> str | None:
    """Why a claim does not apply to a topology, or None if it does."""
    for need in claim.needs:
        if not need.applies(topology):
            return f"{topology.name}: {need.otherwise}"
    return None
