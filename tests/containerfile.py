"""As much of the language of Containerfiles as ours uses."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Containerfile:
    """Its instructions, in order; an instruction's words as they stand there."""

    instructions: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path = TOP / "deploy" / "Containerfile") -> Containerfile:
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        whole = "\n".join(lines).replace("\\\n", " ").splitlines()
        return cls(instructions=tuple((line.split()[0], line.split(maxsplit=1)[1]) for line in whole))

    def all(self, name: str) -> list[str]:
        return [words for instruction, words in self.instructions if instruction == name]

    def one(self, name: str) -> str:
        (words,) = self.all(name)
        return words

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for words in self.all("ENV") for pair in shlex.split(words))

    @property
    def entrypoint(self) -> list[str]:
        parsed = json.loads(self.one("ENTRYPOINT"))
        assert isinstance(parsed, list)
        return parsed

    @property
    def copies(self) -> dict[str, str]:
        """What is copied from the checkout: its path there -> its path below the image's WORKDIR."""
        found = {}
        for words in self.all("COPY"):
            *sources, target = words.split()
            for source in sources:
                found[source] = source if target == "./" else target
        return found
