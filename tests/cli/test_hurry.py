"""What somebody in a hurry does, and is told."""

from __future__ import annotations

import pytest

import sealwax
from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import Shell, without_privileges

READERS = ("decrypt", "verify", "rewrap", "reencrypt", "inspect")


def _arguments(verb: str) -> tuple[str, ...]:
    if verb == "inspect":
        return ()
    to = ("--to", "alias/demo2") if verb.startswith("re") else ()
    return (*K, *PURPOSE, *to, *(("-o", "out") if verb == "decrypt" else ()))


@pytest.mark.parametrize("verb", READERS)
def test_what_is_no_envelope_is_told_apart(shell: Shell, verb: str, sealed: bytes) -> None:
    shell.write("empty", b"")
    shell.write("plain", b"Dear diary")
    shell.write("text", sealwax.armor(sealed).encode())
    with shell.unchanged():
        for name, words in (
            ("empty", "this is not a sealwax envelope: it is empty"),
            ("plain", "it is another kind of file, or the payload of a detached header"),
            ("text", "; convert it to binary first, or use --armor"),
        ):
            done = shell.sealwax(verb, *_arguments(verb), name).failed(4)
            assert done.last_line.startswith(f"sealwax: {name}: ")
            assert done.last_line.endswith(words), done


@pytest.mark.usefixtures("sealed")
def test_a_context_that_was_forgotten(shell: Shell) -> None:
    shell.sealwax("encrypt", *K, "a.bin").failed(6, "bind the data to one with -c NAME=VALUE, or use --no-context")
    for verb in ("decrypt", "verify", "rewrap"):
        arguments = [one for one in _arguments(verb) if one not in PURPOSE]
        with shell.unchanged():
            shell.sealwax(verb, *arguments, "a.swx").failed(
                6, "no context was given; give the one", "--accept-stored-context"
            )


@pytest.mark.usefixtures("sealed")
def test_what_is_there_already(shell: Shell) -> None:
    shell.write("a.bin.swx", b"something else")
    with shell.unchanged():
        shell.sealwax("encrypt", *K, *PURPOSE, "a.bin").failed(1, "already exists; use --force to overwrite it")
        shell.sealwax("decrypt", *K, *PURPOSE, "-o", "a.bin", "a.swx").failed(1, "already exists; use --force")


@pytest.mark.usefixtures("sealed")
def test_an_envelope_is_not_sealed_again_unawares(shell: Shell) -> None:
    done = shell.sealwax("encrypt", *K, *PURPOSE, "a.bin", "a.swx").succeeded()
    told = [line for line in done.err.splitlines() if "this is already an envelope; encrypting it again" in line]
    assert told == ["sealwax: a.swx: this is already an envelope; encrypting it again"]
    shell.sealwax("decrypt", *K, *PURPOSE, "-o", "once", "a.swx.swx").succeeded()
    assert shell.read("once") == shell.read("a.swx")


def test_files_that_cannot_be_looked_at_do_not_end_the_run(shell: Shell) -> None:
    shell.write("in/closed/hidden", b"data")
    shell.write("in/open", b"data")
    closed = shell.folder / "in/closed"
    closed.chmod(0o400)
    try:
        done = shell.sealwax("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in", preexec=without_privileges)
    finally:
        closed.chmod(0o700)
    done.failed(8, "in/closed/hidden", "Permission denied", "1 of 2 failed", "run the same command again to resume")
    assert sorted(path.name for path in (shell.folder / "out").rglob("*")) == ["open.swx"]


def test_what_is_damaged_is_to_be_restored(shell: Shell, sealed: bytes) -> None:
    shell.write("b.swx", sealed[:-1])
    done = shell.sealwax("verify", *K, *PURPOSE, "a.swx", "b.swx")
    done.failed(8, "sealwax: 1 of 2 failed; 1 authentic; ")
    assert done.last_line == "sealwax: next: restore what is damaged from a good copy, then verify again"
    done = shell.sealwax("verify", *K, *PURPOSE, "b.swx", "nowhere.swx").failed(5)
    assert done.last_line.endswith(" from a good copy, fix the other causes, then verify again")


def test_nobody_is_told_to_restore_what_a_lost_region_hides(shell: Shell, sealed: bytes) -> None:
    shell.write("b.swx", sealed)
    shell.sealwax("lab", "fault", "--region", "us-east-1", "--down").succeeded()
    try:
        done = shell.sealwax("verify", *K, *PURPOSE, "a.swx", "b.swx").failed(7, "2 of 2 failed")
    finally:
        shell.sealwax("lab", "fault", "--region", "us-east-1", "--clear").succeeded()
    assert done.last_line == "sealwax: next: fix the causes, then verify again"


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("verb", ["rewrap", "reencrypt"])
def test_the_same_once_more(shell: Shell, keys: Keys, verb: str) -> None:
    advice = "name the keys of --to by their ARNs to skip it"
    shell.sealwax(verb, *K, *PURPOSE, "--to", "alias/demo2", "a.swx").succeeded()
    with shell.unchanged():
        if verb == "rewrap":
            shell.sealwax(verb, *K, *PURPOSE, "--to", "alias/demo2", "a.swx").failed(
                7, "'alias/demo' does not point to", advice
            )
        else:  # which makes data keys, and so knows what the alias means
            done = shell.sealwax(verb, *K, *PURPOSE, "--to", "alias/demo2", "a.swx").succeeded()
            assert "according to its header" in done.err
        done = shell.sealwax(verb, *K, *PURPOSE, "--to", keys.demo2, "a.swx").succeeded()
        assert "according to its header" in done.err
        assert advice not in shell.sealwax(verb, *K, *PURPOSE, "--to", keys.foreign, "a.swx").failed(7).err


@pytest.mark.usefixtures("sealed")
def test_the_same_once_more_with_several_old_keys(shell: Shell, keys: Keys) -> None:
    old = (*K, "-k", "alias/foreign")
    shell.sealwax("rewrap", *old, *PURPOSE, "--to", keys.demo2, "a.swx").succeeded()
    with shell.unchanged():
        done = shell.sealwax("rewrap", *old, *PURPOSE, "--to", keys.demo2, "a.swx").succeeded()
        assert "according to its header" in done.err
        advice = "name the keys of --to by their ARNs to skip it"
        shell.sealwax("rewrap", *old, *PURPOSE, "--to", "alias/demo2", "a.swx").failed(
            7, "'alias/demo' does not point to", "'alias/foreign' does not point to", advice
        )
