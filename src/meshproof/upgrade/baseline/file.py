"""Record files: JSON with one fact per line, so that other programs can compare them as well."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from meshproof.core.errors import BadInput
from meshproof.core.path_options import read_text, write_text
from meshproof.upgrade.baseline.model import FORMAT, BaselineRecord, Content, Key, Sample
from meshproof.upgrade.baseline.normalise import canonical

AGAIN: Final = "take the record again: meshproof upgrade record"


def write_record(record: BaselineRecord, path: Path) -> None:
    """Raises `BadInput` if it cannot be written."""
    write_text(f"-o {path}", path, record_text(record))


def record_text(record: BaselineRecord) -> str:
    document = {
        "format": FORMAT,
        "mesh": record.mesh,
        "taken": record.taken.isoformat(),
        "samples": {source: asdict(sample) for source, sample in record.samples.items()},
        "parts": list(_parts(record)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _parts(record: BaselineRecord) -> Iterator[dict[str, object]]:
    """Parts that are equal in several workloads of a cluster are written once."""
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    contents: dict[tuple[str, str, str, str], Content] = {}
    for key, content in record.parts.items():
        same = (key.cluster, key.kind, key.name, canonical(content))
        alike.setdefault(same, []).append(key.workload)
        contents[same] = content
    for same in sorted(alike):
        cluster, kind, name, text = same
        yield {"cluster": cluster, "kind": kind, "name": name, "workloads": alike[same], "content": json.loads(text)}


def read_record(path: Path) -> BaselineRecord:
    """Raises `BadInput` with the problem in the file."""
    text = read_text(f"record {path}", path, "name a file that `meshproof upgrade record` wrote")
    try:
        document = json.loads(text)
    except ValueError as problem:
        raise BadInput(f"record {path}", f"it is not valid JSON: {problem}", AGAIN) from None
    return parse_record(document, f"record {path}")


def parse_record(document: Any, what: str) -> BaselineRecord:
    """The record in a parsed document. `what` names it in errors."""
    if not isinstance(document, dict) or "format" not in document:
        raise BadInput(what, "it is not a record", "name a file that `meshproof upgrade record` wrote")
    if document["format"] != FORMAT:
        raise BadInput(
            what, f"its format is {document['format']}, but this meshproof reads and writes only {FORMAT}", AGAIN
        )
    try:
        return BaselineRecord(
            mesh=str(document["mesh"]),
            taken=datetime.fromisoformat(document["taken"]),
            parts={key: content for part in document["parts"] for key, content in _read_part(part)},
            samples={str(source): _read_sample(sample) for source, sample in document["samples"].items()},
        )
    except KeyError as problem:
        raise BadInput(what, f"the field {problem.args[0]} is missing", AGAIN) from None
    except (TypeError, ValueError, AttributeError) as problem:
        raise BadInput(what, f"a field has a wrong type: {problem}", AGAIN) from None


def _read_part(part: Mapping[str, Any]) -> Iterator[tuple[Key, Content]]:
    for workload in part["workloads"]:
        key = Key(cluster=part["cluster"], workload=workload, kind=part["kind"], name=part["name"])
        yield key, part["content"]


def _read_sample(sample: Mapping[str, Any]) -> Sample:
    return Sample(
        counts={str(outcome): int(count) for outcome, count in sample["counts"].items()},
        promised={str(version): float(share) for version, share in sample["promised"].items()},
        latency={float(bound): int(count) for bound, count in sample["latency"].items()},
    )
