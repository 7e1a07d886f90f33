"""A fleet of 2,000 files of mixed keys and materials, from the plan to the proof."""

from __future__ import annotations

from pathlib import Path

import sealwax
from sealwax import fleet
from tests.fleet.fleets import Keys, envelopes, fill, marks, payloads, plan

COUNT = 2000


def test_a_fleet_is_planned_rewrapped_and_proven(keys: Keys, folder: Path, path: Path) -> None:
    rotate(keys, folder, path, COUNT)


def rotate(keys: Keys, folder: Path, path: Path, count: int) -> None:
    """Hold what must hold of the rotation of ``count`` files."""
    distinct = fill(folder, keys, count)
    assert count / 2 < distinct < count * 0.6
    before, written, made = payloads(folder), marks(folder), keys.calls()

    planned = plan(keys, folder, path, digests=None)
    assert keys.calls() - made == {"DescribeKey": 1, "ListKeyRotations": 1}
    assert marks(folder) == written
    assert (planned.objects, planned.stale, planned.kms_calls) == (count, count, distinct)
    assert planned.digests == count
    assert planned.contexts == 3
    # Two materials of one of the keys; those under both keys count for each.
    assert {arn for arn, _, _ in planned.before} == set(keys.old)
    assert len(planned.before) == 4
    assert sum(objects for arn, _, objects in planned.before if arn == keys.one) == count - len(range(1, count, 3))
    assert planned.after == ((keys.new, planned.settings.wanted.keys[0].material_id.hex(), count),)

    made = keys.calls()
    done = fleet.run(path, session=keys.lab.session())
    assert keys.calls() - made == {"ReEncrypt": distinct}
    assert (done.rewrapped, done.stale, done.failed, done.kms_calls) == (count, 0, 0, distinct)
    assert done.after == planned.after
    for one in envelopes(folder):
        assert [key.key_arn for key in sealwax.inspect(one).wrapped_keys] == [keys.new]
    assert payloads(folder) == before

    made, written = keys.calls(), marks(folder)
    again = fleet.run(path, session=keys.lab.session())
    assert (again.rewrapped, again.kms_calls) == (0, 0)
    proven = fleet.verify(path, session=keys.lab.session(), decrypt=20)
    assert keys.calls() - made == {"Decrypt": 20}
    assert marks(folder) == written
    assert proven.checked is not None
    assert (proven.done, proven.stale, proven.rewrapped) == (True, 0, count)
    assert (proven.checked.digests, proven.checked.changed, proven.checked.decrypted) == (count, (), 20)
