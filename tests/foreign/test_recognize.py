"""What other formats are told by, what they tell of their keys, and what is not taken for one of them."""

from __future__ import annotations

import base64
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax
from sealwax._core import recognize
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._foreign import ForeignFormat
from tests.fakes import ALPHA, FakeKeyring
from tests.foreign import samples
from tests.foreign.samples import ARN, MULTI, OTHER

BLOB = samples.aws_blob()
CONTEXT = {"purpose": "backup"}
SEALED = sealwax.Sealer(FakeKeyring(ALPHA)).encrypt(b"value", context=CONTEXT)
UNDER = sealwax.inspect(SEALED).wrapped_keys[0].key_arn


def look(data: bytes, metadata: dict[str, str] | None = None, name: str = "") -> ForeignFormat | None:
    return recognize.recognize(lambda at, size: data[at : at + size], len(data), metadata=metadata, name=name)


def seen(data: bytes, **more: Any) -> ForeignFormat:
    found = look(data, **more)
    assert found is not None
    return found


def facts(data: bytes) -> tuple[str, tuple[str, ...], bool]:
    found = seen(data)
    return found.format, found.keys, found.complete


# --- messages of the AWS Encryption SDK


def test_the_published_messages() -> None:
    formats: Counter[tuple[str, bool, bool]] = Counter()
    for each in samples.vectors():
        message = base64.b64decode(each["ciphertext"])
        found = seen(message)
        formats[found.format, bool(found.keys), found.complete] += 1
        assert all(key.startswith("arn:aws:kms:us-west-2:") for key in found.keys)
        assert facts(each["ciphertext"].encode()) == (found.format, found.keys, found.complete)
    assert formats == {("esdk-v2", True, True): 44, ("esdk-v2", False, True): 2}


@pytest.mark.parametrize(
    "suite", [0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378, 0x0478, 0x0578]
)
@pytest.mark.parametrize("context", [{}, {"purpose": "backup", "aws-crypto-public-key": "A" * 68}])
def test_every_suite(suite: int, context: dict[str, str]) -> None:
    version = 2 if suite >= 0x0400 else 1
    message = samples.esdk(("aws-kms", ARN), ("aws-kms", OTHER), version=version, suite=suite, context=context)
    assert facts(message) == (f"esdk-v{version}", (ARN, OTHER), True)


def test_other_providers_are_named() -> None:
    found = seen(samples.esdk(("vault", "k"), ("aws-kms", ARN)))
    assert (found.keys, found.others, found.complete) == ((ARN,), ("vault",), True)
    # A hierarchy's branch key looks like a key's id, and is none.
    branch = ARN.rpartition("/")[2]
    found = seen(samples.esdk(("aws-kms-hierarchy", branch)))
    assert (found.keys, found.others, found.complete) == ((), ("aws-kms-hierarchy",), False)
    assert "the KMS key that wraps it is unknown" in str(found)
    assert len(str(seen(samples.esdk(("x" * 60_000, "k"))))) < 400


def test_a_header_larger_than_the_first_read() -> None:
    message = samples.esdk(*(("aws-kms", f"{ARN[:-3]}{number:03}") for number in range(400)))
    assert len(message) > 100_000
    found = seen(message)
    assert (len(found.keys), found.complete) == (400, True)
    reads: list[tuple[int, int]] = []

    def read(at: int, size: int) -> bytes:
        reads.append((at, size))
        return message[at : at + size]

    assert recognize.recognize(read, len(message)) == found
    assert len(reads) < 8
    # One that claims to be larger than anything sane is not read for it.
    endless = samples.esdk(*(("aws-kms", f"{ARN[:-5]}{number:05}") for number in range(9000)))
    found = seen(endless)
    assert (len(endless) > 1 << 21, found.complete, "larger than 1 MiB" in found.title) == (True, False, True)


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_is_cut_off_tells_no_keys(version: int) -> None:
    message = samples.esdk(("aws-kms", OTHER), ("aws-kms", ARN), version=version)
    header = len(message) - len(samples.NOISE) - (9 if version == 1 else 4)
    looked = 0
    for end in range(4, header):
        found = seen(message[:end])
        assert (found.format, found.complete) == (f"esdk-v{version}", False), end
        looked += 1
    assert looked > 500
    assert seen(message[: header + 4]).complete


# --- the S3 Encryption Client


@pytest.mark.parametrize(
    ("metadata", "format_", "keys", "told"),
    [
        (samples.s3ec(1, BLOB), "s3ec-v1", (), False),
        (samples.s3ec(2, BLOB), "s3ec-v2", (), False),
        (samples.s3ec(2, BLOB, "kms", ARN), "s3ec-v2", (ARN,), True),
        (samples.s3ec(2, BLOB, "kms"), "s3ec-v2", (), False),
        (samples.s3ec(2, BLOB, "kms+context", ARN), "s3ec-v2", (ARN,), False),
        (samples.s3ec(2, BLOB, "AES/GCM"), "s3ec-v2", (), True),
        (samples.s3ec(2, BLOB, "a new one"), "s3ec-v2", (), False),
        (samples.s3ec(3, BLOB), "s3ec-v3", (), False),
        (samples.s3ec(3, BLOB, "22"), "s3ec-v3", (), True),
        (
            {key: value for key, value in samples.s3ec(3, BLOB).items() if key in ("x-amz-c", "x-amz-d", "x-amz-i")},
            "s3ec-v3",
            (),
            False,
        ),
        ({"x-amz-unencrypted-content-length": "3"}, "s3ec", (), False),
        ({"X-Amz-Key-V2": "AAAA"}, "s3ec-v2", (), False),
        (samples.s3ec(2, BLOB) | samples.s3ec(3, BLOB), "contradiction", (), False),
        (samples.s3ec(2, BLOB) | {"x-amz-matdesc": "[" * 100_000}, "s3ec-v2", (), False),
        ({"x-amz-crypto-instr-file": ""}, "s3ec-instruction-file", (), False),
    ],
)
def test_metadata(metadata: dict[str, str], format_: str, keys: tuple[str, ...], told: bool) -> None:
    found = seen(os.urandom(100), metadata=metadata)
    assert (found.format, found.keys, found.complete) == (format_, keys, told)


def test_other_metadata_say_nothing() -> None:
    assert look(samples.NOISE, {"x-amz-meta": "x", "sealwax-source-time": "1", "x-amz-keys": "k"}) is None


def test_instruction_files() -> None:
    for version in (1, 2, 3):
        data = json.dumps(samples.s3ec(version, BLOB)).encode()
        found = seen(data, name="s3://bucket/a.instruction")
        assert (found.format, f"V{version}" in found.title, "does not end" in found.title) == (
            "s3ec-instruction-file",
            True,
            False,
        )
        assert seen(data, metadata={"x-amz-crypto-instr-file": "a"}) == seen(data)
        assert "a name that does not end with .instruction" in seen(data, name="s3://bucket/a.custom").title
    assert look(b'{"x-amz-iv": "AAAA"}') is None


def test_what_contradicts_itself_is_both() -> None:
    found = seen(samples.esdk(("aws-kms", ARN)), metadata=samples.s3ec(3, BLOB))
    assert (found.format, found.keys, found.complete) == ("contradiction", (ARN,), False)
    assert "S3 Encryption Client, V3 by its metadata and an AWS Encryption SDK message" in found.title


# --- sops


SOPS: dict[str, Callable[..., bytes]] = {
    "json": samples.sops_json,
    "yaml": samples.sops_yaml,
    "dotenv": samples.sops_dotenv,
    "ini": samples.sops_ini,
}


@pytest.mark.parametrize("form", SOPS)
@pytest.mark.parametrize("keys", [(ARN,), (ARN, OTHER), ("alias/x",), ()])
def test_sops(form: str, keys: tuple[str, ...]) -> None:
    data = SOPS[form](*keys)
    for text in (data, data.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + data, samples.zipped(data)):
        assert facts(text) == ("sops", keys, True)
    for codec in ("utf-16", "utf-16-le", "utf-16-be"):
        assert facts(data.decode().encode(codec)) == ("sops", keys, True)


@pytest.mark.parametrize("form", SOPS)
def test_the_section_of_a_large_sops_file_is_at_its_end(form: str) -> None:
    small = SOPS[form](ARN, OTHER)
    filler = {
        "json": json.dumps({f"name{at}": samples.SEALED for at in range(6000)})[:-1].encode() + b", ",
        "ini": b"[other]\n" + b"".join(b"n%d = %s\n" % (at, samples.SEALED.encode()) for at in range(6000)),
    }
    lines = b"".join(
        b"N%d%s%s\n" % (at, b"=" if form == "dotenv" else b": ", samples.SEALED.encode()) for at in range(6000)
    )
    data = filler.get(form, lines) + (small[1:] if form == "json" else small)
    assert len(data) > 300_000
    assert facts(data) == ("sops", (ARN, OTHER), True)
    found = seen(data[:-5_000])
    assert (found.format, found.complete) == ("sops", False)


@pytest.mark.parametrize("form", SOPS)
def test_a_section_may_stand_anywhere_at_the_end(form: str) -> None:
    """Also across the border of what is read first, and of what is read last."""
    small = SOPS[form](ARN, OTHER)
    equals = b": " if form == "yaml" else b"="
    for size in range(64_800, 67_000, 200):
        filler = b'{"a": "%s", ' % (b"x" * size) if form == "json" else b"A%s%s\n" % (equals, b"x" * size)
        assert facts((b"[x]\n" if form == "ini" else b"") + filler + small[form == "json" :]) == (
            "sops",
            (ARN, OTHER),
            True,
        )


def test_keys_of_sops_in_groups_and_beside_other_providers() -> None:
    age = {"age": [{"recipient": "age1", "enc": "-----BEGIN AGE ENCRYPTED FILE-----\nx\n"}]}
    found = seen(samples.sops_json(ARN, more=age))
    assert (found.keys, found.others, found.complete) == ((ARN,), ("age",), True)
    groups = {"kms": None, "key_groups": [{"kms": [{"arn": ARN, "enc": "x"}]}, {"pgp": [{"fp": "F"}], "hc_vault": []}]}
    found = seen(samples.sops_json(more=groups))
    assert (found.keys, found.others, found.complete) == ((ARN,), ("pgp",), True)
    yaml = (
        "    key_groups:\n        - kms:\n            - arn: " + OTHER + "\n              enc: AQICAHhx\n"
        "          azure_kv:\n            - vaultUrl: https://v\n              enc: |\n                abc\n"
        "        - age:\n            - recipient: age1\n              enc: |\n"
        "                -----BEGIN AGE ENCRYPTED FILE-----\n                YWdl: kms\n"
    )
    found = seen(samples.sops_yaml(ARN, extra=yaml))
    assert (found.keys, found.others, found.complete) == ((ARN, OTHER), ("azure_kv", "age"), True)


@pytest.mark.parametrize("name", ["version", "mac", "pgp", "lastmodified", "arn", "kms", "key_groups"])
def test_the_context_of_a_key_hides_no_other_key(name: str) -> None:
    between = f"          context:\n              {name}: x\n"
    found = seen(samples.sops_yaml(OTHER, ARN, between=between))
    assert ARN in found.keys
    assert OTHER in found.keys


@pytest.mark.parametrize(
    "data",
    [
        samples.sops_yaml(ARN).replace(b"sops:\n", b"sops: {kms: [{arn: x}]}\n#"),
        samples.sops_yaml(ARN).replace(b"        - arn", b"        - ARN"),
        samples.sops_yaml(OTHER).replace(b"    kms:\n", b"    kms: [{arn: x}]\n    kms:\n"),
        samples.sops_yaml(OTHER).replace(b"        - arn", b"        -\n          role: r\n        - arn", 1),
        samples.sops_json(OTHER).replace(b'"arn"', b'"Arn"'),
        samples.sops_json(OTHER).replace(b'"gcp_kms"', b'"kms"'),
        samples.sops_json(OTHER).replace(b'"kms": [', b'"key_groups": [7], "kms": ['),
        samples.sops_dotenv(OTHER).replace(b"map_arn", b"map_ARN"),
        samples.sops_ini(OTHER).replace(b"mac = ENC", b"mac = NOC"),
        samples.sops_json(OTHER)[:-40],
    ],
)
def test_a_section_that_is_not_as_sops_writes_it_tells_no_keys(data: bytes) -> None:
    found = seen(data)
    assert (found.format, found.complete) == ("sops", False)


@pytest.mark.parametrize(
    "data",
    [
        b"We keep secrets with sops: see https://getsops.io\n",
        b"sops: use it\nkms: arn:aws:kms:us-east-1:111122223333:key/x\n",
        b"creation_rules:\n  - kms: " + ARN.encode() + b"\n    path_regex: secrets/\n",
        b"sops:\n  kms:\n    - arn: " + ARN.encode() + b"\n",
        b'{"sops": {"version": "3.9.4"}, "kms": "no"}',
        b'{"sops": "ENC[AES256_GCM,data"}',
        b"[sops]\nversion = 3\n",
        b"sops_version=3\n",
    ],
)
def test_what_only_mentions_sops_is_none_of_its_files(data: bytes) -> None:
    assert look(data) is None


# --- told by structure


@pytest.mark.parametrize("blob", [BLOB, b"\x01swxlab\x01" + samples.NOISE[:147]], ids=["aws", "lab"])
def test_every_format(blob: bytes) -> None:
    everything = samples.everything(blob)
    assert len(everything) == 11
    for format_, data in everything.items():
        found = seen(data)
        assert found.format == format_
        assert found.complete == (found.keys == (ARN,)) == (format_ in ("esdk-v1", "esdk-v2", "sops"))
        for wrapped in (base64.b64encode(data), base64.urlsafe_b64encode(data), base64.encodebytes(data)):
            assert seen(wrapped).format == format_
        assert seen(samples.zipped(data)).format == format_
        assert "compressed with gzip" in seen(samples.zipped(data)).title


def test_a_kms_ciphertext_is_seen_wherever_it_stands() -> None:
    text = base64.b64encode(BLOB).decode()
    holders = [
        samples.NOISE + BLOB + samples.NOISE,
        b"\x12" + bytes([len(BLOB) % 128 + 128, len(BLOB) // 128]) + BLOB,
        f"DB_PASSWORD={text}\n".encode(),
        f"secret: ENC[KMS,{text}]\n".encode(),
        json.dumps({"secrets": [{"ciphertext": f"EJK1];{text}"}]}).encode(),
        json.dumps({"a": f"first\n{text}"}).encode(),
        f"a: |\n  {text}\n".encode().replace(b"\n", b"\r\n"),
        ("# Größe\nx=" + text).encode("latin-1"),
        (f"x={text}" + "\n# " + "y" * 200_000).encode(),
        ("# " + "y" * 200_000 + f"\nx={text}").encode(),
    ]
    for data in holders:
        assert facts(data) == ("kms-ciphertext", (), False)


def test_both_byte_orders_of_the_guides_length() -> None:
    assert {seen(samples.guide(BLOB, order)).format for order in ("big", "little")} == {"boto3-fernet"}
    assert str(seen(samples.guide(BLOB))).startswith("it looks like a file of the boto3 guide")


def test_values_in_text_tell_the_keys_of_all() -> None:
    one, two = (base64.b64encode(samples.esdk(("aws-kms", arn))).decode() for arn in (ARN, OTHER))
    assert facts(json.dumps({"name": one, "more": [two, one]}).encode()) == ("esdk-v2", (ARN, OTHER), True)
    mixed = seen(f"A={one}\nB={sealwax.armor(SEALED)}\n".encode())
    assert (mixed.format, set(mixed.keys), mixed.complete) == ("mixed", {ARN, UNDER}, True)
    # In a part that is not looked at, there may be others.
    far = f"A={one}\n" + "x = 1\n" * 40_000 + f"B={two}\n"
    assert facts(far.encode()) == ("esdk-v2", (ARN, OTHER), False)


# --- envelopes in other clothes


def test_envelopes_in_text_tell_their_keys() -> None:
    text = sealwax.armor(SEALED)
    for data in (text, f"{text}\n", f"\r\n  {text}\r\n", f"TOKEN={text}\n", f'{{"a": "{text}"}}', f"\ufeff{text}"):
        for codec in ("utf-8", "utf-16"):
            assert facts(data.encode(codec)) == ("sealwax-text", (UNDER,), True)
    assert facts(base64.b64encode(SEALED)) == ("sealwax-text", (UNDER,), True)
    assert facts(samples.zipped(SEALED)) == ("sealwax-gzip", (UNDER,), True)
    assert facts(samples.zipped(text.encode())) == ("sealwax-text", (UNDER,), True)
    large = sealwax.Sealer(FakeKeyring(ALPHA)).encrypt(os.urandom(300_000), context=CONTEXT)
    assert facts(sealwax.armor(large).encode()) == ("sealwax-text", (UNDER,), True)
    damaged = bytearray(SEALED)
    damaged[40] ^= 1
    assert facts(sealwax.armor(damaged).encode()) == ("sealwax-text", (), False)
    assert facts(text[:150].encode()) == ("sealwax-text", (), False)


def test_an_envelope_is_none_of_the_others() -> None:
    for data in (SEALED, *(sealwax.Sealer(FakeKeyring(ALPHA)).encrypt(os.urandom(99), context=CONTEXT) for _ in "abc")):
        assert inspect_envelope(data).foreign is None
        for cut in range(8, len(data)):
            with pytest.raises(sealwax.DamagedHeaderError) as caught:
                sealwax.inspect(data[:cut]) if cut < 200 else sealwax.inspect(data[:200])
            assert not isinstance(caught.value, sealwax.NotAnEnvelopeError)


# --- nothing at all


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"Dear diary, ENVKMS01 is an old format, and swx1: begins a text form.",
        b"ENVKMS01 is the magic of an old format\n",
        b"PARE! Stop here, says the sign.",
        b"AQICAHh is how they begin",
        b"AgR4\n",
        b"\x1f\x8b\x08 no gzip",
        b"\x1f\x8b\x08" + bytes(50),
        b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n",
        b"age-encryption.org/v1\n-> X25519 abc\n",
        b"SQLite format 3\0" + bytes(52) + b"SWXF" + BLOB,
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 30_000,
        b"{" + b'"sops":{' * 9_000,
        b"sops:\n" * 20_000,
        b"[sops]\n" * 20_000,
        b"AYAB" * 30_000,
        bytes(200_000),
        b"\x00\x00\x00\x9b" + samples.NOISE,
    ],
)
def test_nothing_is_seen_in_what_is_nothing(data: bytes) -> None:
    assert look(data) is None


def test_a_p12_file_is_no_kms_ciphertext() -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    from tests.foreign.certificates import certificate

    key, cert = certificate()
    data = pkcs12.serialize_key_and_certificates(b"x", key, cert, None, BestAvailableEncryption(b"pass"))
    assert b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06\xa0" in data
    assert look(data) is None


def test_noise_is_hardly_ever_taken_for_a_format() -> None:
    noise = random.Random(7)
    taken = [found.format for _ in range(3000) if (found := look(noise.randbytes(noise.randrange(300)))) is not None]
    assert taken == []


def test_a_gzip_bomb_is_not_inflated() -> None:
    data = samples.zipped(bytes(50 << 20))
    assert len(data) < 60_000
    assert look(data) is None


# --- total


def _whole(found: ForeignFormat | None) -> None:
    if found is not None:
        assert str(found).isprintable()
        assert len(str(found)) < 2000
        assert found.format == found.format.strip() != ""


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=3))
def test_any_bytes(data: bytes, metadata: dict[str, str]) -> None:
    _whole(look(data, metadata))
    _whole(recognize.recognize(lambda at, size: data[at : at + size], None))


CORPUS = [*samples.everything(BLOB).values(), *(form(ARN, MULTI) for form in SOPS.values())]
CORPUS += [
    samples.zipped(samples.sops_yaml(ARN)),
    sealwax.armor(SEALED).encode(),
    base64.b64encode(samples.envkms(BLOB)),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CORPUS), st.data())
def test_any_mutation(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(changed)))
        cut = draw.draw(st.integers(0, 9))
        changed[at : at + cut] = draw.draw(st.binary(max_size=9))
    _whole(look(bytes(changed)))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(list(SOPS)))
def test_any_key_of_sops(name: bytes, form: str) -> None:
    _whole(look(SOPS[form](name.decode("latin-1"))))


NAMES = st.sampled_from(
    ["arn", "enc", "kms", "pgp", "age", "mac", "version", "sops", "key_groups", "role", "x", "-", "#", ":"]
)
ARNS = st.integers(0, 3).map(lambda at: f"{ARN[:-1]}{at}")
KEY = st.fixed_dictionaries(
    {"arn": ARNS, "enc": st.just("AQICAHhx"), "created_at": st.just("2026-01-01T00:00:00Z")},
    optional={
        "context": st.dictionaries(NAMES, NAMES | ARNS | st.text(max_size=9), max_size=3),
        "role": NAMES,
        "aws_profile": st.just(""),
    },
)
AGE = st.fixed_dictionaries({"recipient": st.just("age1"), "enc": st.just("-----BEGIN AGE-----\nkms: x\n- arn: y\n")})
GROUP = st.fixed_dictionaries(
    {}, optional={"kms": st.lists(KEY, max_size=3), "age": st.lists(AGE, max_size=2), "pgp": st.just([])}
)
SECTION = st.tuples(GROUP, st.none() | st.lists(GROUP, min_size=1, max_size=3)).map(
    lambda parts: {
        **parts[0],
        **({"key_groups": parts[1]} if parts[1] else {}),
        "mac": samples.SEALED,
        "version": "3.9.4",
    }
)


@settings(max_examples=80, deadline=None)
@given(SECTION, st.integers(2, 6), st.booleans(), st.booleans(), st.sampled_from([None, False, True]))
def test_keys_that_are_told_are_all_that_a_yaml_reader_finds(
    section: dict[str, Any], indent: int, is_sorted: bool, indented: bool, flow: bool | None
) -> None:
    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, indentless and not indented)

        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  sops writes none
            return True

    content = {"password": samples.SEALED, "sops": section}
    text = yaml.dump(content, Dumper=Dumper, indent=indent, sort_keys=is_sorted, default_flow_style=flow, width=80)
    groups = [section, *section.get("key_groups", [])]
    arns = {key["arn"] for group in groups for key in group.get("kms", [])}
    found = look(text.encode())
    assert found is None or found.format == "sops"
    assert found is not None or flow
    if found is not None and found.complete:
        assert set(found.keys) == arns
    if flow is False and all(groups) and not any("context" in key for group in groups for key in group.get("kms", [])):
        assert found is not None
        assert found.complete
    as_json = seen(json.dumps(content).encode())
    assert (set(as_json.keys), as_json.complete) == (arns, True)


def test_the_vectors_say_where_they_are_from() -> None:
    said = json.loads((Path(samples.VECTORS) / "esdk-v2-messages.json").read_text())
    assert "Apache-2.0" in said["license"]
    assert "Amazon" in said["license"]
