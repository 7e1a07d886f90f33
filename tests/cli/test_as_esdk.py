"""``encrypt --as esdk`` writes messages that the AWS Encryption SDK reads; every verb that reads takes them back."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_encryption_sdk
import boto3
import pytest
from aws_encryption_sdk.key_providers.kms import StrictAwsKmsMasterKeyProvider

from sealwax._core.foreign.esdk.header import header_of
from sealwax.cli import run
from sealwax.lab import Lab
from tests.foreign.test_real_messages import serving
from tests.s3 import StrictS3

CONTEXT = {"purpose": "backup"}
DATA = os.urandom((2 << 20) + 5)
GIVEN = ["-k", "alias/k", "-c", "purpose=backup"]
AS_ESDK = ["encrypt", "--as", "esdk", *GIVEN]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALWAX_LAB", str(tmp_path / "lab"))
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="k")
        lab.create_key(alias="two")
        yield lab


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


def calls(lab: Lab) -> int:
    """How many calls made, opened or wrapped a data key."""
    counted = ("GenerateDataKey", "Decrypt", "Encrypt")
    return sum(event.record["eventName"] in counted for event in lab.trail.events())


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 70_000, 1 << 20, len(DATA)])
def test_the_sdk_reads_what_is_written(lab: Lab, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x").write_bytes(DATA[:size])
    assert run([*AS_ESDK, "-k", "alias/two", "x"]) == 0
    message = Path("x.esdk").read_bytes()
    header = header_of(message)
    assert (header.suite.name, header.frame_length, len(header.wrapped_keys)) == ("esdk-0478", 4096, 2)
    with serving(lab) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        session: Any = boto3.Session()._session
        for key in header.wrapped_keys:
            provider = StrictAwsKmsMasterKeyProvider(key_ids=[key.key_arn], botocore_session=session)
            read, theirs = aws_encryption_sdk.EncryptionSDKClient().decrypt(source=message, key_provider=provider)
            assert read == DATA[:size]
            assert theirs.encryption_context == CONTEXT
    Path("x").unlink()
    assert run(["decrypt", *GIVEN, "x.esdk"]) == 0
    assert Path("x").read_bytes() == DATA[:size]


@pytest.mark.usefixtures("lab")
def test_through_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(data: bytes, *args: str) -> None:
        read, write = os.pipe()
        os.write(write, data)
        os.close(write)
        with os.fdopen(read) as file:
            monkeypatch.setattr(sys, "stdin", file)
            assert run(list(args)) == 0

    piped(DATA[:10_000], *AS_ESDK, "-", "-o", "x.esdk")
    piped(Path("x.esdk").read_bytes(), "decrypt", *GIVEN, "-", "-o", "back")
    assert Path("back").read_bytes() == DATA[:10_000]
    piped(Path("x.esdk").read_bytes(), "inspect", "-")


def test_text(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    Path("x").write_bytes(DATA[:5000])
    assert run([*AS_ESDK, "--armor", "x"]) == 0
    text = Path("x.esdk").read_bytes()
    message = base64.b64decode(text, validate=False)
    assert text == base64.b64encode(message) + b"\n"
    forms = {
        "one line": text,
        "lines": base64.encodebytes(message),
        "url": base64.urlsafe_b64encode(message),
        "windows": base64.encodebytes(message).replace(b"\n", b"\r\n"),
    }
    for name, form in forms.items():
        Path(name).write_bytes(form)
        for verb in (["inspect"], ["verify", *GIVEN], ["decrypt", *GIVEN, "-o", "back", "--force"]):
            assert run([*verb, "--armor", name]) == 0, (name, verb)
        assert Path("back").read_bytes() == DATA[:5000]
        assert run(["decrypt", *GIVEN, "-o", "back2", name]) == 4
        assert "decode it first, or use --armor" in capfd.readouterr().err
    before = calls(lab)
    for form in (text[:-20] + b"!" + text[-20:], text[:1001], b"\r\n" + forms["url"] + b"--\xff"):
        Path("bad").write_bytes(form)
        capfd.readouterr()
        for verb in (["inspect"], ["verify", *GIVEN], ["decrypt", *GIVEN, "-o", "back2"]):
            assert run([*verb, "--armor", "bad"]) == 4
            said = capfd.readouterr().err
            assert "begins like a message of the AWS Encryption SDK in base64, but is not valid base64" in said
            assert "swx1" not in said
    assert not Path("back2").exists()
    assert calls(lab) == before


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--detached", "h"], 2, "--as esdk or --detached"),
        (["--local-context", "id", "-c", "id=7"], 2, "--as esdk or --local-context"),
        (["-c", "aws-crypto-public-key=x"], 6, "'aws-crypto-public-key' is one"),
        (["-c", "AWS-crypto-x=x"], 6, "'AWS-crypto-x' is one"),
        (["--as", "tink"], 2, "'tink' is not 'esdk'"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_does_not_apply_is_refused_by_name(
    lab: Lab, options: list[str], status: int, said: str, dry: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("x").write_bytes(b"data")
    before = sorted(path.name for path in Path().iterdir())
    count = calls(lab)
    assert run([*AS_ESDK, *options, *dry, "x"]) == status
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == before
    assert calls(lab) == count


def test_the_settings_name_no_local_pairs_for_them(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    Path("x").write_bytes(b"data")
    Path("sealwax.toml").write_text('local_context = ["id"]\n')
    count = calls(lab)
    assert run([*AS_ESDK, "-c", "id=7", "x"]) == 2
    assert "has no local pairs, and the settings file names some" in capfd.readouterr().err
    assert not Path("x.esdk").exists()
    assert calls(lab) == count


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("how", [[], ["--as", "esdk"]])
def test_a_message_that_is_encrypted_again_is_told(how: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    Path("x").write_bytes(b"data")
    assert run([*AS_ESDK, "x", "-o", "message"]) == 0
    Path("text").write_bytes(base64.b64encode(Path("message").read_bytes()))
    Path("url").write_bytes(base64.urlsafe_b64encode(b"\1\x80\1\x78\xff\xff"))
    for name in ("message", "text", "url"):
        capfd.readouterr()
        assert run(["encrypt", *how, *GIVEN, name]) == 0
        assert f"{name}: this is already an AWS Encryption SDK message; encrypting it again" in capfd.readouterr().err
    assert run(["encrypt", *how, *GIVEN, "x"]) == 0
    assert "again" not in capfd.readouterr().err


@pytest.mark.usefixtures("lab")
def test_nothing_is_overwritten(capfd: pytest.CaptureFixture[str]) -> None:
    Path("x").write_bytes(b"data")
    Path("x.esdk").write_bytes(b"mine")
    assert run([*AS_ESDK, "x"]) == 1
    assert Path("x.esdk").read_bytes() == b"mine"
    assert run([*AS_ESDK, "--force", "x"]) == 0
    assert "already exists" in capfd.readouterr().err
    assert run(["verify", *GIVEN, "x.esdk"]) == 0


@pytest.mark.usefixtures("lab")
def test_a_folder_again_and_after_changes(capfd: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name, size in (("a", 10), ("b", 5000), ("c", 100_000)):
        Path("in", name).write_bytes(DATA[:size])

    def again(*more: str) -> tuple[int, dict[str, int]]:
        capfd.readouterr()
        status = run([*AS_ESDK, "-r", "--json", "-o", "out", *more, "in"])
        summary = json.loads(capfd.readouterr().out.splitlines()[-1])["summary"]
        return status, {**summary["done"], **summary["left_alone"]}

    assert again() == (0, {"encrypted": 3})
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == ["a.esdk", "b.esdk", "c.esdk"]
    messages = [Path("out", name).read_bytes() for name in names]
    assert again() == (0, {"already encrypted": 3})
    assert [Path("out", name).read_bytes() for name in names] == messages
    for options, outcome in (
        (["-c", "more=x"], "bound to another context"),
        (["-k", "alias/two"], "under another key"),
    ):
        assert again(*options) == (1, {outcome: 3})
    Path("in/a").write_bytes(b"other")
    Path("out/b.esdk").write_bytes(messages[1][:-1])
    Path("out/c.esdk").write_bytes(b"mine")
    assert again()[1] == {"with a changed source": 1, "incomplete": 1, "with an existing output": 1}
    assert again("--update")[1] == {"encrypted": 1, "incomplete": 1, "with an existing output": 1}
    assert Path("out/c.esdk").read_bytes() == b"mine"
    assert run(["encrypt", "-r", *GIVEN, "-o", "out", "in"]) == 0


@pytest.mark.usefixtures("lab")
def test_below_one_folder(capfd: pytest.CaptureFixture[str]) -> None:
    """The names of messages that are there are skipped, and not reported."""
    Path("in").mkdir()
    Path("in/a").write_bytes(b"data")
    assert run([*AS_ESDK, "-r", "in"]) == 0
    assert run([*AS_ESDK, "-r", "in"]) == 0
    assert sorted(path.name for path in Path("in").iterdir()) == ["a", "a.esdk"]
    Path("in/b.esdk").write_bytes(b"no message")
    assert run([*AS_ESDK, "-r", "in"]) == 8
    assert "b.esdk" in capfd.readouterr().err


def test_one_data_key_for_many(lab: Lab) -> None:
    Path("in").mkdir()
    for number in range(20):
        Path("in", str(number)).write_bytes(DATA[: number * 7000])
    before = calls(lab)
    assert run([*AS_ESDK, "-r", "--share-key", "-o", "out", "in"]) == 0
    assert calls(lab) - before == 1
    headers = [header_of(path.read_bytes()) for path in Path("out").iterdir()]
    assert len({header.message_id for header in headers}) == 20
    assert len({header.data_keys for header in headers}) == 1
    before = calls(lab)
    assert run(["verify", *GIVEN, "-r", "out"]) == 0
    assert calls(lab) - before == 1, "equal data keys are unwrapped once"


def test_mixed_folders(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name in ("a", "b", "c"):
        Path("in", name).write_bytes(name.encode() * 5000)
    assert run(["encrypt", *GIVEN, "in/a", "-o", "out/a.swx"]) == 1  # the folder does not exist
    Path("out").mkdir()
    assert run(["encrypt", *GIVEN, "in/a", "-o", "out/a.swx"]) == 0
    assert run([*AS_ESDK, "in/b", "-o", "out/b.esdk"]) == 0
    assert run([*AS_ESDK, "in/c", "-o", "out/c.swx"]) == 0  # a message, whatever its name says
    Path("out/d.esdk").write_bytes(Path("out/b.esdk").read_bytes()[:-1])
    Path("out/notes.txt").write_text("plain")
    for verb in (["verify"], ["decrypt", "-o", "back"]):
        capfd.readouterr()
        assert run([*verb, *GIVEN, "-r", "--json", "out"]) == 8
        *files, summary = map(json.loads, capfd.readouterr().out.splitlines())
        assert {file["path"]: file.get("error") for file in files if "skipped" not in file.get("outcome", "")}[
            "out/d.esdk"
        ] == "TamperedError"
        assert summary["summary"]["failed"] == 1
    assert sorted(path.name for path in Path("back").iterdir()) == ["a", "b", "c"]
    for name in ("a", "b", "c"):
        assert Path("back", name).read_bytes() == name.encode() * 5000
    Path("out/d.esdk").unlink()
    before = calls(lab)
    assert run(["decrypt", *GIVEN, "-r", "-o", "back", "out"]) == 0
    assert "3 already decrypted" in capfd.readouterr().err
    assert run(["decrypt", "-k", "alias/k", "-c", "purpose=other", "-r", "-o", "back", "out"]) != 0
    assert calls(lab) == before
    assert run(["inspect", "-r", "out"]) == 0
    assert run(["inspect", "-r", "--suffix", ".esdk", "out"]) == 0
    assert "out/b.esdk" in capfd.readouterr().out


@pytest.mark.usefixtures("lab")
def test_objects_in_s3(s3: StrictS3, capfd: pytest.CaptureFixture[str]) -> None:
    Path("x").write_bytes(DATA)
    assert run([*AS_ESDK, "x", "-o", "s3://bucket/x.esdk"]) == 0
    assert run([*AS_ESDK, "x", "-o", "s3://bucket/x.esdk"]) == 1
    assert run(["inspect", "s3://bucket/x.esdk"]) == 0
    assert f"plaintext  {len(DATA)} bytes, in frames of 4096" in capfd.readouterr().out
    assert run(["verify", *GIVEN, "s3://bucket/x.esdk"]) == 0
    assert run(["decrypt", *GIVEN, "s3://bucket/x.esdk", "-o", "back"]) == 0
    assert Path("back").read_bytes() == DATA
    count = len(s3.requests)
    assert run(["decrypt", *GIVEN, "--range", "1000000:1000010", "s3://bucket/x.esdk", "-o", "part"]) == 0
    assert Path("part").read_bytes() == DATA[1_000_000:1_000_010]
    assert sum(request.sent for request in s3.requests[count:]) < 1 << 20, "a range is not a whole object"
    client = s3.client()
    body = client.get_object(Bucket="bucket", Key="x.esdk")["Body"].read()
    client.put_object(Bucket="bucket", Key="y.esdk", Body=body[:-1])
    assert run(["decrypt", *GIVEN, "-r", "s3://bucket/", "-o", "all"]) == 8
    assert [path.name for path in Path("all").iterdir()] == ["x"]


def test_inspect_tells(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    Path("x").write_bytes(DATA[:9000])
    assert run([*AS_ESDK, "x"]) == 0
    capfd.readouterr()
    count = calls(lab)
    assert run(["inspect", "--json", "x.esdk"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["format"], said["suite"], said["plaintext_bytes"]) == ("esdk-v2", "0478", 9000)
    assert (said["context"], said["signed"], said["frame_bytes"]) == (CONTEXT, False, 4096)
    assert [key["provider"] for key in said["wrapped_keys"]] == ["aws-kms"]
    assert run(["inspect", "x.esdk"]) == 0
    assert "suite      0478: key commitment, not signed" in capfd.readouterr().out
    assert run(["inspect", "--to", said["wrapped_keys"][0]["key_arn"], "x.esdk"]) == 4
    assert "cannot be re-wrapped" in capfd.readouterr().err
    for verb in (["rewrap", *GIVEN, "--to", "alias/two"], ["reencrypt", *GIVEN, "--to", "alias/two"]):
        assert run([*verb, "x.esdk"]) == 4
        assert "a message is never re-wrapped" in capfd.readouterr().err
    assert calls(lab) == count
