"""What must not open does not: its own status, one sentence, and no file made, changed or removed."""

from __future__ import annotations

import base64
import dataclasses
import os
import resource
import signal
from pathlib import Path

import pytest

import sealwax
from sealwax._core import envelope
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import header as hdr
from sealwax._core.format.header import Slot
from sealwax._core.keyring import WrappedKey
from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.cli.shell import Shell, flipped, payload_offset, without_privileges
from tests.faults.unfinished import with_slots

CONTEXT = {"purpose": "backup"}


def refused(shell: Shell, status: int, fragment: str, *arguments: str) -> None:
    """Hold that a command fails so, and that the folder is what it was."""
    with shell.unchanged():
        done = shell.sealwax(*arguments).failed(status, fragment)
        assert done.out == b""


def with_key(sealed: bytes, *keys: WrappedKey) -> bytes:
    """Return the envelope with other wrapped keys in its slot."""
    header = envelope.header_of_value(sealed)
    preamble = header.preamble
    made = hdr.lay_out(
        envelope_id=preamble.envelope_id,
        kms_context=preamble.kms_context,
        local_pairs=preamble.local_pairs,
        wrapped_keys=keys,
        slot_count=1,
        kind=preamble.kind,
    )
    return made.to_bytes() + sealed[payload_offset(sealed) :]


def the_key(sealed: bytes) -> WrappedKey:
    (key,) = sealwax.inspect(sealed).wrapped_keys
    return key


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        (("-c", "purpose=other"), "a different value of 'purpose'"),
        (("-c", "table=users"), "which the given context lacks"),
        ((), "no context was given"),
        (("--no-context",), "which the given context lacks"),
        ((*PURPOSE, "-c", "table=users"), "does not store 'table'"),
        ((*PURPOSE, "-c", "table=users", "--local-context", "table"), "0 local context pairs, 1 given"),
        ((*PURPOSE, "--local-context", "purpose"), "stores 'purpose', which this reader lists as local"),
        (("--accept-stored-context", "-c", "purpose=other"), "a different value of 'purpose'"),
    ],
)
def test_another_context_is_refused_before_any_call(
    shell: Shell, keys: Keys, given: tuple[str, ...], fragment: str
) -> None:
    before = len(keys.calls())
    refused(shell, 6, fragment, "decrypt", *K, *given, "-o", "out", "a.swx")
    refused(shell, 6, fragment, "verify", *K, *given, "a.swx")
    if "1 given" not in fragment:  # a re-wrap sees no payload, which is what binds local pairs
        refused(shell, 6, fragment, "rewrap", *K, "--to", "alias/demo2", *given, "a.swx")
    assert len(keys.calls()) == before


def test_a_pair_cannot_move_to_the_local_side_or_back(shell: Shell, keys: Keys) -> None:
    both = {"purpose": "backup", "id": "7"}
    local = sealwax.Sealer(sealwax.KmsKeyring(keys.demo, session=keys.lab.session()), local_context=("id",))
    shell.write("local.swx", local.encrypt(b"data", context=both))
    shell.write("stored.swx", keys.sealer(keys.demo).encrypt(b"data", context=both))
    given = (*K, *PURPOSE, "-c", "id=7", "-o", "out")
    refused(shell, 6, "does not store 'id'", "decrypt", *given, "local.swx")
    refused(shell, 6, "lists as local", "decrypt", *given, "--local-context", "id", "stored.swx")
    refused(shell, 6, "1 local context pair, 0 given", "decrypt", *K, *PURPOSE, "-o", "out", "local.swx")
    wrong = (*K, *PURPOSE, "-c", "id=8", "--local-context", "id", "-o", "out")
    refused(shell, 5, "", "decrypt", *wrong, "local.swx")
    shell.sealwax("decrypt", *given, "--local-context", "id", "local.swx").succeeded()
    assert shell.read("out") == b"data"


def test_an_altered_payload_is_refused_wherever_it_is(shell: Shell, sealed: bytes) -> None:
    start = payload_offset(sealed)
    chunk = 16400
    first = start + 56
    altered = {
        "salt": flipped(sealed, start),
        "commitment": flipped(sealed, start + 30),
        "first": flipped(sealed, first),
        "tag": flipped(sealed, first + chunk - 1),
        "middle": flipped(sealed, first + chunk + 77),
        "last": flipped(sealed, len(sealed) - 1),
        "at-a-border": sealed[: first + chunk],
        "at-the-next": sealed[: first + 2 * chunk],
        "between": sealed[: first + chunk + 1000],
        "after-the-head": sealed[:first],
        "in-the-head": sealed[: start + 20],
        "no-payload": sealed[:start],
        "short-by-one": sealed[:-1],
        "trailing": sealed + b"\0",
        "trailing-chunk": sealed + sealed[first : first + chunk],
        "swapped": sealed[:first]
        + sealed[first + chunk : first + 2 * chunk]
        + sealed[first : first + chunk]
        + sealed[first + 2 * chunk :],
    }
    for name, data in altered.items():
        shell.write(f"{name}.swx", data)
    names = [f"{name}.swx" for name in altered]
    with shell.unchanged():
        done = shell.sealwax("verify", "-v", *K, *PURPOSE, *names).failed(5)
        assert [line for line in done.err.splitlines() if "authentic" in line.partition(":")[2][:20]] == []
        assert all(f"sealwax: {name}: " in done.err for name in names)
        shell.sealwax("decrypt", *K, *PURPOSE, *names).failed(5)
        for name in ("first", "last", "between", "trailing"):
            done = shell.sealwax("decrypt", *K, *PURPOSE, "-", stdin=altered[name]).failed(5)
            assert done.out == b"" or shell.read("a.bin").startswith(done.out)
            assert len(done.out) < len(shell.read("a.bin"))
        shell.sealwax("decrypt", *K, *PURPOSE, "--range", "0:10", "-o", "out", "first.swx").failed(5)
        shell.sealwax("decrypt", *K, *PURPOSE, "--range", "0:10", "-o", "out", "between.swx").failed(5)


def test_a_damaged_header_is_refused(shell: Shell, sealed: bytes, keys: Keys) -> None:
    before = len(keys.calls())
    for at in (3, 8, 9, 10, 11, 12, 20, 32, 36, payload_offset(sealed) - 3, 100):
        shell.write("bad.swx", flipped(sealed, at))
        refused(shell, 4, "bad.swx: ", "inspect", "bad.swx")
    for verb in (("decrypt", "-o", "out"), ("verify",), ("rewrap", "--to", "alias/demo2")):
        refused(shell, 4, "bad.swx: ", *verb, *K, *PURPOSE, "bad.swx")
    assert len(keys.calls()) == before


def test_one_damaged_slot_opens_and_two_do_not(shell: Shell, keys: Keys) -> None:
    data = os.urandom(2_000_000)
    shell.write("a.bin", data)
    shell.sealwax("encrypt", *K, *PURPOSE, "-o", "a.swx", "a.bin").succeeded()
    sealed = shell.read("a.swx")
    one = flipped(sealed, 4096 + 10)
    shell.write("one.swx", one)
    shell.write("two.swx", flipped(one, 8192 + 10))
    shell.sealwax("decrypt", *K, *PURPOSE, "-o", "b.bin", "one.swx").succeeded()
    assert shell.read("b.bin") == data
    before = len(keys.calls())
    refused(shell, 4, "two.swx: ", "decrypt", *K, *PURPOSE, "-o", "out", "two.swx")
    refused(shell, 4, "two.swx: ", "rewrap", *K, "--to", "alias/demo2", *PURPOSE, "two.swx")
    assert len(keys.calls()) == before
    shell.sealwax("rewrap", *K, "--to", "alias/demo2", *PURPOSE, "one.swx").succeeded()
    shell.sealwax("verify", "-k", "alias/demo2", *PURPOSE, "one.swx").succeeded()


def test_a_wrapped_key_of_another_envelope_is_refused(shell: Shell, sealed: bytes, keys: Keys) -> None:
    same_context = keys.sealer(keys.demo).encrypt(b"other", context=CONTEXT)
    other_context = keys.sealer(keys.demo).encrypt(b"other", context={"purpose": "other"})
    shell.write("same.swx", with_key(sealed, the_key(same_context)))
    shell.write("other.swx", with_key(sealed, the_key(other_context)))
    refused(shell, 5, "same.swx: ", "decrypt", *K, *PURPOSE, "-o", "out", "same.swx")
    refused(shell, 5, "same.swx: ", "rewrap", "--verify", *K, "--to", "alias/demo2", *PURPOSE, "same.swx")
    refused(shell, 7, "InvalidCiphertextException", "decrypt", *K, *PURPOSE, "-o", "out", "other.swx")
    refused(shell, 7, "InvalidCiphertextException", "rewrap", *K, "--to", "alias/demo2", *PURPOSE, "other.swx")


def test_a_key_that_is_not_allowed_is_not_asked(shell: Shell, keys: Keys) -> None:
    shell.write("forged.swx", keys.sealer(keys.foreign).encrypt(b"forged", context=CONTEXT))
    before = len(keys.calls())
    for key in (keys.demo, keys.demo.rpartition("/")[2]):
        for verb in (("decrypt", "-o", "out"), ("verify",), ("rewrap", "--to", "alias/demo")):
            refused(shell, 7, "KMS was not called", *verb, "-k", key, *PURPOSE, "forged.swx")
    assert len(keys.calls()) == before
    # Under an alias, it is KMS that compares.
    refused(shell, 7, "does not point to", "decrypt", *K, *PURPOSE, "-o", "out", "forged.swx")
    refused(shell, 7, "does not point to", "rewrap", *K, "--to", "alias/demo", *PURPOSE, "forged.swx")


def test_a_relabelled_key_is_refused(shell: Shell, keys: Keys) -> None:
    forged = keys.sealer(keys.foreign).encrypt(b"forged", context=CONTEXT)
    shell.write("relabelled.swx", with_key(forged, dataclasses.replace(the_key(forged), key_arn=keys.demo)))
    for key in (keys.demo, "alias/demo"):
        refused(shell, 7, "", "decrypt", "-k", key, *PURPOSE, "-o", "out", "relabelled.swx")
        refused(shell, 7, "", "rewrap", "-k", key, "--to", "alias/demo2", *PURPOSE, "relabelled.swx")


def test_a_key_of_another_length_is_refused(shell: Shell, sealed: bytes, keys: Keys) -> None:
    answer = keys.lab.call(
        "Encrypt", KeyId=keys.demo, Plaintext=base64.b64encode(b"k" * 16).decode(), EncryptionContext=CONTEXT
    )
    blob = answer["CiphertextBlob"]
    short = dataclasses.replace(the_key(sealed), ciphertext=base64.b64decode(blob) if isinstance(blob, str) else blob)
    shell.write("short.swx", with_key(sealed, short))
    refused(shell, 5, "decrypted 16 bytes", "decrypt", *K, *PURPOSE, "-o", "out", "short.swx")


def test_files_of_one_run_cannot_be_exchanged(shell: Shell) -> None:
    shell.write("in/a/x", b"one")
    shell.write("in/b/x", b"two")
    shell.sealwax("encrypt", *K, "-r", "-c", "path={relpath}", "-o", "out", "in").succeeded()
    first, second = shell.folder / "out/a/x.swx", shell.folder / "out/b/x.swx"
    first.rename(shell.folder / "kept")
    second.rename(first)
    (shell.folder / "kept").rename(second)
    with shell.unchanged():
        done = shell.sealwax("decrypt", *K, "-r", "-c", "path={relpath}", "-o", "out", "out").failed(6)
        assert done.err.count("a different value of 'path'") == 2


@pytest.mark.usefixtures("sealed")
def test_the_output_is_not_the_input(shell: Shell) -> None:
    (shell.folder / "link").symlink_to("a.bin")
    os.link(shell.folder / "a.swx", shell.folder / "hard.swx")
    for output in ("a.bin", "./a.bin", "link"):
        refused(
            shell, 1, "the output would overwrite the input", "encrypt", *K, *PURPOSE, "--force", "-o", output, "a.bin"
        )
    for output in ("a.swx", "hard.swx"):
        refused(
            shell, 1, "the output would overwrite the input", "decrypt", *K, *PURPOSE, "--force", "-o", output, "a.swx"
        )
    refused(shell, 1, "already exists", "encrypt", *K, *PURPOSE, "-o", "a.swx", "a.bin")
    refused(shell, 1, "already exists", "decrypt", *K, *PURPOSE, "-o", "a.bin", "a.swx")


@pytest.mark.usefixtures("sealed")
def test_what_stands_in_the_way_stays_when_force_fails(shell: Shell) -> None:
    shell.write("out", b"precious")
    refused(shell, 6, "a different value", "decrypt", *K, "--force", "-c", "purpose=other", "-o", "out", "a.swx")
    refused(shell, 7, "no such key", "encrypt", "-k", "alias/none", "--force", *PURPOSE, "-o", "out", "a.bin")
    shell.write("short.swx", shell.read("a.swx")[:-20])
    refused(shell, 5, "", "decrypt", *K, "--force", *PURPOSE, "-o", "out", "short.swx")
    shell.sealwax("decrypt", *K, "--force", *PURPOSE, "-o", "out", "a.swx").succeeded()
    assert shell.read("out") == shell.read("a.bin")


@pytest.mark.usefixtures("sealed")
def test_permissions(shell: Shell) -> None:
    shell.write("locked/b.bin", b"data")
    shell.write("secret.bin", b"data").chmod(0)
    (shell.folder / "locked").chmod(0o555)
    shell.write("settings.json", b"{}").chmod(0)
    shell.write("tree/deep/b", b"data")
    shell.write("tree/c", b"data")
    (shell.folder / "tree/deep").chmod(0)

    def run(status: int, fragment: str, *arguments: str) -> None:
        done = shell.sealwax(*arguments, preexec=without_privileges).failed(status, fragment)
        assert "Permission denied" in done.err or "is not readable" in done.err

    before = sorted(path for path in shell.snapshot() if b"deep" not in path)
    run(1, "writing 'locked/b.swx' failed", "encrypt", *K, *PURPOSE, "-o", "locked/b.swx", "a.bin")
    run(1, "writing 'locked/b.bin.swx' failed", "encrypt", *K, *PURPOSE, "locked/b.bin")
    run(1, "opening 'secret.bin' failed", "encrypt", *K, *PURPOSE, "secret.bin")
    run(1, "opening 'secret.bin' failed", "inspect", "secret.bin")
    run(1, "creating the folder 'locked/new' failed", "encrypt", *K, *PURPOSE, "-o", "locked/new/", "a.bin")
    run(2, "settings.json", "encrypt", *K, "--context-file", "settings.json", "a.bin")
    # A folder that cannot be read is one failure among the files.
    run(8, "reading the folder 'tree/deep' failed", "encrypt", *K, *PURPOSE, "-r", "tree")
    (shell.folder / "tree/c.swx").unlink()
    assert sorted(path for path in shell.snapshot() if b"deep" not in path) == before
    for path in ("locked", "tree/deep"):
        (shell.folder / path).chmod(0o755)


def _small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000_000, 30_000_000))


def test_a_full_disk(shell: Shell) -> None:
    data = os.urandom(40_000_000)
    shell.write("a.bin", data)
    shell.sealwax("encrypt", *K, *PURPOSE, "a.bin").succeeded()
    shell.write("out", b"precious")
    with shell.unchanged():
        for arguments in (
            ("encrypt", "a.bin"),
            ("decrypt", "a.bin.swx"),
            ("rewrap", "--to", "alias/demo2", "a.bin.swx"),
        ):
            done = shell.sealwax(*arguments, *K, *PURPOSE, "--force", "-o", "out", preexec=_small_files)
            done.failed(1, "out' failed: File too large")
        for output in ("/dev/full", "-"):
            done = shell.bash(f"sealwax decrypt -k alias/demo -c purpose=backup -o {output} a.bin.swx > /dev/full")
            done.failed(1, "failed: No space left on device")


@pytest.mark.usefixtures("sealed")
def test_folders_and_streams_that_do_not_fit(shell: Shell) -> None:
    shell.write("in/x", b"1")
    shell.write("h", b"1")
    cases = {
        ("encrypt", "in"): "use -r to process the files in it",
        ("encrypt", "-r", "-o", "-", "in"): "cannot be written to one stream",
        ("encrypt", "-o", "-", "a.bin", "h"): "cannot be written to one stream",
        ("encrypt", "a.bin", "-"): "cannot be combined with other files",
        ("encrypt", "-", "-"): "cannot be combined with other files",
        ("verify", "-", "a.swx", "-"): "cannot be combined with other files",
        ("rewrap", "--to", "alias/demo2", "a.swx", "-"): "cannot be combined with other files",
        ("encrypt", "-o", "in", "-"): "has no file name",
        ("encrypt", "--json", "-o", "-", "a.bin"): "--json and the output",
        ("decrypt", "--json", "-"): "--json and the output",
        ("encrypt", "-c", "n={name}", "-"): "there is no named file here",
        ("decrypt", "a.swx", "a.bin"): "does not end with '.swx'",
        ("encrypt", "--detached", "h2", "a.bin", "h"): "--detached takes exactly one file",
        ("encrypt", "--detached", "h2", "-r", "in"): "--detached takes exactly one file",
        ("inspect", "--detached", "h2", "a.bin", "h"): "--detached takes exactly one file",
        ("encrypt", "--detached", "-", "a.bin"): "--detached takes the name of a file",
        ("encrypt", "--detached", "h2", "--armor", "a.bin"): "not both",
        ("rewrap", "--to", "alias/demo2", "--verify", "--detached", "h"): "name its file",
        ("rewrap", "a.swx"): "Missing option '--to'",
        ("encrypt", *(f"-kalias/k{number}" for number in range(17)), "a.bin"): "up to 16 keys",
        ("rewrap", *(f"--to=alias/k{number}" for number in range(17)), "a.swx"): "up to 16 keys",
        ("decrypt", "--range", "0:1", "-"): "--range needs a file",
        ("encrypt", "-c", "novalue", "a.bin"): "-c takes NAME=VALUE",
        ("encrypt", "-c", "=value", "a.bin"): "-c takes NAME=VALUE",
        ("encrypt", "-c", "purpose=other", "a.bin"): "given twice",
        ("encrypt", "--no-context", "a.bin"): "cannot be combined with other",
    }
    for arguments, fragment in cases.items():
        verb, *rest = arguments
        context = () if verb == "inspect" else PURPOSE
        keys = () if verb == "inspect" else K
        with shell.unchanged():
            done = shell.sealwax(verb, *keys, *context, *rest, stdin=shell.read("a.swx"))
            done.failed(2, fragment)
            assert done.out == b""


def test_two_files_do_not_share_an_output(shell: Shell) -> None:
    shell.write("one/x", b"1")
    shell.write("two/x", b"2")
    for extra in ((), ("--force",), ("-r", "--force")):
        done = shell.sealwax("encrypt", *K, *PURPOSE, *extra, "-o", "out/", "one/x", "two/x")
        done.failed(8, "two/x: 'out/x.swx' is already the output of another file")
        assert shell.sealwax("decrypt", *K, *PURPOSE, "-o", "-", "out/x.swx").succeeded().out == b"1"
        (shell.folder / "out/x.swx").unlink()


def test_a_refused_re_wrap_does_not_finish_an_earlier_one(here: Path, keys: Keys, run: Run) -> None:
    sealed = keys.sealer(keys.demo).encrypt(b"value", context=CONTEXT)
    rewrapped = keys.sealer(keys.demo).rewrap(sealed, to=keys.demo2, context=CONTEXT)
    newer, older = (sealwax.inspect(value).wrapped_keys for value in (rewrapped, sealed))
    half = here / "half.swx"
    half.write_bytes(with_slots(sealed, Slot(2, newer), Slot(1, older)))
    before = half.read_bytes(), half.stat().st_mtime_ns, half.stat().st_ctime_ns
    to = ("--to", keys.demo2)
    for status, arguments in (
        (6, (*K, *to, "-c", "purpose=TYPO")),
        (6, (*K, *to, "-c", "purpose=TYPO", "--verify")),
        (7, ("-k", "alias/foreign", *to, *PURPOSE)),
        (7, ("-k", "alias/foreign", *to, *PURPOSE, "--verify")),
        (7, (*K, "--to", "alias/nobody", *PURPOSE)),
        (6, (*K, *to, "-c", "purpose=TYPO", "-o", "other")),
    ):
        assert run("rewrap", *arguments, "half.swx") == status
        assert run("rewrap", *arguments, "-r", ".") == status
    assert (half.read_bytes(), half.stat().st_mtime_ns, half.stat().st_ctime_ns) == before
    # The same command as the one that was killed resumes it, though it does not allow the new key.
    assert run("rewrap", *K, *to, *PURPOSE, "half.swx") == 0
    assert inspect_envelope(half).header.finished
    keys.sealer(keys.demo2).verify(half, context=CONTEXT)
