"""--metrics: what a run has asked of KMS, on standard error."""

from __future__ import annotations

import pytest

import sealwax
from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import Shell


@pytest.mark.usefixtures("plain")
def test_each_verb_tells_its_calls(shell: Shell) -> None:
    for count, arguments in (
        (1, ("encrypt", *K, "a.bin")),
        (1, ("verify", *K, "a.bin.swx")),
        (1, ("decrypt", *K, "-o", "b.bin", "a.bin.swx")),
        (2, ("rewrap", *K, "--to", "alias/demo2", "--verify", "a.bin.swx")),
    ):
        done = shell.sealwax(*arguments, *PURPOSE, "--metrics").succeeded()
        assert f"KMS calls: {count}; saved by caching: 0; cost: 0.00000{3 * count} USD" in done.err, done.err
        assert b"KMS calls" not in done.out


def test_values_under_one_data_key_are_opened_with_one_call(shell: Shell, keys: Keys) -> None:
    inner = sealwax.KmsKeyring(keys.demo, session=keys.lab.session())
    with sealwax.CachingKeyring(inner, max_age=60) as cache:
        for number in range(5):
            sealed = sealwax.Sealer(cache).encrypt(b"x", context={"purpose": "backup"})
            shell.write(f"in/{number}.swx", sealed)
    before = keys.calls().count("Decrypt")
    done = shell.sealwax("decrypt", *K, *PURPOSE, "-r", "-o", "out", "in", "--metrics").succeeded()
    assert keys.calls().count("Decrypt") == before + 1
    assert "KMS calls: 1; saved by caching: 4;" in done.err


@pytest.mark.usefixtures("plain")
def test_failures_are_told(shell: Shell) -> None:
    done = shell.sealwax("encrypt", "-k", "alias/none", *PURPOSE, "--metrics", "a.bin")
    assert done.status == 7
    assert "KMS calls: 1 (1 failed)" in done.err


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("arguments", [("encrypt", "a.bin"), ("encrypt", *K, "a.bin", *PURPOSE)])
def test_nothing_is_told_unasked_or_of_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    metrics = () if K[0] in arguments else ("--metrics",)
    assert "KMS calls" not in shell.sealwax(*arguments, *metrics).err
