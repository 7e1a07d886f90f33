"""Plans that are none, keys that are not named by ARN, pairs that are no text, and what a report must name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sealwax import errors, fleet
from sealwax.fleet._planfile import is_plan
from sealwax.fleet._usage import find_users
from tests.fleet.fleets import Keys, plan, run, seal_many


def test_what_is_a_plan(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 1)
    plan(keys, folder, path)
    short = folder / "short"
    short.write_bytes(b"SQLite format 3\0")
    assert is_plan(str(path))
    assert is_plan(str(short)) is False
    assert is_plan(str(folder)) is False
    assert is_plan(str(folder / "missing")) is False


def test_users_of_a_key_are_found_by_its_arn_only(folder: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="'alias/app' is not a key ARN"):
        find_users([str(folder)], "alias/app")


@pytest.mark.parametrize("pairs", [["ab"], [("name", 1)], [("name", "value", "more")], [{"a": "b"}]])
def test_pairs_are_pairs_of_text(pairs: Any) -> None:
    with pytest.raises(TypeError, match="pairs must be"):
        fleet.Contexts(pairs)


def test_a_report_names_keys_and_reasons(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 3)
    planned = plan(keys, folder, path)
    text = str(planned)
    assert keys.one in text
    assert "3 distinct wrapped keys" in text
    assert planned.reasons == {"keys": 3}
    assert "3 under other keys" in text
    assert planned.wrapped == 3
    assert keys.new in str(run(keys, path))
