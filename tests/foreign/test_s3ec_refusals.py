"""What is refused of objects of the S3 Encryption Client: each with its error, before KMS, and with nothing written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.cli import run
from sealwax.stores.s3 import ObjectReader, S3Store, Service
from tests.foreign import s3ec, samples
from tests.foreign.objects import CONTEXT, C, World
from tests.foreign.s3ec import CBC, Made
from tests.s3 import error

DATA = os.urandom(1000)
OLD_TO_NEW = ("-k", "alias/old", "--to", "alias/new")
LEGACY = ("--allow-legacy", "s3ec-v2", "--allow-legacy", "s3ec-kms")


def both(world: World, key: str, status: int, *fragments: str, err: Callable[[], str]) -> None:
    """Hold that an object is neither read nor re-wrapped, that KMS was not asked, and that nothing was written."""
    before, calls = world.state(), world.calls()
    for verb in (
        ("decrypt", "-k", "alias/old", *C, *LEGACY, "-o", "plain"),
        ("verify", "-k", "alias/old", *C, *LEGACY),
        ("rewrap", *OLD_TO_NEW, *C),
    ):
        assert run([*verb, f"s3://bucket/{key}"]) == status, verb
        said = err()
        for fragment in fragments:
            assert fragment in said, (verb, said)
    assert (world.state(), world.calls()) == (before, calls)
    assert list(Path().iterdir()) == []


def changed(**fields: str | None) -> Callable[[Made], None]:
    """Return a change of fields, in the metadata or the instruction file; None removes one."""

    def change(made: Made) -> None:
        for name, value in fields.items():
            field = name.replace("_", "-")
            places = [made.metadata] if made.instructions is None else [made.metadata, made.instructions]
            place = next((each for each in places if field in each), made.metadata)
            place.pop(field, None)
            if value is not None:
                place[field] = value

    return change


def beside(**fields: str) -> Callable[[Made], None]:
    """Return a change that puts fields into the instruction file, which it makes if there is none."""

    def change(made: Made) -> None:
        made.instructions = {**(made.instructions or {}), **{name.replace("_", "-"): fields[name] for name in fields}}

    return change


def version_1(made: Made) -> None:
    made.metadata = {"x-amz-key": "AAAA", "x-amz-iv": "AAAA", "x-amz-matdesc": "{}"}


def instructed(made: Made) -> None:
    """Keep the metadata, and write the same fields into an instruction file too."""
    made.instructions = {name: value for name, value in made.metadata.items() if name not in s3ec.OF_OBJECT}


B28 = s3ec.b64(bytes(28))
V2: Mapping[str, Any] = {"version": 2}
V3: Mapping[str, Any] = {"version": 3}
KMS: Mapping[str, Any] = {"version": 2, "wrapping": "kms"}
WITH_FILE: Mapping[str, Any] = {"version": 3, "instructions": True}
WITH_FILE_2: Mapping[str, Any] = {"version": 2, "instructions": True}
REFUSED: dict[str, tuple[Mapping[str, Any], Callable[[Made], None], int, str]] = {
    "V1 and V2": (V2, changed(x_amz_key="AAAA"), 4, "contradiction"),
    "V1 alone": (V2, version_1, 4, "version 1"),
    "V1 in the file": (WITH_FILE_2, beside(x_amz_key="AAAA"), 4, "version 1"),
    "V2 and V3": (V3, changed(x_amz_key_v2="AAAA"), 4, "contradiction"),
    "V3 and V2": (V2, changed(x_amz_3="AAAA"), 4, "contradiction"),
    "V2 in the file of V3": (WITH_FILE, beside(x_amz_key_v2="AAAA"), 4, "contradiction"),
    "both places, V2": (V2, instructed, 4, "beside an instruction file"),
    "both places, V3": (V3, instructed, 4, "beside an instruction file"),
    "an empty file beside": (V3, beside(), 4, "beside an instruction file"),
    "c in the file": (WITH_FILE, beside(x_amz_c="115"), 4, "where the format never puts it"),
    "d in the file": (WITH_FILE, beside(x_amz_d=B28), 4, "where the format never puts it"),
    "i in the file": (WITH_FILE, beside(x_amz_i=B28), 4, "where the format never puts it"),
    "a strange field in the file": (WITH_FILE, beside(x_amz_strange="1"), 4, "which this format does not have"),
    "materials": (V3, changed(x_amz_m="{}"), 4, "not wrapped by AWS KMS"),
    "AES wrapping": (V3, changed(x_amz_w="02"), 4, "'02', which is not read"),
    "RSA wrapping": (V3, changed(x_amz_w="22"), 4, "'22', which is not read"),
    "AES wrapping of V2": (V2, changed(x_amz_wrap_alg="AES/GCM"), 4, "not wrapped by AWS KMS"),
    "RSA wrapping of V2": (V2, changed(x_amz_wrap_alg="RSA-OAEP-SHA1"), 4, "not wrapped by AWS KMS"),
    "an unknown cipher": (V2, changed(x_amz_cek_alg="AES/CTR/NoPadding"), 4, "is unknown"),
    "an unknown suite": (V3, changed(x_amz_c="116"), 4, "is unknown"),
    "relabelled as CBC": (V2, changed(x_amz_cek_alg=CBC, x_amz_tag_len=None), 4, "bound to the data key"),
    "relabelled as CBC, with its IV": (
        V2,
        changed(x_amz_cek_alg=CBC, x_amz_tag_len=None, x_amz_iv=s3ec.b64(bytes(16))),
        4,
        "bound to the data key",
    ),
    "no bound cipher": (V2, changed(x_amz_matdesc='{"tenant": "acme"}'), 4, "bound to the data key"),
    "another bound cipher": (V3, changed(x_amz_t=json.dumps({**CONTEXT, s3ec.CIPHER: s3ec.GCM})), 4, "bound to"),
    "old wrapping with a wrong cipher": (
        KMS,
        changed(x_amz_matdesc=json.dumps({"kms_cmk_id": "k", s3ec.CIPHER: CBC})),
        4,
        "bound to",
    ),
    "no blob": (V3, changed(x_amz_3=None), 4, "contradiction|lacks the field 'x-amz-3'"),
    "no blob, V2": (V2, changed(x_amz_key_v2=None), 4, "lacks the field 'x-amz-key-v2'"),
    "an empty blob": (V3, changed(x_amz_3=""), 4, "1 to 6144"),
    "no nonce": (V2, changed(x_amz_iv=None), 4, "lacks the field 'x-amz-iv'"),
    "a short nonce": (V2, changed(x_amz_iv=s3ec.b64(bytes(11))), 4, "11 bytes instead of 12"),
    "a long nonce": (V2, changed(x_amz_iv=s3ec.b64(bytes(16))), 4, "16 bytes instead of 12"),
    "no context": (V3, changed(x_amz_t=None), 4, "lacks the field 'x-amz-t'"),
    "a context that is a list": (V3, changed(x_amz_t="[]"), 4, "is not a JSON object"),
    "a context of numbers": (V3, changed(x_amz_t='{"a": 1}'), 4, "is not text"),
    "a context that is cut off": (V3, changed(x_amz_t='{"a"'), 4, "is not JSON"),
    "a pair twice": (V3, changed(x_amz_t='{"a": "1", "a": "2"}'), 4, "a name twice"),
    "a value that is not Unicode": (
        V3,
        changed(x_amz_t=json.dumps({**CONTEXT, "a": "\ud800", s3ec.CIPHER: "115"})),
        4,
        "not valid Unicode",
    ),
    "a name that is not Unicode": (
        V2,
        changed(x_amz_matdesc=json.dumps({**CONTEXT, "\udfff": "a", s3ec.CIPHER: s3ec.GCM})),
        4,
        "not valid Unicode",
    ),
    "no wrapping": (V3, changed(x_amz_w=None), 4, "lacks the field 'x-amz-w'"),
    "no commitment": (V3, changed(x_amz_d=None), 4, "lacks the field 'x-amz-d'"),
    "a short commitment": (V3, changed(x_amz_d=s3ec.b64(bytes(27))), 4, "27 bytes instead of 28"),
    "no message id": (V3, changed(x_amz_i=None), 4, "lacks the field 'x-amz-i'"),
    "no tag length": (V2, changed(x_amz_tag_len=None), 4, "x-amz-tag-len"),
    "a short tag": (V2, changed(x_amz_tag_len="96"), 4, "x-amz-tag-len"),
    "not base64": (V3, changed(x_amz_3="?"), 4, "is not base64"),
    "an instruction file for data": (V3, changed(x_amz_crypto_instr_file=""), 4, "instruction file"),
}


@pytest.fixture(scope="module")
def by_library(whole: World) -> tuple[Callable[[], object], ...]:
    """Verify and re-wrap s3://bucket/x; the command line adds nothing to that, as `both` holds."""
    service = Service(whole.server.session())
    keyring = sealwax.KmsKeyring(whole.old, session=whole.lab.session())
    sealer = sealwax.Sealer(keyring, allow_legacy=("s3ec-v2", "s3ec-kms"))
    store = S3Store("s3://bucket/", service=service)

    def verify() -> None:
        with ObjectReader("s3://bucket/x", service=service) as source:
            sealer.verify(source, context=CONTEXT)

    def rewrap() -> None:
        store.rewrap("s3://bucket/x", sealer.rewrapper(to=[whole.new], context=CONTEXT))

    return verify, rewrap


@pytest.mark.parametrize("name", REFUSED)
def test_fields(world: World, by_library: tuple[Callable[[], object], ...], name: str, err: Callable[[], str]) -> None:
    how, change, status, fragment = REFUSED[name]
    made = world.make(DATA, **how)
    change(made)
    made.put(world.s3, "x")
    before, calls = world.state(), world.calls()
    assert run(["decrypt", "-k", "alias/old", *C, *LEGACY, "-o", "plain", "s3://bucket/x"]) == status
    said = [err()]
    for act in by_library:
        with pytest.raises(sealwax.HeaderError) as caught:
            act()
        said.append(str(caught.value))
    for words in said:
        assert any(part in words for part in fragment.split("|")), words
    assert (world.state(), world.calls()) == (before, calls)
    assert list(Path().iterdir()) == []


def test_the_instruction_file_alone(world: World, err: Callable[[], str]) -> None:
    world.put("x", DATA, instructions=True)
    both(world, "x.instruction", 4, "instruction file", err=err)


def test_another_programs_magic(world: World, err: Callable[[], str]) -> None:
    """Bytes of one format under the fields of another are a contradiction, whichever would open."""
    made = world.make(DATA)
    sealed = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=world.lab.session())).encrypt(DATA, context=CONTEXT)
    for body in (sealed, samples.esdk(("aws-kms", samples.ARN))):
        world.s3.put_object(Bucket="bucket", Key="x", Body=body, Metadata=made.metadata)
        both(world, "x", 4, "contradiction", err=err)
    # The envelope itself opens, without that metadata.
    world.s3.put_object(Bucket="bucket", Key="x", Body=sealed)
    assert run(["verify", "-k", "alias/old", *C, "s3://bucket/x"]) == 0


def test_an_envelope_that_claims_it_is_not_changed(world: World, err: Callable[[], str]) -> None:
    made = world.make(DATA)
    sealed = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=world.lab.session())).encrypt(DATA, context=CONTEXT)
    world.s3.put_object(Bucket="bucket", Key="x", Body=sealed, Metadata=made.metadata)
    before, calls = world.state(), world.calls()
    for verb in (
        ("rewrap", *OLD_TO_NEW, *C, "-o", "new"),
        ("reencrypt", *OLD_TO_NEW, *C),
        ("reencrypt", *OLD_TO_NEW, *C, "-o", "new"),
        ("decrypt", "-k", "alias/old", *C, "--range", "0:10", "-o", "new"),
    ):
        assert run([*verb, "s3://bucket/x"]) == 4, verb
        assert "no side of it is believed" in err()
    assert (world.state(), world.calls()) == (before, calls)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("verb", [("rewrap", "-o", "new"), ("reencrypt",), ("reencrypt", "-o", "new")])
def test_what_else_would_change_the_key(world: World, verb: tuple[str, ...], err: Callable[[], str]) -> None:
    """They are for envelopes; the error names the way that there is."""
    world.put("x", DATA)
    before, calls = world.state(), world.calls()
    assert run([verb[0], *OLD_TO_NEW, *C, "s3://bucket/x", *verb[1:]]) == 4
    assert "to change its KMS key, re-wrap it in place" in err()
    assert (world.state(), world.calls()) == (before, calls)


def test_what_does_not_commit_is_read_by_name_only(world: World, err: Callable[[], str]) -> None:
    world.put("v2", DATA, version=2)
    world.put("kms", DATA, version=2, wrapping="kms")
    calls = world.calls()
    for key, name, other in (("v2", "s3ec-v2", "s3ec-kms"), ("kms", "s3ec-kms", "s3ec-v2")):
        for options in ((), ("--allow-legacy", other)):
            assert run(["decrypt", "-k", "alias/old", *C, *options, f"s3://bucket/{key}", "-o", "plain"]) == 4
            assert f"to read it, use --allow-legacy {name}" in err()
    assert world.calls() == calls
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("wrapping", ["kms+context", "kms"])
def test_cbc_is_rewrapped_and_never_read(
    world: World, wrapping: str, err: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    world.put("cbc", DATA, version=2, cipher=CBC, wrapping=wrapping)
    calls = world.calls()
    for verb in ("decrypt", "verify"):
        options = ("-o", "plain") if verb == "decrypt" else ()
        for legacy in ((), LEGACY):
            assert run([verb, "-k", "alias/old", *C, *legacy, *options, "s3://bucket/cbc"]) == 4
            said = err()
            assert "AES-CBC, which does not authenticate it" in said
            assert "--allow-legacy" not in said, "that does not help"
    assert run(["inspect", "s3://bucket/cbc"]) == 0
    assert "  to read    not with sealwax" in capfd.readouterr().out
    assert run(["rewrap", "--verify", *OLD_TO_NEW, *C, "s3://bucket/cbc"]) == 4, "it cannot be verified"
    assert world.calls() == calls
    body = world.body("cbc")
    assert run(["rewrap", *OLD_TO_NEW, *C, "s3://bucket/cbc"]) == 0
    assert world.body("cbc") == body


@pytest.mark.parametrize(
    ("options", "status", "fragment"),
    [
        (("-k", "alias/old", "-c", "tenant=other"), 6, "a different value of 'tenant'"),
        (("-k", "alias/old", "--no-context"), 6, "'tenant'"),
        (("-k", "alias/old", *C, "-c", "more=1"), 6, "'more'"),
        (("-k", "alias/old", *C, "-c", "aws:x-amz-cek-alg=115"), 6, "the S3 Encryption Client's own"),
        (("-k", "alias/old", *C, "-c", "kms_cmk_id=x"), 6, "the S3 Encryption Client's own"),
        (("-k", "alias/old", "-c", "tenant=b*"), 6, "a different value of 'tenant'"),
    ],
)
def test_the_callers_context(
    world: World, options: tuple[str, ...], status: int, fragment: str, err: Callable[[], str]
) -> None:
    world.put("x", DATA)
    before, calls = world.state(), world.calls()
    for verb in (("decrypt", "-o", "plain"), ("verify",), ("rewrap", "--to", "alias/new")):
        assert run([*verb, *options, "s3://bucket/x"]) == status, verb
        assert fragment in err()
    assert (world.state(), world.calls()) == (before, calls)
    assert list(Path().iterdir()) == []


def test_a_scope_cannot_name_the_key(world: World) -> None:
    scope = sealwax.KeyScope("111122223333", "us-east-1")
    keyring = sealwax.KmsKeyring(world.new, decrypt_with=[scope], session=world.lab.session())
    world.put("x", DATA)
    calls = world.calls()
    store = S3Store("s3://bucket/", session=world.server.session())
    with pytest.raises(sealwax.KeyNotAllowedError, match="must be allowed by its name"):
        store.rewrap("s3://bucket/x", sealwax.Sealer(keyring).rewrapper(to=[world.new], context=CONTEXT))
    assert world.calls() == calls


def test_metadata_that_a_copy_may_change(world: World, err: Callable[[], str]) -> None:
    made = world.make(DATA)
    made.metadata["note"] = "=?UTF-8?B?Y2Fmw6k=?="  # as S3 returns what is not ASCII
    made.put(world.s3, "x")
    before, calls = world.state(), world.calls()
    assert run(["rewrap", *OLD_TO_NEW, *C, "s3://bucket/x"]) == 1
    assert "not ASCII" in err()
    assert (world.state(), world.calls()) == (before, calls)


@pytest.mark.parametrize("version", [2, 3])
def test_a_context_that_is_not_ascii(world: World, version: int, err: Callable[[], str]) -> None:
    """Some clients write it as it is, and S3 returns it encoded: nothing was altered."""
    made = world.make(DATA, version=version)
    made.metadata["x-amz-t" if version == 3 else "x-amz-matdesc"] = "=?UTF-8?B?eyJhIjoiw6kifQ==?="
    made.put(world.s3, "x")
    both(world, "x", 4, "is not ASCII", "not read", err=err)


@pytest.mark.parametrize("version", [2, 3])
def test_a_missing_instruction_file(world: World, version: int, err: Callable[[], str]) -> None:
    world.put("x", DATA, version=version, instructions=True)
    if version == 2:
        made = world.make(DATA, version=2)
        del made.metadata["x-amz-key-v2"]
        made.put(world.s3, "x")
    world.s3.delete_object(Bucket="bucket", Key="x.instruction")
    both(world, "x", 4, "has no instruction file", err=err)


def test_a_plain_object_where_s3_does_not_say_what_is_missing(world: World, err: Callable[[], str]) -> None:
    """Without s3:ListBucket S3 denies missing objects; a plain one is told as such."""
    world.s3.put_object(Bucket="bucket", Key="x", Body=b"plain text")
    with world.server.fault(lambda each: error(403, "AccessDenied") if each.path.endswith(".instruction") else None):
        both(world, "x", 4, "not a sealwax envelope", err=err)
        assert run(["inspect", "s3://bucket/x"]) == 4


def test_an_expires_header_that_is_no_date(world: World, err: Callable[[], str]) -> None:
    """botocore does not return it, so a copy would lose it."""
    world.put("x", DATA)

    def never(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [*headers, ("Expires", "never")]

    world.server.rewritten.append(never)
    before, calls = world.state(), world.calls()
    assert run(["rewrap", *OLD_TO_NEW, *C, "s3://bucket/x"]) == 1
    assert "an Expires header that is not a date" in err()
    assert (world.state(), world.calls()) == (before, calls)


def test_metadata_that_would_grow_too_long(world: World, err: Callable[[], str]) -> None:
    """The name of the new key is longer, and there is no room for it."""
    made = s3ec.make(world.kms, "alias/old", DATA, CONTEXT, version=2, wrapping="kms")
    size = sum(len(name) + len(value) for name, value in made.metadata.items())
    made.metadata["note"] = "x" * (2048 - size - len("note"))
    made.put(world.s3, "x")
    before, calls = world.state(), world.calls()
    assert run(["rewrap", "-k", "alias/old", "--to", world.new, *C, "s3://bucket/x"]) == 1
    assert "S3 accepts 2048" in err()
    assert (world.state(), world.calls()) == (before, calls)


@pytest.mark.parametrize(
    ("answer", "fragment"),
    [
        (error(400, "InvalidRequest", "The object was stored using a form of Server Side Encryption."), "SSE-C"),
        (error(403, "InvalidObjectState", "The operation is not valid for the object's storage class"), "archived"),
    ],
)
def test_what_s3_does_not_read(world: World, answer: Any, fragment: str, err: Callable[[], str]) -> None:
    world.put("x", DATA)
    before, calls = world.state(), world.calls()
    with world.server.fault(lambda request: answer if request.operation == "GetObject" else None):
        assert run(["rewrap", *OLD_TO_NEW, *C, "s3://bucket/x"]) == 1
    assert fragment in err()
    assert (world.state(), world.calls()) == (before, calls)


@pytest.mark.parametrize("operation", ["GetObject", "PutObjectCopy", "HeadObject", "ListObjectVersions"])
def test_redirects_without_end(world: World, operation: str, err: Callable[[], str]) -> None:
    """A proxy's fault is no internal error."""
    world.put("x", DATA)
    redirecting: list[bool] = []

    def redirect(request: Any) -> Any:
        # All that follows is redirected too, as the question for the bucket's Region is.
        redirecting.extend([True] * (request.operation == operation))
        return error(301, "PermanentRedirect") if redirecting else None

    with world.server.fault(redirect):
        assert run(["rewrap", *OLD_TO_NEW, *C, "s3://bucket/x"]) == 1
    said = err()
    assert "internal error" not in said
    assert "AWS_ENDPOINT_URL_S3" in said


def test_a_hidden_instruction_file(world: World, err: Callable[[], str]) -> None:
    """Where S3 may not say whether there is one, an object that needs it cannot be read, and others can."""
    world.put("with", DATA, instructions=True)
    world.put("without", DATA)

    def deny(request: Any) -> Any:
        return error(403, "AccessDenied") if request.path.endswith(".instruction") else None

    with world.server.fault(deny):
        assert run(["rewrap", *OLD_TO_NEW, *C, "s3://bucket/without"]) == 0
        err()
        assert run(["rewrap", *OLD_TO_NEW, *C, "s3://bucket/with"]) == 1
        assert "AccessDenied" in err()
