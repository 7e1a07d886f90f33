"""What other programs have sealed under a KMS key: a key in use is not retired, and every verb names the format."""

from __future__ import annotations

import base64
import functools
import io
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.cli import run
from sealwax.fleet._usage import Usage, find_users
from sealwax.lab import Lab
from sealwax.stores.s3 import S3Store, Service
from tests.fakes import ALPHA, BETA, FakeKeyring
from tests.foreign import samples
from tests.s3 import S3Session, StrictS3

CONTEXT = {"purpose": "backup"}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALWAX_LAB", str(tmp_path / "lab"))
    (tmp_path / "data").mkdir()
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="old")
        lab.create_key(alias="new")
        yield lab


def arn_of(lab: Lab, key: str) -> str:
    arn: str = lab.session().client("kms").describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    return arn


def is_enabled(lab: Lab, key: str = "alias/old") -> bool:
    enabled: bool = lab.session().client("kms").describe_key(KeyId=key)["KeyMetadata"]["Enabled"]
    return enabled


def put(name: str, data: bytes | str) -> None:
    path = Path("data", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def retire(
    capfd: pytest.CaptureFixture[str], *options: str, key: str = "alias/old", where: str = "data"
) -> tuple[int, str]:
    capfd.readouterr()
    status = run(["keys", "retire", key, "--scan", where, *options])
    return status, capfd.readouterr().out


def retired(capfd: pytest.CaptureFixture[str], *options: str, **more: str) -> tuple[int, dict[str, Any]]:
    status, out = retire(capfd, "--json", *options, **more)
    found: dict[str, Any] = json.loads(out)
    return status, found


# --- keys retire


def test_what_names_the_key_is_under_it(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    arn = arn_of(lab, "alias/old")
    message = samples.esdk(("aws-kms", arn))
    title = "it is an AWS Encryption SDK message, version 2"
    for data, said in (
        (message, title),
        (samples.esdk(("aws-kms", arn), version=1), "it is an AWS Encryption SDK message, version 1"),
        (base64.encodebytes(message), f"{title} in base64"),
        (samples.zipped(message), f"{title}, compressed with gzip"),
        (samples.sops_yaml(arn), "it is a sops file"),
        (samples.sops_json(arn), "it is a sops file"),
    ):
        put("x", data)
        status, out = retire(capfd, "--apply")
        assert status == 3
        assert "needed by 1 object\n" in out
        assert f"data/x: {said}, under '{arn}'" in out
        assert is_enabled(lab)
    found = retired(capfd)[1]
    (example,) = found["examples"]
    assert (example["name"], example["keys"], found["formats"]) == ("data/x", [arn], {"sops": 1})


def test_what_does_not_tell_its_key_may_be_under_it(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    untold = samples.everything(samples.lab_blob(lab, "alias/new"))
    for told in ("esdk-v1", "esdk-v2", "sops"):
        del untold[told]
    assert len(untold) == 8
    for name, data in untold.items():
        put("x", data)
        status, out = retire(capfd, "--apply")
        assert status == 3
        assert f"formats   1 {name}\n" in out
        assert "maybe by  1 object that may be under it, but name no key" in out
        assert "data/x: it " in out
        assert "the KMS key that wraps it is unknown" in out
        assert is_enabled(lab)


def test_what_names_other_keys_is_counted(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    other = arn_of(lab, "alias/new")
    old = arn_of(lab, "alias/old")
    put("a", samples.esdk(("aws-kms", other), ("vault", "k")))
    put("b", samples.esdk(("raw", "k")))
    put("c.enc.yaml", samples.sops_yaml(other, old.replace("us-east-1", "eu-west-1").replace("1111", "2222", 1)))
    put("d.json", samples.sops_json())
    put("e.env", samples.sops_dotenv(other.rpartition("/")[2]))
    put(
        "f",
        sealwax.armor(
            sealwax.Sealer(sealwax.KmsKeyring("alias/new", session=lab.session())).encrypt(b"", context=CONTEXT)
        ),
    )
    put("notes.txt", "sops is a program")
    put("empty", "")
    put("image", samples.NOISE)
    status, out = retire(capfd, "--apply")
    assert status == 0, out
    assert "formats   3 sops, 2 esdk-v2, 1 sealwax-text; 6 of them are under other keys only" in out
    assert "other     2 in unknown formats, which may or may not need the key" in out
    assert not is_enabled(lab)
    status, found = retired(capfd)
    names = ("objects", "under", "unknown", "unnamed", "elsewhere", "unrecognized")
    assert (status, [found[name] for name in names]) == (0, [9, 0, 0, 0, 6, 2])


def test_one_of_several_keys_is_enough(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    other, old = arn_of(lab, "alias/new"), arn_of(lab, "alias/old")
    put("a", samples.esdk(("aws-kms", other), ("aws-kms", old)))
    put("b.json", samples.sops_json(other, old))
    one, two = (base64.b64encode(samples.esdk(("aws-kms", arn))).decode() for arn in (other, old))
    put("c.csv", f"1,{one}\n2,{two}\n")
    assert retired(capfd, "--apply")[1]["under"] == 3
    assert is_enabled(lab)


def test_how_a_key_may_be_named(lab: Lab) -> None:
    arn, other = arn_of(lab, "alias/old"), arn_of(lab, "alias/new")
    key_id = arn.rpartition("/")[2]
    alias = arn.replace(f"key/{key_id}", "alias/old")
    # True: the key; None: that cannot be told, since an alias may have been moved; False: certainly another.
    for name, means in (
        (arn, True),
        (key_id, True),
        (f" {arn} ", True),
        (f"{arn}+arn:aws:iam::111122223333:role/x", True),
        (arn.replace(key_id, key_id.upper()), True),
        ("alias/old", None),
        ("alias/new", None),
        (alias, None),
        ("something", None),
        (alias.replace("111122223333", "999999999999"), False),
        (alias.replace("us-east-1", "eu-west-1"), False),
        ("alias/aws/s3", False),
        (other, False),
        (other.rpartition("/")[2], False),
        (arn.replace("111122223333", "999999999999"), False),
    ):
        put("x.json", samples.sops_json(name))
        found = find_users(["data"], arn)
        assert (found.under, found.unnamed, found.elsewhere) == (means is True, means is None, means is False), name


def test_a_key_in_another_region_is_the_same_key(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    kms = lab.session().client("kms")
    primary = kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    kms.replicate_key(KeyId=primary, ReplicaRegion="eu-west-1")
    replica = primary.replace("us-east-1", "eu-west-1")
    third = primary.replace("us-east-1", "ap-south-1")
    for named in (primary, replica, third):
        put("x", samples.esdk(("aws-kms", named)))
        for key in (primary, replica):
            assert retire(capfd, "--apply", key=key)[0] == 3
    put("x", samples.sops_yaml(replica.replace("key/", "alias/x")))
    assert retire(capfd, key=primary)[0] == 3
    put("x", samples.sops_yaml(primary.rpartition("/")[2]))
    assert retire(capfd, key=replica)[0] == 3


def test_every_object_is_looked_at_whatever_its_name(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/old", session=lab.session()))
    sealed = sealer.encrypt(b"value", context=CONTEXT)
    header, _ = sealer.encrypt_detached(b"value", context=CONTEXT)
    text = sealwax.armor(sealed)
    forms: dict[str, bytes | str] = {
        "x": sealed,
        "x.bin": header,
        "x.txt": text,
        ".env": f"A=1\nB={text}\n",
        "deep/er/x": sealwax.armor(header),
        "x.gz": samples.zipped(sealed),
        ".sealwax-0123456789abcdef.part": sealed,
    }
    for name, data in forms.items():
        put(name, data)
    put("z", samples.NOISE)
    status, found = retired(capfd, "--apply")
    assert (status, found["under"], found["objects"], found["unrecognized"]) == (3, 7, 8, 1)
    arn = arn_of(lab, "alias/old")
    for name in forms:
        assert find_users([f"data/{name}"], arn).under == 1
    assert is_enabled(lab)


def test_a_damaged_header_of_another_format_tells_nothing(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    message = samples.esdk(("aws-kms", arn_of(lab, "alias/new")), ("aws-kms", arn_of(lab, "alias/old")))
    put("x", message[:300])
    assert retire(capfd, "--apply")[0] == 3
    assert is_enabled(lab)


def test_a_name_that_is_no_arn_of_a_key_is_refused() -> None:
    with pytest.raises(sealwax.ConfigurationError, match="is not a key ARN"):
        find_users(["."], "alias/old")


def test_names_in_a_message_are_no_terminal_codes(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    put("x", samples.esdk(("aws-kms", "\x1b[31m[/x]" + arn_of(lab, "alias/old")), ("\x1b]0;title\x07", "k")))
    status, out = retire(capfd)
    assert status == 3
    assert out.replace("\n", "").isprintable()


# --- S3


def used_in(s3: StrictS3, arn: str) -> Usage:
    """What needs a key in the bucket, by one client for all tests."""
    return find_users(["s3://bucket/"], arn, open_location=lambda where: S3Store(where, service=_service(s3.url)))


@functools.cache
def _service(url: str) -> Service:
    return Service(S3Session(url))


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


@pytest.fixture
def s3(server: StrictS3, monkeypatch: pytest.MonkeyPatch) -> StrictS3:
    server.bucket()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def test_objects_of_the_s3_encryption_client(lab: Lab, s3: StrictS3, capfd: pytest.CaptureFixture[str]) -> None:
    blob = samples.lab_blob(lab, "alias/old")
    for version in (1, 2, 3):
        metadata = samples.s3ec(version, blob)
        s3.client().put_object(Bucket="bucket", Key="a", Body=samples.NOISE, Metadata=metadata)
        s3.client().put_object(Bucket="bucket", Key="b", Body=b"", Metadata=metadata)
        s3.forget()
        found = used_in(s3, arn_of(lab, "alias/old"))
        assert (found.under, found.unnamed, found.formats) == (0, 2, {f"s3ec-v{version}": 2})
        # The metadata comes with the first bytes; where there are none, with the answer to a HEAD.
        assert s3.operations == ["ListObjectsV2", "GetObject", "GetObject", "HeadObject"]
        assert f"s3://bucket/a: it is an object of the S3 Encryption Client, V{version}; the KMS" in found.reasons[0]
    assert retire(capfd, "--apply", where="s3://bucket/")[0] == 3
    assert is_enabled(lab)


def test_an_s3_object_that_names_its_key(lab: Lab, s3: StrictS3) -> None:
    arn, other = arn_of(lab, "alias/old"), arn_of(lab, "alias/new")
    for named, means in ((other, False), (arn, True), (arn.rpartition("/")[2], True), ("alias/old", None)):
        metadata = samples.s3ec(2, samples.aws_blob(), "kms", named)
        s3.client().put_object(Bucket="bucket", Key="a", Body=samples.NOISE, Metadata=metadata)
        found = used_in(s3, arn)
        assert (found.under, found.unnamed) == (means is True, means is None)


def test_instruction_files_and_contradictions(lab: Lab, s3: StrictS3, capfd: pytest.CaptureFixture[str]) -> None:
    blob = samples.lab_blob(lab, "alias/new")
    body = json.dumps(samples.s3ec(2, blob)).encode()
    client = s3.client()
    client.put_object(Bucket="bucket", Key="a.instruction", Body=body, Metadata={"x-amz-crypto-instr-file": "a"})
    client.put_object(Bucket="bucket", Key="b.custom", Body=body)
    sealed = sealwax.Sealer(sealwax.KmsKeyring("alias/new", session=lab.session())).encrypt(b"", context=CONTEXT)
    client.put_object(Bucket="bucket", Key="c", Body=sealed, Metadata=samples.s3ec(3, blob))
    status, found = retired(capfd, "--apply", where="s3://bucket/")
    assert (status, found["unnamed"], found["formats"]) == (3, 3, {"s3ec-instruction-file": 2})
    assert "with a name that does not end with .instruction" in found["reasons"][1]
    assert "it is an object of the S3 Encryption Client, V3" in found["reasons"][2]
    assert run(["inspect", "s3://bucket/c"]) == 0
    assert "but its metadata says: it is an object of the S3 Encryption Client, V3" in capfd.readouterr().out


def test_what_s3_itself_keeps_under_the_key(lab: Lab, s3: StrictS3, capfd: pytest.CaptureFixture[str]) -> None:
    arn, other = arn_of(lab, "alias/old"), arn_of(lab, "alias/new")
    sealed = sealwax.Sealer(sealwax.KmsKeyring("alias/new", session=lab.session())).encrypt(b"", context=CONTEXT)
    client = s3.client()
    for body in (sealed, samples.NOISE, b""):
        for named, under in ((other, 0), (arn, 1)):
            kept = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": named}
            client.put_object(Bucket="bucket", Key="a", Body=body, **kept)
            assert used_in(s3, arn).under == under
    status, out = retire(capfd, where="s3://bucket/")
    assert status == 3
    assert f"s3://bucket/a: S3 itself encrypts it with the key (SSE-KMS) '{arn}'" in out


def test_what_is_read_of_an_object(lab: Lab, s3: StrictS3) -> None:
    client = s3.client()
    for body, most in (
        (bytes(range(256)) * 3000, 1),
        (b"x = 1\n" * 8_000, 2),
        (b"x = 1\n" * 100_000, 3),
        (samples.esdk(*(("aws-kms", f"{samples.ARN[:-3]}{at:03}") for at in range(400))), 3),
    ):
        client.put_object(Bucket="bucket", Key="a", Body=body)
        s3.forget()
        assert used_in(s3, arn_of(lab, "alias/old")).clear
        assert s3.operations.count("GetObject") <= most
        assert s3.sent < 400_000


# --- the other verbs


def _arguments(verb: str) -> list[str]:
    if verb == "inspect":
        return []
    to = ["--to", "alias/new"] if verb.startswith("re") else []
    return ["-k", "alias/old", "-c", "purpose=backup", *to, *(["-o", "out"] if verb == "decrypt" else [])]


def test_every_verb_names_the_format(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    arn = arn_of(lab, "alias/old")
    put("x", samples.esdk(("aws-kms", arn)))
    put("y", samples.sops_yaml(arn))
    put("z", samples.guide(samples.lab_blob(lab, "alias/old")))
    for verb in ("inspect", "verify", "decrypt", "rewrap", "reencrypt"):
        for name, format_, title in (
            ("x", "esdk-v2", f"it is an AWS Encryption SDK message, version 2, under '{arn}'"),
            ("y", "sops", f"it is a sops file, under '{arn}'"),
            ("z", "boto3-fernet", "it looks like a file of the boto3 guide"),
        ):
            if name == "x" and verb in ("inspect", "verify", "decrypt"):
                continue  # these read it: see test_messages.py
            before = Path("data", name).read_bytes()
            assert run([verb, *_arguments(verb), "--json", f"data/{name}"]) == 4
            out, err = capfd.readouterr()
            assert f"data/{name}: this is not a sealwax envelope: {title}" in err
            said = json.loads(out)
            assert (said["error"], said["format"], said["keys_complete"]) == (
                "NotAnEnvelopeError",
                format_,
                name != "z",
            )
            assert Path("data", name).read_bytes() == before


def test_a_stream_is_named_by_what_was_read_of_it(
    lab: Lab, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("x", samples.esdk(("aws-kms", arn_of(lab, "alias/old"))))
    with open("data/x", "rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run(["rewrap", *_arguments("rewrap"), "-"]) == 4
    assert "it is an AWS Encryption SDK message, version 2, under" in capfd.readouterr().err


def test_a_pipe_is_not_waited_for() -> None:
    class Pipe:
        """Has given out what came, and would wait for more."""

        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, size: int) -> bytes:
            assert self.data, "it was asked for more"
            part, self.data = self.data[:size], self.data[size:]
            return part

    with pytest.raises(sealwax.NotAnEnvelopeError, match="it is another kind of file"):
        sealwax.inspect(Pipe(samples.aws_blob()[:36]))  # type: ignore[arg-type]
    with pytest.raises(sealwax.DamagedHeaderError, match="cut off inside its header"):
        sealwax.inspect(io.BytesIO(samples.esdk(("aws-kms", samples.ARN))[:36]))


def test_the_library_names_it_too(tmp_path: Path) -> None:
    sealer = sealwax.Sealer(FakeKeyring(ALPHA))
    message = samples.esdk(("aws-kms", samples.ARN))
    path = tmp_path / "x"
    path.write_bytes(message)
    reads: tuple[Any, ...] = (
        lambda: sealer.rewrap(message, to=BETA, context=CONTEXT),
        lambda: sealer.reencrypt(path, context=CONTEXT),
        lambda: sealer.rewrap(path, to=BETA, context=CONTEXT),
    )
    for read in reads:
        with pytest.raises(sealwax.NotAnEnvelopeError, match="AWS Encryption SDK message") as caught:
            read()
        found = pickle.loads(pickle.dumps(caught.value)).foreign
        assert (found.format, found.keys, found.complete) == ("esdk-v2", (samples.ARN,), True)
    with pytest.raises(sealwax.NotAnEnvelopeError, match="it is empty"):
        sealwax.inspect(b"")


# --- fleets


PLAN = ["fleet", "plan", "--from", "alias/old", "--to", "alias/new", "-c", "purpose=*", "-o", "p"]


def test_a_fleet_counts_formats(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    old = arn_of(lab, "alias/old")
    everything = samples.everything(samples.lab_blob(lab, "alias/old"))
    for name, data in everything.items():
        put(name, data)
    put("esdk-more", samples.esdk(("aws-kms", old)))
    put("notes.txt", "Dear diary")
    sealed = sealwax.Sealer(sealwax.KmsKeyring("alias/old", session=lab.session())).encrypt(b"", context=CONTEXT)
    put("a.swx", sealed)
    put("b.swx", sealed)
    put("text", sealwax.armor(sealed))
    counts = dict.fromkeys(everything, 1) | {"esdk-v2": 2, "sealwax-text": 1, "unknown": 1}
    assert run([*PLAN, "--json", "--report", "page.html", "data"]) == 0
    planned = json.loads(capfd.readouterr().out)
    assert (planned["formats"], planned["foreign"], planned["stale"]) == (counts, 14, 2)
    assert planned["stale_because"] == {"keys": 2}
    assert {"key_arn": old, "key_material_id": None, "objects": 2} in planned["keys_before"]
    page = Path("page.html").read_text()
    for name, count in counts.items():
        assert f"<b>{count}</b>foreign: {name}</li>" in page
    # One that was an envelope at the plan is none any more.
    put("b.swx", samples.envkms(samples.aws_blob()))
    counts["envkms01"] = 2
    assert run(["fleet", "run", "p", "--apply", "--json"]) == 0
    done = json.loads(capfd.readouterr().out)
    assert (done["formats"], done["rewrapped"], done["stale_because"]) == (counts, 1, {"keys": 1})
    for verb in (["status"], ["verify"]):
        assert run(["fleet", *verb, "p"]) == 0
        out = capfd.readouterr().out
        assert "foreign      15: 2 envkms01, 2 esdk-v2, 1 boto3-fernet, " in out
        assert ", 1 unknown" in out
        assert f"it is an AWS Encryption SDK message, version 2, under '{old}'" in out
    assert run(["fleet", "status", "p", "--list"]) == 0
    assert capfd.readouterr().out.count("foreign: ") == 15


@pytest.mark.usefixtures("lab")
def test_a_fleet_in_s3_counts_formats(s3: StrictS3, capfd: pytest.CaptureFixture[str]) -> None:
    client = s3.client()
    client.put_object(Bucket="bucket", Key="a", Body=samples.NOISE, Metadata=samples.s3ec(3, samples.aws_blob()))
    client.put_object(Bucket="bucket", Key="b", Body=samples.esdk(("aws-kms", samples.ARN)))
    client.put_object(Bucket="bucket", Key="c", Body=samples.NOISE)
    assert run([*PLAN, "--json", "s3://bucket/"]) == 1, "none of them is an envelope"
    assert json.loads(capfd.readouterr().out)["formats"] == {"unknown": 1, "esdk-v2": 1, "s3ec-v3": 1}
    for verb in ("verify", "decrypt", "rewrap", "reencrypt"):
        # What is read of this format is refused for its context.
        read = verb in ("verify", "decrypt", "rewrap")
        assert run([verb, *_arguments(verb), "s3://bucket/a"]) == (6 if read else 4)
        expected = "does not store 'purpose'" if read else "it is an object of the S3 Encryption Client, V3"
        assert expected in capfd.readouterr().err
