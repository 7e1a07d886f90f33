"""The checks of records: each passes where its promise is kept, fails where it is broken, and leaves nothing behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import jsonschema
import pytest

import sealwax
from sealwax.errors import AccessDeniedError, KeyStoreError
from sealwax.lab import Lab
from sealwax.policy import KeyUsers, RequiredContext, write_key_policy
from sealwax.prove import CHECKS, RECORDS_CHECKS, Check, CheckResult, Options, Parts, prove
from sealwax.prove._proof import Proof
from sealwax.prove._run import run_check
from sealwax.records import Field, KeyRow, KeyState, MemoryKeys, Records, _blob
from tests.prove.conftest import Doctored

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[2]
CONTEXT: Final = {"purpose": "backup"}
NAMES: Final = [check.name for check in RECORDS_CHECKS]


KEY: Final = "alias/well-set"
#: These, and what they need.
WANTED: Final = [
    check for check in CHECKS + RECORDS_CHECKS if check in RECORDS_CHECKS or RECORDS_CHECKS[-1].depends_on(check)
]


def run(lab: Lab, options: Options, session: Any = None) -> dict[str, CheckResult]:
    """Run the checks of records, and those that they need."""
    proof = Proof(KEY, CONTEXT, session or lab.session(), options)
    results: dict[Check, CheckResult] = {}
    try:
        for check in WANTED:
            results[check] = run_check(check, proof, results)
    finally:
        proof.close()
    return {check.name: results[check] for check in RECORDS_CHECKS}


def outcomes(found: Mapping[str, CheckResult]) -> dict[str, str]:
    return {name: result.outcome for name, result in found.items()}


def test_a_well_set_key_passes_and_the_store_is_left_as_it_was(lab: Lab) -> None:
    store = MemoryKeys()
    with Records(sealwax.KmsKeyring("alias/well-set", session=lab.session()), store, scope=CONTEXT) as records:
        records.ensure()
        before = list(store.list())
        report = prove(KEY, CONTEXT, lab.session(), Options(records=store))
        kept_as_shredded(store, CONTEXT)
        assert [row for row in store.list() if row.scope == CONTEXT] == before
    assert {result.name: result.outcome for result in report.checks[-5:]} == dict.fromkeys(NAMES, "passed")
    assert [result.name for result in report.checks] == [check.name for check in CHECKS] + NAMES
    assert report.requests == report.planned
    schema = json.loads((ROOT / "docs/reference/prove.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(report.as_dict())))


def kept_as_shredded(store: MemoryKeys, *others: Mapping[str, str]) -> None:
    """Check that nothing but marks of a shredded scope has stayed."""
    rows = [row for row in store.list() if row.scope not in others]
    assert len({tuple(row.scope.items()) for row in rows}) <= 1
    assert len(rows) <= 4
    assert {(row.state, row.blob) for row in rows} <= {(KeyState.SHREDDED, b"")}


def test_without_a_store_they_are_not_shown(lab: Lab) -> None:
    assert outcomes(run(lab, Options())) == dict.fromkeys(NAMES, "not shown")


# --- broken promises


class Lax(Field):
    """Opens a record in any row."""

    __slots__ = ()

    def open(self, record: Any, *, row: Any) -> Any:
        del row
        return super().open(record, row=7)


class Careless(Records):
    def field(self, name: str, /, *, row: Any, **pairs: str) -> Field:
        made = super().field(name, row=row, **pairs)
        made.__class__ = Lax
        return made


class OneField(Records):
    """Has the same key for every field."""

    def field(self, name: str, /, *, row: Any, **pairs: str) -> Field:
        del name
        return super().field("the same", row=row, **pairs)


class OneScope(Records):
    """Has the same key for every scope."""

    def field(self, name: str, /, *, row: Any, **pairs: str) -> Field:
        del pairs
        return super().field(name, row=row)


class Stuck(Records):
    """Makes no new data key."""

    def roll(self, **pairs: str) -> KeyRow:
        return self.rows(**pairs)[0]


class Merciful(Records):
    """Shreds nothing."""

    def shred(self, **pairs: str) -> list[KeyRow]:
        return self.rows(**pairs)


class Repeating(Records):
    """Gives the next generation the same data key, as a cache would."""

    def roll(self, **pairs: str) -> KeyRow:
        (first,) = self.rows(**pairs)
        with _blob.unwrap(self.keyring, first) as key:
            header, _ = _blob.header_of(first)
            known = Known(key, header.slot.wrapped_keys)
            row, made = _blob.make(known, first.scope, first.kind, 2)  # type: ignore[arg-type]
            made.close()
        self.store.create(row)
        self.clear()
        return row


class Known:
    """A keyring that makes one data key over and over."""

    def __init__(self, key: Any, wrapped_keys: Any) -> None:
        self._made = key, wrapped_keys

    def generate(self, context: Mapping[str, str], use: Callable[..., T], *, plaintext_bytes: int | None) -> T:
        del context, plaintext_bytes
        return use(*self._made)


class Asking(Records):
    """Asks KMS for each record."""

    def field(self, name: str, /, *, row: Any, **pairs: str) -> Field:
        self.clear()
        self.ensure(**pairs)
        return super().field(name, row=row, **pairs)


class Shredless(MemoryKeys):
    """Marks a scope as shredded, and keeps its wrapped keys."""

    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        rows = [row for row in self.list(scope) if row.scope == scope]
        super().shred(scope)
        self._rows += [KeyRow(**{**_fields(row), "state": KeyState.SHREDDED, "claim": None}) for row in rows]
        return rows


def _fields(row: KeyRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in KeyRow.__slots__}


class Deaf(MemoryKeys):
    """Takes no re-wrapped key."""

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        del row, blob
        return False


BROKEN: Final[list[tuple[str, str, Callable[..., Any], Callable[[], MemoryKeys]]]] = [
    ("records-round-trip", "KMS was called for sealing and opening", Asking, MemoryKeys),
    ("records-refused", "a record in another row was accepted", Careless, MemoryKeys),
    ("records-refused", "a record in another field was accepted", OneField, MemoryKeys),
    ("records-refused", "a record in another scope was accepted", OneScope, MemoryKeys),
    ("records-roll", "the new record is under the old key", Stuck, MemoryKeys),
    ("records-roll", "both generations have the same data key", Repeating, MemoryKeys),
    ("records-rewrap", "the key store did not take the re-wrapped key", Records, Deaf),
    ("records-shred", "still has a wrapped key", Merciful, MemoryKeys),
    ("records-shred", "still has a wrapped key", Records, Shredless),
]


@pytest.mark.parametrize(("name", "tells", "records", "store"), BROKEN)
def test_a_broken_promise_fails_its_check(
    lab: Lab, name: str, tells: str, records: Callable[..., Any], store: Callable[[], MemoryKeys]
) -> None:
    results = run(lab, Options(records=store(), parts=Parts(records=records)))
    assert tells in results[name].detail
    found = outcomes(results)
    assert [other for other, outcome in found.items() if outcome == "failed"] == [name]


def test_a_kms_that_ignores_the_scope_fails(lab: Lab) -> None:
    def ask(operation: str, parameters: dict[str, Any]) -> None:
        if operation == "Decrypt":
            context = parameters["EncryptionContext"]
            parameters["EncryptionContext"] = {name: context[name] for name in context if not name.endswith("-other")}

    refused = run(lab, Options(records=MemoryKeys()), Doctored(lab.session(), asked=ask))["records-refused"]
    assert (refused.outcome, refused.detail) == ("failed", "the data key in another scope was accepted")


# --- what keeps them from being shown


@pytest.mark.parametrize("code", ["AccessDeniedException", "DisabledException"])
@pytest.mark.parametrize("name", NAMES)
def test_a_check_whose_requests_kms_refuses_is_not_shown(lab: Lab, name: str, code: str) -> None:
    store = MemoryKeys()
    refusing = False
    session = Doctored(lab.session(), refused=lambda *_: code if refusing else None)
    proof = Proof(KEY, CONTEXT, session, Options(records=store))
    results: dict[Check, CheckResult] = {}
    for check in WANTED:
        refusing = check.name == name
        results[check] = run_check(check, proof, results)
    refusing = False
    proof.close()
    found = {check.name: result.outcome for check, result in results.items()}
    assert found[name] == "not shown"
    assert {found[check.name] for check in WANTED if check.depends_on(_named(name))} <= {"not shown"}
    assert "failed" not in found.values()
    kept_as_shredded(store)


def _named(name: str) -> Check:
    return next(check for check in WANTED if check.name == name)


ACCOUNT: Final = "arn:aws:iam::111122223333"
#: The checks that are not shown to whoever lacks an action with `sealwax-use`.
LACKING: Final[Mapping[str, set[str]]] = {
    "GenerateDataKey": set(NAMES),
    "Decrypt": set(NAMES),
    "Encrypt": set(),
    "ReEncryptFrom": {"records-rewrap"},
    "ReEncryptTo": {"records-rewrap"},
}


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias=KEY.removeprefix("alias/"))
        for name in ("admin", "app"):
            lab.add_principal(name)
        yield lab


def under(lab: Lab, *denied: str, users: Sequence[str] = ("encrypt", "decrypt", "records", "rotate_records")) -> Any:
    """Give the key a written policy that names one user for these purposes; return a session of that user."""
    app = f"{ACCOUNT}:user/app"
    chosen = KeyUsers(**{use: [app] for use in users})
    document = write_key_policy([f"{ACCOUNT}:user/admin"], chosen, RequiredContext(CONTEXT))
    condition = {"Null": {"kms:EncryptionContext:sealwax-use": "false"}}
    for action in denied:
        deny = {"Effect": "Deny", "Principal": "*", "Action": f"kms:{action}", "Resource": "*", "Condition": condition}
        document["Statement"].append(deny)
    root = lab.session(account="111122223333").client("kms")
    arn = root.describe_key(KeyId=KEY)["KeyMetadata"]["Arn"]
    root.put_key_policy(KeyId=arn, Policy=json.dumps(document), BypassPolicyLockoutSafetyCheck=True)
    return lab.session(principal="app")


@pytest.mark.parametrize("action", LACKING)
def test_a_role_that_lacks_an_action(own_lab: Lab, action: str) -> None:
    store = MemoryKeys()
    found = outcomes(run(own_lab, Options(records=store), under(own_lab, action)))
    assert found == {name: "not shown" if name in LACKING[action] else "passed" for name in NAMES}
    kept_as_shredded(store)


def test_the_role_of_an_application(own_lab: Lab) -> None:
    session = under(own_lab, users=("encrypt", "decrypt", "records"))
    found = outcomes(run(own_lab, Options(records=MemoryKeys()), session))
    assert found == {name: "not shown" if name == "records-rewrap" else "passed" for name in NAMES}


def test_a_role_of_records_alone_is_refused_at_once(own_lab: Lab) -> None:
    session = under(own_lab, users=("records",))
    with pytest.raises(AccessDeniedError):
        prove(KEY, CONTEXT, session, Options(records=MemoryKeys()))


class Away(MemoryKeys):
    def newest(self, *_: object) -> None:
        raise KeyStoreError("the key store is away", retryable=True)


def test_a_key_store_that_is_away_says_nothing_of_the_key(lab: Lab) -> None:
    found = outcomes(run(lab, Options(records=Away())))
    assert found == dict.fromkeys(NAMES, "not shown")


def test_the_page_names_the_checks_and_what_each_asks_for(lab: Lab) -> None:
    page = (ROOT / "docs/how-to/verification.md").read_text(encoding="utf-8").partition("\n## Records\n")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \|[^|]*\| (.*) \|$", page, re.MULTILINE)
    named = {name: set(re.findall(r"kms:\w+", actions)) for name, actions in rows}
    assert list(named) == NAMES
    assert len(NAMES) == 5
    for result in run(lab, Options(records=MemoryKeys())).values():
        asked = {one.operation for one in result.evidence if one.is_request}
        actions = {f"kms:{operation}" for operation in asked - {"ReEncrypt"}}
        if "ReEncrypt" in asked:
            actions |= {"kms:ReEncryptFrom", "kms:ReEncryptTo"}
        assert actions == named[result.name], result
