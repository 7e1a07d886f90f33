"""The policies for records: who may make, open and move their data keys, in the lab and by the evaluator."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
import pytest

import sealwax
from sealwax.errors import AccessDeniedError, PolicyError
from sealwax.kms import MultiRegionKeyring
from sealwax.lab import Lab
from sealwax.policy import (
    Document,
    KeyDescription,
    KeyUsers,
    RequiredContext,
    allow_decrypt,
    allow_encrypt,
    allow_records,
    allow_rotate,
    allow_rotate_indexes,
    allow_rotate_records,
    allow_search_records,
    deny_records,
    explain,
    parse_identity_policy,
    parse_key_policy,
    principal,
    write_identity_policy,
    write_key_policy,
)
from sealwax.records import KeyKind, KeyRow, MemoryKeys, Records, _blob
from sealwax.records._blob import kms_context

ACCOUNT: Final = "arn:aws:iam::111122223333"
SCOPE: Final = {"app": "shop"}
SHOP: Final = RequiredContext(SCOPE)
MAIL: Final = {"app": "shop", "purpose": "mail"}
DATA: Final = kms_context(SCOPE, KeyKind.DATA)
INDEX: Final = kms_context(SCOPE, KeyKind.INDEX)
USERS: Final = ("admin", "app", "searcher", "rotator", "indexer", "mailer", "mover")
NOW: Final = datetime(2026, 11, 24, tzinfo=UTC)
KEY: Final = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NEW: Final = "arn:aws:kms:us-east-1:111122223333:key/5678abcd-12ab-34cd-56ef-1234567890ab"
DELEGATING_TEXT: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": f"{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}],
}
OPERATIONS: Final = ("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")


def arn(name: str) -> str:
    return f"{ACCOUNT}:user/{name}"


@dataclass
class Shop:
    """A lab with one KMS key that records and mails share, and a user for each purpose."""

    lab: Lab
    key: str

    def keyring(self, who: str) -> sealwax.KmsKeyring:
        return sealwax.KmsKeyring(self.key, session=self.lab.session(principal=who))

    def kms(self, who: str) -> Any:
        return self.lab.session(principal=who).client("kms")

    def put(self, document: Mapping[str, Any]) -> None:
        root = self.lab.session(account="111122223333").client("kms")
        root.put_key_policy(KeyId=self.key, Policy=json.dumps(document))

    def move(self, who: str, blob: bytes, source: Mapping[str, str], target: Mapping[str, str]) -> bytes:
        return moved(self.kms(who), self.key, blob, source, target)


def moved(kms: Any, key: str, blob: bytes, source: Mapping[str, str], target: Mapping[str, str]) -> bytes:
    answer = kms.re_encrypt(
        CiphertextBlob=blob,
        SourceKeyId=key,
        DestinationKeyId=key,
        SourceEncryptionContext=source,
        DestinationEncryptionContext=target,
    )
    return bytes(answer["CiphertextBlob"])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Lab(tmp_path / "lab") as lab:
        for name in USERS:
            lab.add_principal(name)
        yield Shop(lab, lab.create_key(alias="shop")["Arn"])


def without_denials() -> Document:
    """A key policy that binds each use to the application, as one did before there were records."""

    def allow(name: str, *actions: str, context: Mapping[str, str] = SCOPE) -> Document:
        condition = {f"kms:EncryptionContext:{key}": value for key, value in context.items()}
        return {
            "Effect": "Allow",
            "Principal": {"AWS": arn(name)},
            "Action": [f"kms:{action}" for action in actions],
            "Resource": "*",
            "Condition": {"StringEquals": condition},
        }

    administer = {"Effect": "Allow", "Principal": {"AWS": f"{ACCOUNT}:root"}, "Action": "kms:Put*", "Resource": "*"}
    return {
        "Version": "2012-10-17",
        "Statement": [
            administer,
            allow("app", "GenerateDataKey", "Decrypt"),
            allow("rotator", "ReEncryptFrom", "ReEncryptTo"),
            allow("mailer", "GenerateDataKey", "Encrypt", "Decrypt", context=MAIL),
        ],
    }


def written(**more: Sequence[str]) -> Document:
    users: dict[str, Sequence[str]] = {
        "encrypt": [arn("mailer")],
        "decrypt": [arn("mailer")],
        "rotate_from": [arn("mover")],
        "rotate_to": [arn("mover")],
        "records": [arn("app")],
        "search_records": [arn("searcher")],
        "rotate_records": [arn("rotator")],
        "rotate_indexes": [arn("indexer")],
    }
    return write_key_policy([arn("admin")], KeyUsers(**users | more), SHOP)


def row_of(store: MemoryKeys) -> KeyRow:
    return next(store.list())


def wrapped(blob: bytes) -> bytes:
    return sealwax.inspect(blob).wrapped_keys[0].ciphertext


def denied(error: pytest.ExceptionInfo[botocore.exceptions.ClientError]) -> bool:
    return error.value.response["Error"]["Code"] == "AccessDeniedException"


def read_through_a_rotation(shop: Shop, who: str, row: KeyRow) -> bytes:
    """Move a row's data key into a context that the mailer can open."""
    away = shop.move(who, wrapped(row.blob), DATA, MAIL)
    opened: bytes = shop.kms("mailer").decrypt(CiphertextBlob=away, EncryptionContext=MAIL)["Plaintext"]
    return opened


def plant_through_a_rotation(shop: Shop, who: str) -> tuple[bytes, bytes]:
    """Move a data key that the mailer knows into the context of a row."""
    made = shop.kms("mailer").generate_data_key(KeyId=shop.key, EncryptionContext=MAIL, KeySpec="AES_256")
    return made["Plaintext"], shop.move(who, made["CiphertextBlob"], MAIL, DATA)


def test_the_attack_works_without_the_policy(shop: Shop) -> None:
    shop.put(without_denials())
    store = MemoryKeys()
    with Records(shop.keyring("app"), store, scope=SCOPE) as records:
        records.ensure()
        row = row_of(store)
        with _blob.unwrap(shop.keyring("app"), row) as key:
            assert read_through_a_rotation(shop, "rotator", row) == bytes(key.buffer)
    known, planted = plant_through_a_rotation(shop, "rotator")
    assert shop.kms("app").decrypt(CiphertextBlob=planted, EncryptionContext=DATA)["Plaintext"] == known


@pytest.mark.parametrize("who", ["rotator", "indexer", "mover"])
def test_it_is_refused_with_the_policy(shop: Shop, who: str) -> None:
    shop.put(written())
    store = MemoryKeys()
    with Records(shop.keyring("app"), store, scope=SCOPE) as records:
        records.ensure()
    with pytest.raises(botocore.exceptions.ClientError) as error:
        read_through_a_rotation(shop, who, row_of(store))
    assert denied(error)
    with pytest.raises(botocore.exceptions.ClientError) as error:
        plant_through_a_rotation(shop, who)
    assert denied(error)
    for value in ({**DATA, "tenant": "acme"}, DATA):  # what the rotator is for, and nobody else
        if who == "rotator":
            assert shop.move(who, wrapped(row_of(store).blob), DATA, value)
        else:
            with pytest.raises(botocore.exceptions.ClientError):
                shop.move(who, wrapped(row_of(store).blob), DATA, value)


def test_each_does_its_work_with_the_policy(shop: Shop) -> None:
    shop.put(written())
    store = MemoryKeys()
    with Records(shop.keyring("app"), store, scope=SCOPE) as records:
        card = records.field("users.card", row=int)
        sealed = card.seal(b"4111", row=7)
        row = row_of(store)
        rotator = sealwax.Sealer(shop.keyring("rotator"))
        assert store.replace(row, rotator.rewrap(row.blob, to=shop.key, context=DATA))
        records.clear()
        assert card.open(sealed, row=7) == b"4111"
        records.roll()
    mailer = sealwax.Sealer(shop.keyring("mailer"))
    mail = mailer.encrypt(b"hello", context=MAIL)
    again = sealwax.Sealer(shop.keyring("mover")).rewrap(mail, to=shop.key, context=MAIL)
    assert mailer.decrypt(again, context=MAIL) == b"hello"
    for who in ("searcher", "rotator", "indexer", "mailer", "mover"):
        with pytest.raises(AccessDeniedError):
            _blob.unwrap(shop.keyring(who), row)


def test_index_keys_have_a_rotation_role_of_their_own(shop: Shop) -> None:
    shop.put(written())
    store = MemoryKeys()
    with Records(shop.keyring("app"), store, scope=SCOPE) as records:
        index = records.index("users.email", bits=64)
        made = index.of("anna")
        row = row_of(store)
        indexer = sealwax.Sealer(shop.keyring("indexer"))
        assert store.replace(row, indexer.rewrap(row.blob, to=shop.key, context=INDEX))
        records.clear()
        assert index.of("anna") == made
    with Records(shop.keyring("searcher"), store, scope=SCOPE) as searching:
        assert searching.index("users.email", bits=64).of("anna") == made
    for who in ("searcher", "rotator", "mailer", "mover"):
        with pytest.raises(AccessDeniedError):
            sealwax.Sealer(shop.keyring(who)).rewrap(row.blob, to=shop.key, context=INDEX)
    # One role for both could turn what opens records into what a searcher opens.
    data, key = _blob.make(shop.keyring("app"), SCOPE, KeyKind.DATA, 1)
    key.close()
    for who in ("rotator", "indexer"):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            shop.move(who, wrapped(data.blob), DATA, INDEX)
        assert denied(error)


def test_a_searcher_opens_the_keys_of_indexes_only(shop: Shop) -> None:
    shop.put(written())
    index, made = _blob.make(shop.keyring("app"), SCOPE, KeyKind.INDEX, 1)
    data, other = _blob.make(shop.keyring("app"), SCOPE, KeyKind.DATA, 1)
    made.close()
    other.close()
    _blob.unwrap(shop.keyring("searcher"), index).close()
    with pytest.raises(AccessDeniedError):
        _blob.unwrap(shop.keyring("searcher"), data)
    with pytest.raises(AccessDeniedError):
        _blob.make(shop.keyring("searcher"), SCOPE, KeyKind.INDEX, 2)


def test_nobody_wraps_a_key_that_he_knows(shop: Shop) -> None:
    shop.put(written())
    refused = 0
    for who, context in itertools.product(USERS, (DATA, INDEX, {**SCOPE, "Sealwax-Use": "x"})):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            shop.kms(who).encrypt(KeyId=shop.key, Plaintext=b"k" * 32, EncryptionContext=context)
        assert denied(error)
        refused += 1
    assert refused == 21


def test_a_grant_is_no_way_around_it(shop: Shop) -> None:
    shop.put(written(grant=[arn("admin2")]))
    root = shop.lab.session(account="111122223333").client("kms")
    open_policy = written()
    open_policy["Statement"].append(
        {"Effect": "Allow", "Principal": {"AWS": f"{ACCOUNT}:root"}, "Action": "kms:CreateGrant", "Resource": "*"}
    )
    shop.put(open_policy)
    for operation in OPERATIONS:
        root.create_grant(
            KeyId=shop.key,
            GranteePrincipal=arn("mailer"),
            Operations=[operation],
            Constraints={"EncryptionContextSubset": SCOPE},
        )
    assert shop.kms("mailer").encrypt(KeyId=shop.key, Plaintext=b"k", EncryptionContext=SCOPE)
    for context in (DATA, INDEX):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            shop.kms("mailer").encrypt(KeyId=shop.key, Plaintext=b"k" * 32, EncryptionContext=context)
        assert denied(error)


# --- every call of every role, with grants and without

#: Contexts that an attacker may name. The last two are other scopes.
NAMED: Final[Mapping[str, Mapping[str, str]]] = {
    "data": DATA,
    "index": INDEX,
    "mail": MAIL,
    "neither": SCOPE,
    "tenant": {**DATA, "tenant": "acme"},
    "evil": {"app": "evil", "sealwax-use": "records-data"},
}
OF_DATA: Final = {"data", "tenant"}
OF_RECORDS: Final = {*OF_DATA, "index"}
OF_OTHERS: Final = {"mail", "neither"}
ROLES: Final[Mapping[str, Mapping[str, set[Any]]]] = {
    "admin": {},
    "app": {"GenerateDataKey": OF_RECORDS, "Decrypt": OF_RECORDS},
    "searcher": {"Decrypt": {"index"}},
    "rotator": {"ReEncrypt": set(itertools.product(OF_DATA, OF_DATA))},
    "indexer": {"ReEncrypt": {("index", "index")}},
    "mailer": {"GenerateDataKey": OF_OTHERS, "Encrypt": OF_OTHERS, "Decrypt": OF_OTHERS},
    "mover": {"ReEncrypt": set(itertools.product(OF_OTHERS, OF_OTHERS))},
    "stranger": {},
}
#: What a grant for the application's context adds to each: what is not of records.
GRANTED: Final[Mapping[str, set[Any]]] = {
    "GenerateDataKey": OF_OTHERS,
    "Encrypt": OF_OTHERS,
    "Decrypt": OF_OTHERS,
    "ReEncrypt": set(itertools.product(OF_OTHERS, OF_OTHERS)),
}


def may_call(shop: Shop, who: str, blobs: Mapping[str, bytes]) -> dict[str, set[Any]]:
    """Return the contexts with which KMS does each operation for a role; of ReEncrypt, the pairs."""
    kms, key = shop.kms(who), shop.key
    calls: dict[str, dict[Any, Any]] = {
        "GenerateDataKey": {
            name: lambda c=c: kms.generate_data_key(KeyId=key, EncryptionContext=c, NumberOfBytes=32)
            for name, c in NAMED.items()
        },
        "Encrypt": {
            name: lambda c=c: kms.encrypt(KeyId=key, EncryptionContext=c, Plaintext=b"k" * 32)
            for name, c in NAMED.items()
        },
        "Decrypt": {
            name: lambda c=c, name=name: kms.decrypt(KeyId=key, EncryptionContext=c, CiphertextBlob=blobs[name])
            for name, c in NAMED.items()
        },
        "ReEncrypt": {
            (name, other): lambda name=name, other=other: moved(kms, key, blobs[name], NAMED[name], NAMED[other])
            for name, other in itertools.product(NAMED, NAMED)
        },
    }
    may: dict[str, set[Any]] = {}
    for operation, by_context in calls.items():
        for name, call in by_context.items():
            try:
                call()
            except kms.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "AccessDeniedException":
                    raise
            else:
                may.setdefault(operation, set()).add(name)
    return may


@pytest.mark.slow
@pytest.mark.parametrize("granted", [False, True])
def test_each_role_does_its_own_and_no_grant_gives_it_more_of_records(shop: Shop, granted: bool) -> None:
    shop.lab.add_principal("stranger")
    shop.lab.add_principal("granter")
    root = shop.lab.session(account="111122223333").client("kms")
    shop.put(DELEGATING_TEXT)
    blobs = {
        name: root.encrypt(KeyId=shop.key, Plaintext=b"k" * 32, EncryptionContext=context)["CiphertextBlob"]
        for name, context in NAMED.items()
    }
    shop.put(written(grant=[arn("granter")]))
    for who in ROLES if granted else ():
        shop.kms("granter").create_grant(
            KeyId=shop.key,
            GranteePrincipal=arn(who),
            Operations=list(OPERATIONS),
            Constraints={"EncryptionContextSubset": SCOPE},
        )
    for who, own in ROLES.items():
        more = dict(GRANTED) if granted else {}
        if who in ("rotator", "indexer"):  # they are held to the data keys of one use
            more.pop("ReEncrypt", None)
        expected = {name: own.get(name, set()) | more.get(name, set()) for name in {**own, **more}}
        assert may_call(shop, who, blobs) == expected, who


def test_a_multi_region_key_needs_no_more(shop: Shop) -> None:
    """Each replica has the same policy; without the first Region, the other one makes and opens."""
    regions = ("eu-west-1", "us-east-1")
    clients = {region: shop.lab.session(account="111122223333").client("kms", region_name=region) for region in regions}
    key = clients["eu-west-1"].create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    clients["eu-west-1"].replicate_key(KeyId=key, ReplicaRegion="us-east-1")
    for region, kms in clients.items():
        replica = key.replace("eu-west-1", region)
        kms.put_key_policy(KeyId=replica, Policy=json.dumps(written()), BypassPolicyLockoutSafetyCheck=True)
    store, session = MemoryKeys(), shop.lab.session(principal="app")
    with Records(MultiRegionKeyring(key, regions=regions, session=session), store, scope=SCOPE) as records:
        sealed = records.field("f", row=int).seal(b"x", row=1)
    shop.lab.faults.add("eu-west-1", "error", 1.0, code="KMSInternalException", seed=0)
    with Records(MultiRegionKeyring(key, regions=regions, session=session), store, scope=SCOPE) as records:
        field = records.field("f", row=int)
        assert field.open(sealed, row=1) == b"x"
        records.roll()
        assert field.open(field.seal(b"y", row=1), row=1) == b"y"
    arns = [sealwax.inspect(row.blob).wrapped_keys[0].key_arn for row in store.list()]
    assert [arn.split(":")[3] for arn in arns] == list(regions)


# --- by the evaluator: every operation, in every context, for each policy that is written

CONTEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "data": DATA,
    "index": INDEX,
    "neither": SCOPE,
    "foreign": {"app": "other", "sealwax-use": "records-data"},
    "in capitals": {**SCOPE, "SEALWAX-USE": "records-data"},
}
DELEGATING: Final = parse_key_policy(DELEGATING_TEXT)
EVERYTHING: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}],
}


def allowed(statements: list[Document], *, key: str = KEY, also: Sequence[Document] = ()) -> dict[str, set[str]]:
    """Return the contexts in which each operation is allowed to a role with this identity policy."""
    policies = [parse_identity_policy(text) for text in (write_identity_policy(statements), *also)]
    found: dict[str, set[str]] = {}
    for operation, (name, context) in itertools.product(OPERATIONS, CONTEXTS.items()):
        decision = explain(
            principal(arn("app")),
            f"kms:{operation}",
            KeyDescription(key, DELEGATING),
            identity_policies=policies,
            time=NOW,
            encryption_context=context,
        )
        if decision.allowed:
            found.setdefault(operation, set()).add(name)
    return found


BOTH: Final = {"data", "index"}
CAPITALS: Final = "in capitals"


def test_the_applications_policy() -> None:
    may = allowed(allow_records([KEY], SHOP))
    assert may == {"GenerateDataKey": {*BOTH, CAPITALS}, "Decrypt": {*BOTH, CAPITALS}}
    wide = allowed(allow_records([KEY], SHOP), also=[EVERYTHING])
    assert wide["Encrypt"] == {"neither"}


def test_the_applications_policy_with_two_keys() -> None:
    statements = allow_records([KEY, NEW], SHOP)
    assert "Encrypt" not in allowed(statements)
    assert allowed(statements, key=NEW) == {"Encrypt": {*BOTH, CAPITALS}, "Decrypt": {*BOTH, CAPITALS}}


def test_the_searchers_policy() -> None:
    assert allowed(allow_search_records([KEY], SHOP)) == {"Decrypt": {"index"}}
    assert allowed(allow_search_records([KEY], SHOP), also=[EVERYTHING])["Decrypt"] == {"index", "neither"}


def test_the_rotators_policy() -> None:
    one = allowed(allow_rotate_records([KEY], [KEY], SHOP))
    assert one == {"ReEncryptFrom": {"data", CAPITALS}, "ReEncryptTo": {"data", CAPITALS}}
    assert allowed(allow_rotate_records([KEY], [NEW], SHOP)) == {"ReEncryptFrom": {"data", CAPITALS}}
    assert allowed(allow_rotate_records([KEY], [NEW], SHOP), key=NEW) == {"ReEncryptTo": {"data", CAPITALS}}
    wide = allowed(allow_rotate_records([KEY], [KEY], SHOP), also=[EVERYTHING])
    assert wide["ReEncryptFrom"] == wide["ReEncryptTo"] == {"data", "foreign", CAPITALS}


def test_the_policy_of_those_who_rotate_indexes() -> None:
    one = allowed(allow_rotate_indexes([KEY], [KEY], SHOP))
    assert one == {"ReEncryptFrom": {"index"}, "ReEncryptTo": {"index"}}
    assert allowed(allow_rotate_indexes([KEY], [NEW], SHOP), key=NEW) == {"ReEncryptTo": {"index"}}
    wide = allowed(allow_rotate_indexes([KEY], [KEY], SHOP), also=[EVERYTHING])
    assert wide["ReEncryptFrom"] == wide["ReEncryptTo"] == {"index"}


def test_the_policy_of_a_role_that_is_not_of_records() -> None:
    statements = [*allow_encrypt([KEY], SHOP), *allow_decrypt([KEY], SHOP), *allow_rotate([KEY], [KEY], SHOP)]
    rotating = allowed(allow_rotate([KEY], [KEY], SHOP))
    assert rotating == {"ReEncryptFrom": {"neither"}, "ReEncryptTo": {"neither"}}
    kept = allowed([*statements, *deny_records([KEY])])
    assert kept == {name: {"neither"} for name in OPERATIONS if name != "Encrypt"}
    assert allowed(deny_records([KEY]), also=[EVERYTHING]) == {name: {"neither"} for name in OPERATIONS}


def test_a_rotation_that_names_one_use_is_held_to_it() -> None:
    context = RequiredContext({**SCOPE, "sealwax-use": "records-index"})
    assert allowed(allow_rotate([KEY], [KEY], context)) == {"ReEncryptFrom": {"index"}, "ReEncryptTo": {"index"}}
    named = RequiredContext(SCOPE, ("Sealwax-Use",))
    with pytest.raises(PolicyError, match="require one value of sealwax-use"):
        allow_rotate([KEY], [KEY], named)
    with pytest.raises(PolicyError, match="require one value of sealwax-use"):
        write_key_policy([arn("admin")], KeyUsers(rotate_to=[arn("mover")]), named)


def test_a_key_policy_that_names_the_use_excepts_its_own_users() -> None:
    users = KeyUsers(encrypt=[arn("app")], decrypt=[arn("app"), arn("searcher")])
    document = write_key_policy([arn("admin")], users, RequiredContext(SCOPE, ("sealwax-use",)))
    for who, operation, expected in (
        ("app", "Decrypt", True),
        ("app", "GenerateDataKey", True),
        ("searcher", "Decrypt", True),
        ("searcher", "GenerateDataKey", False),
        ("mailer", "Decrypt", False),
    ):
        decision = explain(
            principal(arn(who)),
            f"kms:{operation}",
            KeyDescription(KEY, parse_key_policy(document)),
            identity_policies=[parse_identity_policy(EVERYTHING)],
            time=NOW,
            encryption_context=DATA,
        )
        assert decision.allowed is expected, (who, operation)


def test_a_key_policy_of_one_use_holds_its_users_to_it() -> None:
    users = KeyUsers(decrypt=[arn("searcher")], rotate_from=[arn("mover")], rotate_to=[arn("mover")])
    document = write_key_policy([arn("admin")], users, RequiredContext({**SCOPE, "Sealwax-Use": "records-index"}))
    # As a grant for the application would do.
    document["Statement"].append(
        {
            "Effect": "Allow",
            "Principal": {"AWS": [arn("searcher"), arn("mover")]},
            "Action": ["kms:Decrypt", "kms:ReEncrypt*"],
            "Resource": "*",
            "Condition": {"StringEquals": {"kms:EncryptionContext:app": "shop"}},
        }
    )
    may = {
        (who, operation, name)
        for who, operation, (name, context) in itertools.product(("searcher", "mover"), OPERATIONS, CONTEXTS.items())
        if explain(
            principal(arn(who)),
            f"kms:{operation}",
            KeyDescription(KEY, parse_key_policy(document)),
            identity_policies=[],
            time=NOW,
            encryption_context=context,
        ).allowed
    }
    assert may == {
        ("searcher", "Decrypt", "index"),
        ("searcher", "Decrypt", "neither"),
        *(("searcher", side, "neither") for side in ("ReEncryptFrom", "ReEncryptTo")),
        ("mover", "Decrypt", "neither"),
        *(("mover", side, "index") for side in ("ReEncryptFrom", "ReEncryptTo")),
    }


def test_a_key_policy_without_records_denies_their_data_keys_to_all() -> None:
    document = write_key_policy([arn("admin")], KeyUsers(decrypt=[arn("mailer")]), SHOP)
    denying = [each for each in document["Statement"] if each["Effect"] == "Deny"]
    assert [(each["Principal"], len(each["Action"])) for each in denying] == [("*", 5)]


@pytest.mark.parametrize("value", ["records", "records-DATA", "", "records-data "])
def test_a_value_that_no_data_key_has_is_refused(value: str) -> None:
    for name in ("sealwax-use", "Sealwax-Use"):
        with pytest.raises(PolicyError, match="is not a value of sealwax-use"):
            allow_decrypt([KEY], RequiredContext({name: value}))


def test_what_cannot_be_written() -> None:
    named = RequiredContext({"sealwax-use": "records-data"})
    refused = 0
    for write in (
        lambda: allow_records([KEY], named),
        lambda: allow_search_records([KEY], named),
        lambda: allow_rotate_records([KEY], [KEY], named),
        lambda: allow_rotate_indexes([KEY], [KEY], named),
        lambda: write_key_policy([arn("admin")], KeyUsers(records=[arn("app")]), named),
    ):
        with pytest.raises(PolicyError, match="remove it from the context"):
            write()
        refused += 1
    assert refused == 5
    for names in itertools.combinations(("rotate_from", "rotate_records", "rotate_indexes"), 2):
        both = KeyUsers(**{name: [arn("mover")] for name in names})
        with pytest.raises(PolicyError, match="name two different principals"):
            write_key_policy([arn("admin")], both, SHOP)
    with pytest.raises(PolicyError, match="would both administer the key and use it"):
        write_key_policy([arn("admin")], KeyUsers(records=[arn("admin")]), SHOP)


def test_a_searcher_that_decrypts_mail_opens_no_record(shop: Shop) -> None:
    """Its statement for mail must not allow what the Deny excepts it from."""
    shop.put(written(decrypt=[arn("searcher")], encrypt=[arn("mailer")]))
    data, key = _blob.make(shop.keyring("app"), SCOPE, KeyKind.DATA, 1)
    key.close()
    mail = sealwax.Sealer(shop.keyring("mailer")).encrypt(b"hello", context=MAIL)
    assert sealwax.Sealer(shop.keyring("searcher")).decrypt(mail, context=MAIL) == b"hello"
    with pytest.raises(AccessDeniedError):
        _blob.unwrap(shop.keyring("searcher"), data)
