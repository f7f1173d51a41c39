"""What claims may do on clusters of others, told before they are tried."""

from __future__ import annotations

from pathlib import Path

from meshproof.claims.claim import Claim
from meshproof.core.errors import Unavailable
from meshproof.run.policy import withheld
from meshproof.run.settings import read_settings


def claim(*, disruptive: bool = False, credentials: str = "") -> Claim:
    return Claim(
        code="TRUST-06",
        sentence="s",
        promised_by="p",
        hint="h",
        needs=(),
        disruptive=disruptive,
        credentials=credentials,
    )


def why(claim: Claim, *, provider: str, tmp_path: Path, **allowed: bool) -> str:
    (tmp_path / "config").touch()
    values: dict[str, object] = {f"meshproof_{name}": value for name, value in allowed.items()}
    values |= {"meshproof_provider": provider}
    values |= {"meshproof_kubeconfig": str(tmp_path / "config")} if provider == "kubeconfig" else {}
    found = withheld(claim, read_settings(values, root=tmp_path))
    assert found is None or isinstance(found, Unavailable)
    return str(found) if found else ""


SIGNS = claim(credentials="certificates signed with the key of the mesh's CA")
BREAKS = claim(disruptive=True)


def test_on_the_lab_everything_is_tried(tmp_path: Path) -> None:
    for each in (SIGNS, BREAKS, claim()):
        assert why(each, provider="lab", tmp_path=tmp_path) == ""


def test_on_clusters_of_others_it_must_be_allowed(tmp_path: Path) -> None:
    def told(each: Claim, **allowed: bool) -> str:
        return why(each, provider="kubeconfig", tmp_path=tmp_path, **allowed)

    assert told(claim()) == ""
    assert told(SIGNS, allow_disruptive=True) == (
        "certificates signed with the key of the mesh's CA, on clusters that meshproof did not create: not "
        "allowed by the options\n  repair: --allow-credentials"
    )
    assert told(BREAKS, allow_credentials=True) == (
        "breaking clusters that meshproof did not create: not allowed by the options\n  repair: --allow-disruptive"
    )
    assert told(SIGNS, allow_credentials=True) == told(BREAKS, allow_disruptive=True) == ""
