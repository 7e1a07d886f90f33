"""Each check passes where its promise is kept, and fails where that is really broken, and no other check with it."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import sealwax
from sealwax.lab import Lab
from sealwax.prove import CHECKS, Helper, Options, Parts, ProofReport, prove
from sealwax.prove._envelopes import FixedKeyring
from sealwax.prove._proof import SAMPLE
from sealwax.prove._requests import altered, wrong
from tests.prove.conftest import Doctored

ROOT = Path(__file__).parents[2]
CONTEXT = {"purpose": "backup"}
KEY = "alias/well-set"


def run(lab: Lab, options: Options, session: Doctored | None = None, key: str = KEY) -> ProofReport:
    return prove(key, CONTEXT, session or lab.session(), options)


def outcomes(report: ProofReport) -> dict[str, str]:
    return {result.name: result.outcome for result in report.checks}


def everything(lab: Lab, helper: Helper) -> Options:
    return Options(to="alias/other", denied=lambda: lab.session(principal="nobody"), helper=helper)


def requests(lab: Lab) -> set[str]:
    return {event.record["requestID"] for event in lab.trail.events()}


# --- a well-set key


def test_a_well_set_key_passes(lab: Lab, helper: Helper) -> None:
    before = requests(lab)
    report = run(lab, everything(lab, helper))
    not_shown = {name for name, outcome in outcomes(report).items() if outcome != "passed"}
    on_this_system = set() if sys.platform == "linux" else {"memory"}
    assert not_shown == {"rotation", "replicas"} | on_this_system, report
    assert report.requests == len(requests(lab) - before)
    # What was told beforehand is what was done.
    assert report.requests == report.planned
    assert sum(bool(result.evidence) for result in report.checks) == len(CHECKS) - 2  # rotation, and the shared logs


def test_a_key_of_many_regions_that_may_be_rotated_passes(lab: Lab, helper: Helper) -> None:
    report = run(lab, replace(everything(lab, helper), to=None, helper=None, allow_changes=True), key="alias/many")
    assert {name for name, outcome in outcomes(report).items() if outcome != "passed"} == {
        "reencrypt-other-key",
        "memory",
        "debug-logs",
    }
    material = [one for result in report.checks for one in result.evidence if one.operation == "RotateKeyOnDemand"]
    assert len(material) == 1


def actions_on_the_page() -> dict[str, set[str]]:
    page = (ROOT / "docs/how-to/verification.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \|[^|]*\|[^|]*\| (.*)\|$", page, re.MULTILINE)
    return {name: set(re.findall(r"kms:\w+", actions)) for name, actions in rows}


def test_the_page_follows_the_checks_and_says_what_each_asks_for(lab: Lab, helper: Helper) -> None:
    named = actions_on_the_page()
    assert list(named) == [check.name for check in CHECKS]
    options = replace(everything(lab, helper), allow_changes=True)
    for result in run(lab, options, key="alias/many").checks:
        asked = {one.operation for one in result.evidence if one.is_request}
        actions = {f"kms:{operation}" for operation in asked - {"ReEncrypt"}}
        if "ReEncrypt" in asked:
            actions |= {"kms:ReEncryptFrom", "kms:ReEncryptTo"}
        assert actions == named[result.name], result


def test_nothing_is_changed_unless_it_is_allowed(lab: Lab, helper: Helper) -> None:
    before = len(list(lab.trail.events()))
    run(lab, everything(lab, helper))
    operations = {event.record["eventName"] for event in list(lab.trail.events())[before:]}
    assert operations <= {
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "Encrypt",
        "Decrypt",
        "ReEncrypt",
        "DescribeKey",
    }


def test_what_could_not_be_run_is_not_passed(lab: Lab) -> None:
    assert {name for name, outcome in outcomes(run(lab, Options())).items() if outcome == "not shown"} == {
        "denied-principal",
        "memory",
        "debug-logs",
        "reencrypt-other-key",
        "rotation",
        "replicas",
    }


def test_a_check_names_the_option_that_it_needs(lab: Lab) -> None:
    assert {result.name: result.missing for result in run(lab, Options()).checks if result.missing is not None} == {
        "denied-principal": "denied",
        "memory": "helper",
        "debug-logs": "helper",
        "reencrypt-other-key": "to",
        "rotation": "allow_changes",
    }


def test_a_key_that_cannot_be_used_at_all_is_an_error(lab: Lab) -> None:
    key = lab.create_key()["Arn"]
    lab.call("DisableKey", KeyId=key)
    with pytest.raises(sealwax.KeyStateError):
        run(lab, Options(), key=key)


SCHEMA = json.loads((ROOT / "docs/reference/prove.schema.json").read_text(encoding="utf-8"))


def test_the_json_is_what_its_schema_says(lab: Lab) -> None:
    def throttled(operation: str, _: str) -> str | None:
        return "ThrottlingException" if operation == "DescribeKey" else None

    # One that passed, one that failed, one that is not shown, and one that was interrupted.
    options = Options(to="alias/other", denied=lambda: lab.session(principal="somebody"))
    found: Any = run(lab, options, Doctored(lab.session(), refused=throttled)).as_dict()
    assert {check["outcome"] for check in found["checks"]} == {"passed", "failed", "not shown"}
    assert [check["name"] for check in found["checks"] if check["interrupted"]] == ["replicas"]
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    validator.validate(json.loads(json.dumps(found)))
    assert [len(found["checks"]), found["passed"] + found["failed"] + found["not_shown"]] == [len(CHECKS)] * 2
    # It says something.
    first, *others = found["checks"]
    for broken in (
        {**found, "more": 1},
        {name: value for name, value in found.items() if name != "usd"},
        {**found, "checks": [{**first, "outcome": "fine"}, *others]},
        {**found, "checks": [{**first, "interrupted": True}, *others]},
        {**found, "checks": [{**first, "evidence": [{**first["evidence"][0], "time": 1}]}, *others]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(broken)


def test_nothing_secret_is_reported(lab: Lab, helper: Helper) -> None:
    seen: list[bytes] = []

    def watch(_operation: str, document: dict[str, Any], _: dict[str, Any]) -> None:
        if "Plaintext" in document:
            seen.append(base64.b64decode(document["Plaintext"]))

    report = run(lab, everything(lab, helper), Doctored(lab.session(), answered=watch))
    assert len(seen) > 8
    text = repr(report) + repr(report.as_dict())
    for key in seen:
        assert key.hex() not in text
        assert base64.b64encode(key).decode() not in text


# --- what is broken, one thing at a time

Break = Callable[[Lab, Options], tuple[Options, Doctored | None]]
BREAKS: dict[str, Break] = {}


def breaks(name: str) -> Callable[[Break], Break]:
    def add(how: Break) -> Break:
        BREAKS[name] = how
        return how

    return add


def answering(
    operation: str, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> Callable[[Lab, Options], tuple[Options, Doctored]]:
    """Return a break in which the document of an operation's answers is changed, given the request."""

    def doctor(lab: Lab, options: Options) -> tuple[Options, Doctored]:
        def answer(answered: str, document: dict[str, Any], request: dict[str, Any]) -> None:
            if answered == operation:
                change(document, request)

        return options, Doctored(lab.session(), answered=answer)

    return doctor


def asking(change: Callable[[str, dict[str, Any]], None]) -> Break:
    return lambda lab, options: (options, Doctored(lab.session(), asked=change))


def _short(document: dict[str, Any], _: dict[str, Any]) -> None:
    document["Plaintext"] = base64.b64encode(os.urandom(31)).decode()


def _other_plaintext(document: dict[str, Any], _: dict[str, Any]) -> None:
    document["Plaintext"] = base64.b64encode(os.urandom(32)).decode()


BREAKS["generate-data-key"] = answering("GenerateDataKey", _short)
BREAKS["generate-no-plaintext"] = answering("GenerateDataKeyWithoutPlaintext", _other_plaintext)
BREAKS["decrypt"] = answering("Decrypt", _other_plaintext)
BREAKS["own-rights"] = asking(lambda _, parameters: parameters.pop("DryRun", None))


@breaks("denied-principal")
def _not_denied(lab: Lab, options: Options) -> tuple[Options, None]:
    return replace(options, denied=lambda: lab.session(principal="somebody")), None


def _taken_for_right(*contexts: dict[str, str]) -> Break:
    def ask(operation: str, parameters: dict[str, Any]) -> None:
        if operation == "Decrypt" and parameters.get("EncryptionContext", {}) in contexts:
            parameters["EncryptionContext"] = CONTEXT

    return asking(ask)


BREAKS["context-wrong"] = _taken_for_right(wrong(CONTEXT))
BREAKS["context-missing"] = _taken_for_right({})
BREAKS["context-altered"] = _taken_for_right(altered(CONTEXT)["one pair more"])


@breaks("tampered-wrapped-key")
def _mends(lab: Lab, options: Options) -> tuple[Options, Doctored]:
    good: list[bytes] = []

    def ask(operation: str, parameters: dict[str, Any]) -> None:
        if operation != "Decrypt":
            return
        blob = parameters.get("CiphertextBlob", b"")
        near = [one for one in good if sum(a != b for a, b in zip(one, blob, strict=False)) == 1]
        if near:
            parameters["CiphertextBlob"] = near[0]
        else:
            good.append(blob)

    return options, Doctored(lab.session(), asked=ask)


class Lax(sealwax.Sealer):
    """A sealer that takes some refusals lightly."""

    def __init__(self, keyring: sealwax.Keyring, **settings: Any) -> None:
        super().__init__(keyring, **settings)
        self.held = isinstance(keyring, FixedKeyring)


def lax(error: type[sealwax.SealwaxError], when: Callable[[Any, Any], bool] = lambda *_: True) -> Break:
    class Sealer(Lax):
        def decrypt(self, sealed: Any, *, context: Any, header: Any = None) -> bytes:
            try:
                return super().decrypt(sealed, context=context, header=header)
            except error:
                if when(self, context):
                    return SAMPLE
                raise

    return lambda _, options: (replace(options, parts=Parts(sealer=Sealer)), None)


def forgetful(when: Callable[[Any], bool]) -> Break:
    class Sealer(Lax):
        def decrypt(self, sealed: Any, *, context: Any, header: Any = None) -> bytes:
            opened = super().decrypt(sealed, context=context, header=header)
            return b"" if when(self) else opened

    return lambda _, options: (replace(options, parts=Parts(sealer=Sealer)), None)


BREAKS["local-encryption"] = forgetful(lambda sealer: sealer.held)
BREAKS["round-trip"] = forgetful(lambda sealer: not sealer.held)
BREAKS["context-in-payload"] = lax(sealwax.CommitmentError, lambda _, context: context == wrong(CONTEXT))
BREAKS["tampered-ciphertext"] = lax(sealwax.TamperedError)
BREAKS["context-at-envelope"] = lax(sealwax.ContextError)
BREAKS["swapped-wrapped-key"] = lax(sealwax.CommitmentError, lambda sealer, _: not sealer.held)


def leaking(where: str) -> Break:
    def leak(_: Lab, options: Options) -> tuple[Options, None]:
        assert options.helper is not None
        environment = {**options.helper.environment, "PYTHONPATH": str(ROOT)}
        return replace(options, helper=Helper(environment, (sys.executable, "-m", "tests.prove.leaky", where))), None

    return leak


BREAKS["memory"] = leaking("memory")
BREAKS["debug-logs"] = leaking("logs")


def _as_it_was(document: dict[str, Any], request: dict[str, Any]) -> None:
    if request["DestinationKeyId"] == KEY:
        document["CiphertextBlob"] = base64.b64encode(request["CiphertextBlob"]).decode()


BREAKS["reencrypt-same-key"] = answering("ReEncrypt", _as_it_was)


@breaks("reencrypt-other-key")
def _another_key_wrapped(lab: Lab, options: Options) -> tuple[Options, Doctored]:
    foreign = lab.call("GenerateDataKey", KeyId="alias/other", KeySpec="AES_256", EncryptionContext=CONTEXT)

    def answer(operation: str, document: dict[str, Any], request: dict[str, Any]) -> None:
        if operation == "ReEncrypt" and request["DestinationKeyId"] == "alias/other" and "DryRun" not in request:
            blob = foreign["CiphertextBlob"]
            document["CiphertextBlob"] = blob if isinstance(blob, str) else base64.b64encode(blob).decode()

    return options, Doctored(lab.session(), answered=answer)


@breaks("rotation")
def _stays_under_old_material(lab: Lab, options: Options) -> tuple[Options, Doctored]:
    materials: list[str] = []

    def answer(operation: str, document: dict[str, Any], _: dict[str, Any]) -> None:
        if operation == "DescribeKey":
            materials.append(document["KeyMetadata"]["CurrentKeyMaterialId"])
        if operation == "ReEncrypt" and materials:
            document["DestinationKeyMaterialId"] = materials[0]

    return replace(options, allow_changes=True), Doctored(lab.session(), answered=answer)


@breaks("replicas")
def _replica_refuses(lab: Lab, options: Options) -> tuple[Options, Doctored]:
    def refuse(operation: str, region: str) -> str | None:
        return "InvalidCiphertextException" if (operation, region) == ("Decrypt", "eu-west-1") else None

    return options, Doctored(lab.session(), refused=refuse)


@breaks("throttling")
def _gives_up(_: Lab, options: Options) -> tuple[Options, None]:
    def keyring(*keys: Any, **settings: Any) -> sealwax.KmsKeyring:
        return sealwax.KmsKeyring(*keys, **settings | {"retries": sealwax.RetryPolicy(attempts=1)})

    return replace(options, parts=Parts(keyring=keyring)), None


@breaks("cached-offline")
def _keeps_nothing(_: Lab, options: Options) -> tuple[Options, None]:
    def cache(keyring: Any, *, max_age: float) -> sealwax.CachingKeyring:
        return sealwax.CachingKeyring(keyring, max_age=max_age, max_bytes=0)

    return replace(options, parts=Parts(cache=cache)), None


#: What each says when it is broken so: it fails for that, and not for something that the doctoring broke beside it.
TELLS = {
    "generate-data-key": "the data key has 31 bytes",
    "generate-no-plaintext": "the response has a plaintext key",
    "decrypt": "a different data key from GenerateDataKey",
    "own-rights": "was executed despite DryRun",
    "denied-principal": "its Decrypt was accepted",
    "context-wrong": "another context was accepted",
    "context-missing": "no context was accepted",
    "context-altered": "one pair more was accepted",
    "tampered-wrapped-key": "a bit of byte 0 flipped was accepted",
    "local-encryption": "the envelope decrypts to other data",
    "context-in-payload": "a payload under another context was accepted",
    "tampered-ciphertext": "was accepted",
    "round-trip": "the envelope decrypts to other data",
    "context-at-envelope": "a wrong context was accepted",
    "swapped-wrapped-key": "a swapped wrapped key was accepted",
    "memory": "halves of keys are in the memory",
    "debug-logs": "halves of keys are in the DEBUG logs",
    "reencrypt-same-key": "the wrapped key did not change",
    "reencrypt-other-key": "does not belong to this payload",
    "rotation": "is under key material",
    "replicas": "InvalidCiphertextException",
    "throttling": "gave up before the request succeeded",
    "cached-offline": "KMS was called although the data key was cached",
}


def test_each_check_has_something_that_breaks_it() -> None:
    assert set(BREAKS) == set(TELLS) == {check.name for check in CHECKS}
    assert len(CHECKS) == 23


_well_set: dict[tuple[str, bool], dict[str, str]] = {}


def well_set(lab: Lab, key: str, options: Options) -> dict[str, str]:
    """Return the outcomes where nothing is broken."""
    case = key, options.helper is not None
    if case not in _well_set:
        _well_set[case] = outcomes(run(lab, options, key=key))
    return _well_set[case]


@pytest.mark.slow
@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_a_check_fails_where_its_promise_is_broken(name: str, lab: Lab, helper: Helper) -> None:
    key = "alias/many" if name == "replicas" else KEY
    options = everything(lab, helper)
    if name not in ("memory", "debug-logs"):
        options = replace(options, helper=None)
    expected = well_set(lab, key, options)
    options, session = BREAKS[name](lab, options)
    broken = run(lab, options, session, key=key)
    check = next(check for check in CHECKS if check.name == name)
    for other in CHECKS:
        outcome = outcomes(broken)[other.name]
        if other is check:
            assert outcome == "failed", broken
            assert TELLS[name] in next(result.detail for result in broken.checks if result.name == name)
        elif other.depends_on(check):
            assert outcome == "not shown", (other.name, broken)
        else:
            assert outcome == expected[other.name], (other.name, broken)
