"""s3:// on the command line: every verb, over moto's server behind the strict layer."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax._core.envelope import inspect as inspect_envelope
from tests.cli.conftest import Keys
from tests.cli.shell import Shell, flipped
from tests.s3 import StrictS3, error

C = ("-c", "purpose=backup")
K = ("-k", "alias/demo")
K2 = ("-k", "alias/demo2")
CONTEXT = {"purpose": "backup"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


@pytest.fixture
def s3(server: StrictS3, shell: Shell) -> StrictS3:
    server.bucket()
    shell.environment.update(server.environment)
    return server


def stored(s3: StrictS3, key: str) -> bytes:
    body: bytes = s3.client().get_object(Bucket="bucket", Key=key)["Body"].read()
    return body


def objects(s3: StrictS3) -> list[str]:
    return [each["Key"] for each in s3.client().list_objects_v2(Bucket="bucket").get("Contents", [])]


def uploads(s3: StrictS3) -> int:
    return len(s3.client().list_multipart_uploads(Bucket="bucket").get("Uploads", []))


def test_there_and_back(shell: Shell, s3: StrictS3, plain: bytes) -> None:
    shell.transcript(
        """
        $ sealwax encrypt -k alias/demo -c purpose=backup a.bin s3://bucket/a.swx
        [2] each name is an input, 's3://bucket/a.swx' too; to write there, use -o s3://bucket/a.swx
        $ test ! -e a.bin.swx
        $ sealwax encrypt -k alias/demo -c purpose=backup -o s3://bucket/a.swx a.bin
        $ sealwax inspect s3://bucket/a.swx | grep -q 'purpose=backup'
        $ sealwax verify -k alias/demo -c purpose=backup s3://bucket/a.swx
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b.bin s3://bucket/a.swx && cmp a.bin b.bin
        $ sealwax decrypt -k alias/demo -c purpose=backup -o - s3://bucket/a.swx | cmp a.bin -
        $ sealwax rewrap -k alias/demo --to alias/demo2 -c purpose=backup s3://bucket/a.swx
        $ sealwax verify -k alias/demo -c purpose=backup s3://bucket/a.swx
        [7]
        $ sealwax verify -k alias/demo2 -c purpose=backup s3://bucket/a.swx
        $ sealwax reencrypt -k alias/demo2 --to alias/demo -c purpose=backup s3://bucket/a.swx
        $ sealwax verify -k alias/demo -c purpose=backup s3://bucket/a.swx
        $ sealwax decrypt -k alias/demo -c purpose=backup s3://bucket/a.swx
        [2] plaintext is put in S3 only if you name it
        $ sealwax decrypt -k alias/demo -c purpose=backup -r s3://bucket/
        [2] plaintext is put in S3 only if you name it
        $ sealwax decrypt -k alias/demo -c purpose=backup -o s3://bucket/a s3://bucket/a.swx
        $ cat a.bin | sealwax encrypt -k alias/demo -c purpose=backup -o s3://bucket/pipe.swx -
    """
    )
    assert objects(s3) == ["a", "a.swx", "pipe.swx"]
    assert stored(s3, "a") == plain


def test_an_odd_name(shell: Shell, s3: StrictS3, plain: bytes) -> None:
    """One with all that is odd; tests/stores has each by itself."""
    key = "//a b+%20?x=1//ü/日本.swx"
    shell.sealwax("encrypt", *K, *C, "-o", f"s3://bucket/{key}", "a.bin").succeeded()
    assert objects(s3) == [key]
    assert shell.sealwax("decrypt", *K, *C, "-o", "-", f"s3://bucket/{key}").succeeded().out == plain


def test_a_large_object_goes_in_parts_and_a_range_of_it_reads_little(shell: Shell, s3: StrictS3) -> None:
    data = os.urandom(20 * MIB)
    shell.write("big", data)
    shell.sealwax("encrypt", *K, *C, "-o", "s3://bucket/big.swx", "big").succeeded()
    assert s3.operations.count("UploadPart") == 3
    s3.forget()
    done = shell.sealwax("decrypt", *K, *C, "--range", "15000000:15000100", "-o", "-", "s3://bucket/big.swx")
    assert done.succeeded().out == data[15000000:15000100]
    assert s3.sent < 150_000
    s3.forget()
    shell.sealwax("rewrap", *K, "--to", "alias/demo2", *C, "s3://bucket/big.swx").succeeded()
    assert max(s3.sent, s3.received) < 6 * MIB
    assert "mistake" not in shell.sealwax("verify", *K2, *C, "s3://bucket/big.swx").succeeded().err


def test_a_folder_there_and_back(shell: Shell, s3: StrictS3) -> None:
    shell.write("tree/x", b"x")
    shell.write("tree/sub/y", b"y")
    up = ("encrypt", *K, "-c", "path={relpath}", "-r", "-o", "s3://bucket/t", "tree")
    shell.sealwax(*up).succeeded()
    assert objects(s3) == ["t/sub/y.swx", "t/x.swx"]
    before = [stored(s3, key) for key in objects(s3)]
    assert "already encrypted" in shell.sealwax(*up).succeeded().err
    assert [stored(s3, key) for key in objects(s3)] == before
    shell.sealwax("rewrap", *K, "--to", "alias/demo2", "-c", "path={relpath}", "-r", "s3://bucket/t/").succeeded()
    down = ("decrypt", *K2, "-c", "path={relpath}", "-r", "-o", "back", "s3://bucket/t/")
    shell.sealwax(*down).succeeded()
    assert (shell.read("back/x"), shell.read("back/sub/y")) == (b"x", b"y")
    assert "already decrypted" in shell.sealwax(*down).succeeded().err
    done = shell.sealwax("verify", "--json", *K2, "-c", "path={relpath}", "-r", "s3://bucket/t/").succeeded()
    assert [json.loads(line)["path"] for line in done.out.splitlines()[:-1]] == [
        "s3://bucket/t/sub/y.swx",
        "s3://bucket/t/x.swx",
    ]


def test_what_is_in_s3_already_is_told_by_what_it_is(shell: Shell, s3: StrictS3, keys: Keys) -> None:
    for name in ("same", "moved", "foreign", "newer", "other", "uploaded"):
        shell.write(f"tree/{name}", name.encode())
    up = ("encrypt", *K, *C, "-r", "-o", "s3://bucket/t", "tree")
    shell.sealwax(*up).succeeded()
    shell.sealwax("rewrap", *K, "--to", "alias/demo2", *C, "s3://bucket/t/moved.swx").succeeded()
    recorded = s3.client().head_object(Bucket="bucket", Key="t/foreign.swx")["Metadata"]
    others = {
        "foreign": (b"plaintext", recorded),
        "other": (keys.sealer(keys.demo).encrypt(b"other", context={"purpose": "else"}), recorded),
        "uploaded": (keys.sealer(keys.demo).encrypt(b"uploaded", context=CONTEXT), {}),
    }
    for name, (body, metadata) in others.items():
        s3.client().put_object(Bucket="bucket", Key=f"t/{name}.swx", Body=body, Metadata=metadata)
    os.utime(shell.write("tree/newer", b"later"), (2**31, 2**31))
    before = {key: stored(s3, key) for key in objects(s3)}
    done = shell.sealwax(*up).failed(
        8,
        "4 of 6 not done: 1 bound to another context, 1 under another key, 1 with a changed source, "
        "1 with an existing output",
    )
    assert "; 2 already encrypted; " in done.err
    assert {key: stored(s3, key) for key in objects(s3)} == before
    shell.sealwax(*up, "--update").failed(8, "3 of 6 not done")
    assert {key for key in before if stored(s3, key) != before[key]} == {"t/newer.swx"}
    # A part of an object, and objects that no envelope and no folder are.
    part = ("decrypt", *K, *C, "--range", "0:2", "-o", "s3://bucket/p/", "s3://bucket/t/same.swx")
    shell.sealwax(*part).succeeded()
    down = ("decrypt", *K, *C, "-o", "s3://bucket/p/", "s3://bucket/t/same.swx", "s3://bucket/t/newer.swx")
    shell.sealwax(*down).failed(8, "has 2 of its 4 bytes", "1 of 2 not done: 1 incomplete")
    s3.client().put_object(Bucket="bucket", Key="q/folder/", Body=b"data")
    s3.client().put_object(Bucket="bucket", Key="q/x.swx", Body=b"plaintext")
    shell.sealwax("encrypt", *K, *C, "-r", "-o", "out", "s3://bucket/q/").failed(
        1, "2 of 2 not done: 2 with an existing output"
    )


def test_a_key_does_not_lead_out_of_a_folder(shell: Shell, s3: StrictS3, sealed: bytes) -> None:
    for key in ("t/a//b.swx", "t//etc/x.swx", "t/ok.swx", "t/folder/"):
        s3.client().put_object(Bucket="bucket", Key=key, Body=sealed)
    done = shell.sealwax("decrypt", *K, *C, "-r", "-o", "out", "s3://bucket/t/")
    done.failed(8, "is not a valid path in a folder", "2 of 3 not done: 2 with an existing output")
    assert os.listdir(shell.folder / "out") == ["ok"]


def test_nothing_is_replaced_unasked(shell: Shell, s3: StrictS3, plain: bytes) -> None:
    s3.client().put_object(Bucket="bucket", Key="a.swx", Body=b"theirs")
    there = ("encrypt", *K, *C, "-o", "s3://bucket/a.swx", "a.bin")
    shell.sealwax(*there).failed(1, "s3://bucket/a.swx", "already exists")
    assert stored(s3, "a.swx") == b"theirs"
    shell.sealwax(*there, "--force").succeeded()
    shell.sealwax("decrypt", *K, *C, "-o", "s3://bucket/a.swx", "--force", "s3://bucket/a.swx").failed(
        1, "the output would overwrite the input"
    )
    assert shell.sealwax("decrypt", *K, *C, "-o", "-", "s3://bucket/a.swx").out == plain


def test_an_object_that_appears_meanwhile_is_not_replaced(shell: Shell, s3: StrictS3, plain: bytes) -> None:
    def appear(_: object) -> None:
        if s3.operations[-1] == "PutObject" and len(s3.operations) == 2:
            s3.client().put_object(Bucket="bucket", Key="a.swx", Body=b"theirs")

    with s3.fault(appear):
        shell.sealwax("encrypt", *K, *C, "-o", "s3://bucket/a.swx", "a.bin").failed(1, "already exists; use --force")
    assert stored(s3, "a.swx") == b"theirs"
    assert plain


def test_a_detached_header(shell: Shell, s3: StrictS3, plain: bytes) -> None:
    apart = ("--detached", "s3://bucket/a.hdr")
    shell.sealwax("encrypt", *K, *C, *apart, "-o", "s3://bucket/a.body", "a.bin").succeeded()
    assert objects(s3) == ["a.body", "a.hdr"]
    shell.sealwax("encrypt", *K, *C, *apart, "-o", "s3://bucket/a.body", "--force", "a.bin").failed(
        1, "cannot replace a payload and its header together"
    )
    shell.sealwax("rewrap", *K, "--to", "alias/demo2", *C, "--verify", *apart, "s3://bucket/a.body").succeeded()
    done = shell.sealwax("decrypt", *K2, *C, *apart, "-o", "-", "s3://bucket/a.body").succeeded()
    assert done.out == plain
    shell.sealwax("reencrypt", *K2, "--to", "alias/demo", *C, *apart, "s3://bucket/a.body").failed(2, "-o")
    shell.sealwax(
        "reencrypt", *K2, "--to", "alias/demo", *C, *apart, "-o", "s3://bucket/a.swx", "s3://bucket/a.body"
    ).succeeded()
    assert shell.sealwax("decrypt", *K, *C, "-o", "-", "s3://bucket/a.swx").succeeded().out == plain


def test_reencrypt_files(shell: Shell, sealed: bytes, plain: bytes, keys: Keys) -> None:
    again = ("reencrypt", *K, "--to", keys.demo2, *C, "a.swx")
    shell.sealwax(*again).succeeded()
    new = shell.read("a.swx")
    assert inspect_envelope(new).header.preamble.envelope_id != inspect_envelope(sealed).header.preamble.envelope_id
    assert keys.sealer(keys.demo2).decrypt(new, context=CONTEXT) == plain
    assert "according to its header" in shell.sealwax(*again).succeeded().err
    assert shell.read("a.swx") == new
    with shell.unchanged():
        shell.sealwax("reencrypt", *K2, "--to", "alias/demo", "-c", "purpose=other", "a.swx").failed(6)
        shell.sealwax("reencrypt", "-k", "alias/foreign", "--to", "alias/demo", *C, "a.swx").failed(7)
        shell.sealwax("reencrypt", "--to", "alias/demo", *C, "a.swx").failed(2, keys.demo2)
    shell.write("bad.swx", flipped(sealed, -1))
    with shell.unchanged():
        shell.sealwax("reencrypt", *K, "--to", "alias/demo2", *C, "bad.swx").failed(5)
        shell.sealwax("reencrypt", *K, "--to", "alias/demo2", *C, "-o", "new.swx", "bad.swx").failed(5)


def test_damage_and_failure_leave_no_object(shell: Shell, s3: StrictS3, sealed: bytes) -> None:
    shell.write("bad.swx", flipped(sealed, -1))
    s3.client().put_object(Bucket="bucket", Key="bad.swx", Body=flipped(sealed, -1))
    for source in ("bad.swx", "s3://bucket/bad.swx"):
        shell.sealwax("decrypt", *K, *C, "-o", "s3://bucket/new", source).failed(5)
        shell.sealwax("reencrypt", *K, "--to", "alias/demo2", *C, "-o", "s3://bucket/new", source).failed(5)
    shell.sealwax("reencrypt", *K, "--to", "alias/demo2", *C, "s3://bucket/bad.swx").failed(5)
    assert objects(s3) == ["bad.swx"]
    assert stored(s3, "bad.swx") == flipped(sealed, -1)
    shell.write("big", bytes(20 * MIB))
    with s3.fault(lambda request: error(403, "AccessDenied") if request.operation == "UploadPart" else None):
        shell.sealwax("encrypt", *K, *C, "-o", "s3://bucket/new", "big").failed(1, "not allowed", "s3://bucket/new")
    assert objects(s3) == ["bad.swx"]
    assert uploads(s3) == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_upload_is_aborted(shell: Shell, s3: StrictS3, stop: signal.Signals) -> None:
    begun = threading.Event()
    s3.after.append(lambda request: begun.set() if request.operation == "UploadPart" else None)
    read, write = os.pipe()
    with shell.start("encrypt", *K, *C, "-o", "s3://bucket/new", "-", stdin=read) as process:
        os.close(read)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(bytes(10 * MIB))
            pipe.flush()
            assert begun.wait(60)
            process.send_signal(stop)
            assert process.wait(60) in (130, 143)
    assert objects(s3) == []
    assert uploads(s3) == 0


def test_a_broken_connection_is_retried(shell: Shell, s3: StrictS3, keys: Keys) -> None:
    data = os.urandom(3 * MIB)
    s3.client().put_object(Bucket="bucket", Key="a", Body=keys.sealer(keys.demo).encrypt(data, context=CONTEXT))
    s3.forget()
    cut: list[int] = []

    def fault(_: object) -> str | None:
        cut.append(len(cut))
        return "cut" if cut[-1] % 2 == 0 else None

    with s3.fault(fault):
        assert shell.sealwax("decrypt", *K, *C, "-o", "-", "s3://bucket/a").succeeded().out == data
    assert len(cut) >= 4
    with s3.fault(lambda _: "cut"):
        shell.sealwax("decrypt", *K, *C, "-o", "x", "s3://bucket/a").failed(1, "broke off", "Try again")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "the caller is not allowed to"),
        (503, "SlowDown", "slow down"),
        (412, "PreconditionFailed", "replaced or removed meanwhile"),
    ],
)
def test_what_s3_answers_is_told_in_a_sentence(
    shell: Shell, s3: StrictS3, sealed: bytes, status: int, code: str, said: str
) -> None:
    s3.client().put_object(Bucket="bucket", Key="a", Body=sealed)
    with s3.fault(lambda _: error(status, code)):
        done = shell.sealwax("decrypt", *K, *C, "-o", "x", "s3://bucket/a").failed(1, said, code, "s3://bucket/a")
        assert done.last_line.count("\n") == 0


def test_a_conflict_is_neither_an_object_that_exists_nor_a_lost_cause(shell: Shell, s3: StrictS3, plain: bytes) -> None:
    there = ("encrypt", *K, *C, "-o", "s3://bucket/a.swx", "a.bin")
    with s3.fault(
        lambda request: error(409, "ConditionalRequestConflict") if request.operation == "PutObject" else None
    ):
        done = shell.sealwax(*there).failed(1, "another write of the same object is in progress", "Try again")
    assert "--force" not in done.err
    assert objects(s3) == []
    assert plain


def test_a_store_that_ignores_ranges_does_not_make_an_object_tampered_with(
    shell: Shell, s3: StrictS3, keys: Keys
) -> None:
    sealed = keys.sealer(keys.demo).encrypt(bytes(100_000), context=CONTEXT)
    headers = [
        ("ETag", '"e"'),
        ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("Content-Length", str(len(sealed))),
        ("x-amz-request-id", "R1"),
    ]
    with s3.fault(lambda request: (200, headers, sealed) if request.operation == "GetObject" else None):
        shell.sealwax("verify", *K, *C, "s3://bucket/a").failed(1, "The object may be intact")


def test_what_is_not_there(shell: Shell, s3: StrictS3) -> None:
    shell.sealwax("inspect", "s3://bucket/none").failed(1, "there is no such object")
    shell.sealwax("inspect", "s3://nowhere/none").failed(1, "there is no such bucket")
    shell.sealwax("verify", *K, *C, "s3://bucket/").failed(2, "use -r to process the objects below it")
    shell.sealwax("verify", *K, *C, "s3://bucket").failed(2, "use -r to process the objects below it")
    shell.sealwax("verify", *K, *C, "s3://bucket/../x").failed(1, "cannot be requested")
    for verb in (("verify", *K, *C), ("encrypt", *K, *C, "-o", "out")):
        shell.sealwax(*verb, "-r", "s3://bucket/").failed(1, "s3://bucket/: there are no objects below this prefix")
    s3.client().put_object(Bucket="bucket", Key="empty", Body=b"")
    shell.sealwax("inspect", "s3://bucket/empty").failed(4, "this is not a sealwax envelope: it is empty")
    shell.sealwax("verify", *C, "s3://bucket/empty").failed(2, "name the KMS keys")


def test_no_credentials(shell: Shell, s3: StrictS3, plain: bytes) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del shell.environment[name]
    shell.sealwax("inspect", "s3://bucket/a").failed(7, "there are no AWS credentials", "the lab, which has no S3")
    shell.sealwax("encrypt", *K, *C, "-o", "s3://bucket/a", "a.bin").failed(7, "there are no AWS credentials")
    assert plain
    assert s3.operations == []


def test_an_unreachable_server(shell: Shell, s3: StrictS3) -> None:
    shell.environment["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:1"
    shell.sealwax("inspect", "s3://bucket/a").failed(1, "S3 could not be reached", "AWS_ENDPOINT_URL_S3")
    assert s3.operations == []


def test_memory_stays_small(shell: Shell, s3: StrictS3) -> None:
    """What a pipe of 96 MiB takes more than one of 1 MiB: five parts of 8 MiB, and what they are sent from."""
    program = (
        "import resource, sys; from sealwax.cli import run; status = run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)"
    )
    peaks = []
    for size in (1, 96):
        done = shell.bash(
            f"head -c {size}M /dev/zero | {os.fsdecode(Path(sys.executable))} -c '{program}' "
            f"encrypt -q -k alias/demo -c purpose=backup -o s3://bucket/{size} -"
        ).succeeded()
        peaks.append(int(done.err.split()[-1]))
    assert objects(s3) == ["1", "96"]
    assert peaks[1] - peaks[0] < 64 * 1024


def test_several_objects_at_a_time(shell: Shell, s3: StrictS3, keys: Keys) -> None:
    lock = threading.Lock()
    under_way = peak = 0

    def slow(_: object) -> None:
        nonlocal under_way, peak
        with lock:
            under_way += 1
            peak = max(peak, under_way)
        time.sleep(0.03)
        with lock:
            under_way -= 1

    names = [f"{number:02}" for number in range(12)]
    for name in names:
        shell.write(f"in/{name}", name.encode())
    with s3.fault(slow):
        shell.sealwax("encrypt", *K, *C, "-r", "-o", "s3://bucket/p/", "in").succeeded()
        shell.sealwax("rewrap", *K, *C, "--to", keys.demo2, "-r", "s3://bucket/p/").succeeded()
        assert peak > 1
        peak = 0
        listed = [f"s3://bucket/p/{name}.swx" for name in names]
        done = shell.sealwax("decrypt", *K2, *C, "--json", "-o", "out", *listed).succeeded()
        assert peak > 1
    assert [json.loads(line)["path"] for line in done.out.splitlines()[:-1]] == listed
    assert [shell.read(f"out/{name}") for name in names] == [name.encode() for name in names]
    assert len(objects(s3)) == len(names)
