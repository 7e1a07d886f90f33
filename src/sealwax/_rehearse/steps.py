"""The whole product, one step after the other, each against the keys, the bucket and the roles of the run."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.config import Config
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax import audit, errors, fleet, prove
from sealwax._aws.session import Session
from sealwax._core.cache import CachingKeyring
from sealwax._core.envelope import inspect
from sealwax._core.messages import MessageSealer
from sealwax._core.sealer import Sealer
from sealwax._rehearse.plan import CONTEXT
from sealwax._rehearse.world import REPLICA, World, settled, told
from sealwax.kms import KmsKeyring, MultiRegionKeyring
from sealwax.kms._temporary_grant import TemporaryGrants
from sealwax.policy import RequiredContext, grant_request
from sealwax.records import MemoryKeys, Records
from sealwax.stores.s3 import ObjectReader, ObjectWriter, S3Store

_SAMPLE: Final = b"This sample of sealwax rehearse is not a secret. "
_FILE_BYTES: Final = 3 << 20
_LARGE_BYTES: Final = 12 << 20
_VALUES: Final = 20
# Of the table of keys: a data key and the one that it was rolled to.
_ROWS: Final = 2
_ROTATION_SECONDS: Final = 300.0
# KMS knows a new state of a key everywhere after some seconds.
_PAUSE: Final = 0.5


class StepFailed(Exception):  # noqa: N818  an outcome
    """What a step is about does not hold."""


@dataclass(frozen=True, slots=True)
class RehearsalStep:
    """One step.

    Attributes:
        name: its name in the report.
        shows: what it shows if it passes.
        run: runs it and returns what happened.
    """

    name: str
    shows: str
    run: Callable[[World], str]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of a step.

    Attributes:
        name: its name.
        shows: what it shows if it passes.
        passed: whether it did.
        detail: what happened.
    """

    name: str
    shows: str
    passed: bool
    detail: str


STEPS: Final[list[RehearsalStep]] = []


def _step(name: str, shows: str) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
    def declare(run: Callable[[World], str]) -> Callable[[World], str]:
        STEPS.append(RehearsalStep(name, shows, run))
        return run

    return declare


def run_step(step: RehearsalStep, world: World) -> StepResult:
    """Run one step; whatever fails is its result."""
    try:
        detail = step.run(world)
    except StepFailed as failure:
        return StepResult(step.name, step.shows, False, world.masks.text(str(failure)))
    except Exception as error:  # of any kind: the next step is run all the same
        return StepResult(step.name, step.shows, False, world.masks.text(told(error, "a request of this step")))
    return StepResult(step.name, step.shows, True, world.masks.text(detail))


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


def _refused(call: Callable[[], object], kind: type[errors.SealwaxError], what: str) -> None:
    """Need that a call is refused."""
    try:
        call()
    except kind:
        return
    raise StepFailed(f"{what} was not refused")


def _sealer(world: World, *names: str, who: str = "caller", legacy: Sequence[str] = ()) -> Sealer:
    arns = [world.key(name) for name in names or ("main",)]
    return Sealer(KmsKeyring(arns, session=world.session(who)), allow_legacy=legacy)


@_step("values", "values are encrypted and decrypted, and refused with another context")
def _values(world: World) -> str:
    sealer = _sealer(world)
    sealed = sealer.encrypt(_SAMPLE, context=CONTEXT)
    _need(sealer.decrypt(sealed, context=CONTEXT) == _SAMPLE, "a value was decrypted to something else")
    alias = Sealer(KmsKeyring(world.run.names.alias("main"), session=world.session()))
    _need(alias.decrypt(sealed, context=CONTEXT) == _SAMPLE, "a value was not decrypted by the key's alias")
    _refused(lambda: sealer.decrypt(sealed, context={"purpose": "x"}), errors.ContextError, "another context")
    other = _sealer(world, "next")
    _refused(lambda: other.decrypt(sealed, context=CONTEXT), errors.KmsError, "a key that is not allowed")
    moved = Sealer(KmsKeyring(world.key("next"), decrypt_with=[world.key("main")], session=world.session())).reencrypt(
        sealed, context=CONTEXT
    )
    _need(other.decrypt(moved, context=CONTEXT) == _SAMPLE, "a re-encrypted value is not the same")
    return "encrypted, decrypted by ARN and alias, re-encrypted, and refused twice"


@_step("roles", "the key policy's role can decrypt with its context only, and another role cannot")
def _roles(world: World) -> str:
    sealed = _sealer(world).encrypt(_SAMPLE, context=CONTEXT)
    reader, stranger = _sealer(world, who="reader"), _sealer(world, who="stranger")
    _need(reader.decrypt(sealed, context=CONTEXT) == _SAMPLE, "the reader got another value")
    _refused(lambda: stranger.decrypt(sealed, context=CONTEXT), errors.AccessDeniedError, "the stranger")
    _refused(lambda: reader.encrypt(_SAMPLE, context=CONTEXT), errors.AccessDeniedError, "encrypting as the reader")
    other = _sealer(world).encrypt(_SAMPLE, context={"purpose": "other"})
    _refused(
        lambda: reader.decrypt(other, context={"purpose": "other"}),
        errors.AccessDeniedError,
        "the reader's other context",
    )
    return "1 allowed, 3 refused"


@_step("files", "a file is encrypted, read at any position, re-wrapped in place and re-encrypted")
def _files(world: World) -> str:
    sealer, path = _sealer(world), str(world.work / "file.swx")
    data = os.urandom(_FILE_BYTES)
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(data)
    with sealer.open(path, context=CONTEXT) as file:
        file.seek(_FILE_BYTES // 2)
        _need(file.read(100) == data[_FILE_BYTES // 2 :][:100], "the middle of a file was read wrong")
    sealer.rewrap(path, to=world.key("next"), context=CONTEXT)
    other = _sealer(world, "next")
    _need(other.verify(path, context=CONTEXT) == len(data), "a re-wrapped file has another size")
    _refused(lambda: sealer.verify(path, context=CONTEXT), errors.KmsError, "the old key")
    other.reencrypt(path, context=CONTEXT)
    with other.open(path, context=CONTEXT) as file:
        _need(file.read() == data, "a re-encrypted file holds something else")
    return f"{len(data):,} bytes"


def _put(world: World, sealer: Sealer, key: str, data: bytes) -> None:
    with (
        ObjectWriter(f"s3://{world.bucket}/{key}", world.session(), overwrite=True) as sink,
        sealer.open(sink, "wb", context=CONTEXT) as file,
    ):
        file.write(data)


def _get(world: World, sealer: Sealer, key: str) -> bytes:
    with (
        ObjectReader(f"s3://{world.bucket}/{key}", world.session()) as source,
        sealer.open(source, context=CONTEXT) as file,
    ):
        return bytes(file.read())


def _rewrapped(world: World, key: str, data: bytes) -> str:
    sealer = _sealer(world)
    _put(world, sealer, key, data)
    store = S3Store(f"s3://{world.bucket}/{key}", world.session())
    store.rewrap(f"s3://{world.bucket}/{key}", sealer.rewrapper(to=world.key("next"), context=CONTEXT))
    _need(_get(world, _sealer(world, "next"), key) == data, "a re-wrapped object holds something else")
    _refused(lambda: _get(world, sealer, key), errors.KmsError, "the old key")
    return f"an object of {len(data):,} bytes was re-wrapped"


@_step("s3-small", "a small S3 object is written, re-wrapped and read")
def _small(world: World) -> str:
    return _rewrapped(world, "small", _SAMPLE)


@_step("s3-large", "a large S3 object is re-wrapped without its data being transferred")
def _large(world: World) -> str:
    return _rewrapped(world, "large", os.urandom(_LARGE_BYTES))


@_step("cache", "a cache saves KMS requests")
def _cache(world: World) -> str:
    keyring = CachingKeyring(KmsKeyring(world.key("main"), session=world.session()), max_age=60, max_messages=1000)
    sealer = Sealer(keyring)
    sealed = [sealer.encrypt(_SAMPLE, context=CONTEXT) for _ in range(_VALUES)]
    _need(all(sealer.decrypt(each, context=CONTEXT) == _SAMPLE for each in sealed), "a cached key opened it wrong")
    calls = sealer.stats().calls
    # One to generate the data key, and one to unwrap it.
    _need(calls == 2, f"{calls} KMS requests were made for {2 * _VALUES} operations, not 2")
    return f"2 KMS requests for {2 * _VALUES} operations"


class _Closed:
    """A session whose KMS clients of one Region connect to a port that nobody listens on."""

    def __init__(self, session: Session, region: str, url: str) -> None:
        self._session = session
        self._region = region
        self._url = url

    @property
    def region_name(self) -> str | None:
        return self._session.region_name

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        session: Any = self._session
        elsewhere = {"endpoint_url": self._url} if region_name == self._region else {}
        return session.client(service_name, region_name=region_name, config=config, **elsewhere)


@contextlib.contextmanager
def _closed_port() -> Iterator[str]:
    """Yield the URL of a port that is taken and that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@_step("lost-region", "a multi-Region key decrypts and encrypts while its first Region is not reached")
def _lost_region(world: World) -> str:
    regions = list(world.run.regions)
    sealed = Sealer(MultiRegionKeyring(world.key("global"), regions=regions, session=world.session())).encrypt(
        _SAMPLE, context=CONTEXT
    )
    with _closed_port() as url:
        session = _Closed(world.session(), world.near, url)
        keyring = MultiRegionKeyring(world.key("global"), regions=regions, session=session)
        sealer = Sealer(keyring)
        _need(sealer.decrypt(sealed, context=CONTEXT) == _SAMPLE, "the other Region decrypted it to something else")
        new = sealer.encrypt(_SAMPLE, context=CONTEXT)
        lost, reached = keyring.health()
    _need(lost.error is not None, "the Region that should be lost was reached")
    _need(reached.error is None, f"the other Region was not reached: {reached.error}")
    _need(_sealer(world, "global").decrypt(new, context=CONTEXT) == _SAMPLE, "the first Region does not decrypt it")
    return "decrypted and encrypted in the second Region, and decrypted in the first one afterwards"


@_step("grants", "a grant lets a role decrypt at once, and only with its context")
def _grants(world: World) -> str:
    sealed = _sealer(world).encrypt(_SAMPLE, context=CONTEXT)
    other = _sealer(world).encrypt(_SAMPLE, context={"purpose": "other"})
    grants = TemporaryGrants(world.session())
    required = RequiredContext(CONTEXT)
    grant = grants.create(
        grant_request(world.key("main"), world.role_arn("stranger"), ["Decrypt"], required, name=world.run.run)
    )
    world.masks.add(grant.id, "<id of a grant>")
    try:
        keyring = KmsKeyring(world.key("main"), session=world.session("stranger"), grant_tokens=[grant.token])
        sealer = Sealer(keyring)
        _need(sealer.decrypt(sealed, context=CONTEXT) == _SAMPLE, "the grantee got another value")
        _refused(
            lambda: sealer.decrypt(other, context={"purpose": "other"}), errors.AccessDeniedError, "the other context"
        )
    finally:
        grants.end(grant)
    return "used by its token and retired"


@_step("prove", "sealwax prove fails no check of the key")
def _prove(world: World) -> str:
    options = prove.Options(to=world.key("next"), denied=lambda: world.session("stranger"), records=MemoryKeys())
    report = prove.prove(world.key("main"), CONTEXT, world.session(), options)
    failed = [f"{check.name}: {check.detail}" for check in report.checks if check.outcome == "failed"]
    _need(not failed, "; ".join(failed))
    unseen = [check.name for check in report.checks if check.interrupted]
    _need(not unseen, f"these checks could not run: {', '.join(unseen)}")
    return f"{report.count('passed')} checks passed, {report.count('not shown')} are not shown"


@_step("audit", "sealwax audit reads everything that it needs to check the keys")
def _audit(world: World) -> str:
    arns = [world.key(name) for name in ("main", "next", "global", REPLICA)]
    facts = settled(lambda: audit.gather(world.session(), world.run.regions, arns, events=False))
    gaps = [f"{gap.what}: {gap.why}" for gap in facts.gaps if gap.refused]
    _need(not gaps, "; ".join(gaps))
    _need(len(facts.keys) == len(arns), f"{len(facts.keys)} keys were read, not {len(arns)}")
    found = [finding for finding in audit.run(facts).findings if finding.resource in arns]
    return f"{len(facts.keys)} keys were read, with nothing missing; {len(found)} findings are about them"


@_step("fleet", "a fleet in S3 is planned, re-wrapped and verified")
def _fleet(world: World) -> str:
    sealer, count = _sealer(world), 5
    for number in range(count):
        _put(world, sealer, f"fleet/{number}.swx", _SAMPLE)
    plan, session = str(world.work / "rotation.plan"), world.session()

    def opened(location: str, _session: object = None) -> S3Store:
        return S3Store(location, session)

    how: dict[str, Any] = {"session": session, "open_location": opened}
    planned = fleet.plan(
        plan,
        [f"s3://{world.bucket}/fleet/"],
        sources=[world.key("main")],
        to=[world.key("next")],
        contexts=fleet.Contexts(CONTEXT),
        digests=None,
        **how,
    )
    _need(planned.stale == count, f"{planned.stale} stale envelopes were planned, not {count}")
    done = fleet.run(plan, **how)
    _need(done.stale == 0 and not done.failed, f"{done.stale} stale envelopes are left, {done.failed} failed")
    _need(fleet.verify(plan, decrypt=2, **how).done, "verify found something wrong")
    return f"{count} envelopes were re-wrapped and verified"


@_step("rotation", "after a rotation on demand, what was encrypted before still opens")
def _rotation(world: World) -> str:
    kms, sealer = world.client("kms"), _sealer(world)
    sealed = sealer.encrypt(_SAMPLE, context=CONTEXT)
    kms.rotate_key_on_demand(KeyId=world.key("main"))
    began = time.monotonic()
    while not kms.list_key_rotations(KeyId=world.key("main"))["Rotations"]:
        _need(time.monotonic() - began < _ROTATION_SECONDS, "the rotation did not end within 5 minutes")
        time.sleep(_PAUSE)
    _need(sealer.decrypt(sealed, context=CONTEXT) == _SAMPLE, "what was encrypted before was decrypted wrong")
    new = sealer.rewrap(sealed, to=world.key("main"), context=CONTEXT)
    _need(sealer.decrypt(new, context=CONTEXT) == _SAMPLE, "what was re-wrapped under the new material is wrong")
    return "rotated, decrypted, and re-wrapped under the new key material"


@_step("records", "records are sealed, their data key is re-wrapped and rolled, and a scope is shredded")
def _records(world: World) -> str:
    from sealwax.records import SqlKeys  # an extra, which taking away does without

    store = SqlKeys(f"sqlite:///{world.work / 'keys.db'}")
    store.create_table()
    first = KmsKeyring(world.key("main"), session=world.session())
    with Records(first, store, scope=CONTEXT) as records:
        card = records.field("users.card", row=int, tenant="acme")
        record = card.seal(_SAMPLE, row=7)
        _need(card.open(record, row=7) == _SAMPLE, "a record was opened to something else")
        _refused(lambda: card.open(record, row=8), errors.RecordTamperedError, "another row")
        records.roll(tenant="acme")
        _need(card.open(record, row=7) == _SAMPLE, "a record of the older data key was opened to something else")
    _fleet_of_records(world)
    both = KmsKeyring(world.key("next"), session=world.session())
    with Records(both, store, scope=CONTEXT) as records:
        card = records.field("users.card", row=int, tenant="acme")
        _need(card.open(record, row=7) == _SAMPLE, "a record does not open under the new KMS key")
        records.shred(tenant="acme")
        _refused(lambda: card.open(record, row=7), errors.RecordError, "a record of a shredded scope")
    return "sealed, rolled, re-wrapped in the key table, opened and shredded"


def _fleet_of_records(world: World) -> None:
    """Re-wrap the rows of the table of keys."""
    plan, session = str(world.work / "records.plan"), world.session()
    fleet.plan(
        plan,
        [f"sql+sqlite:///{world.work / 'keys.db'}"],
        sources=[world.key("main")],
        to=[world.key("next")],
        contexts=fleet.Contexts(CONTEXT, accept_stored=True),
        session=session,
    )
    done = fleet.run(plan, session=session)
    _need(done.rewrapped == _ROWS and done.stale == 0, f"{done.rewrapped} rows were re-wrapped, not {_ROWS}")


@_step("encryption-sdk", "a message of the AWS Encryption SDK is written, read and moved to an envelope")
def _message(world: World) -> str:
    keyring = KmsKeyring(world.key("main"), session=world.session())
    sealer = Sealer(keyring)
    message = MessageSealer(keyring).encrypt(_SAMPLE * 1000, context=CONTEXT)
    plaintext = sealer.decrypt(message, context=CONTEXT)
    _need(plaintext == _SAMPLE * 1000, "a message was decrypted to something else")
    envelope = sealer.encrypt(plaintext, context=CONTEXT)
    _need(inspect(io.BytesIO(envelope)).header is not None, "the envelope has no header")
    _need(sealer.decrypt(envelope, context=CONTEXT) == plaintext, "the envelope holds something else")
    return f"a message of {len(message):,} bytes"


@_step("s3-encryption-client", "an object of the S3 Encryption Client is read and re-wrapped in place")
def _client_object(world: World) -> str:
    pairs = {**CONTEXT, "aws:x-amz-cek-alg": "AES/GCM/NoPadding"}
    answer = world.client("kms").generate_data_key(KeyId=world.key("main"), KeySpec="AES_256", EncryptionContext=pairs)
    iv = os.urandom(12)
    metadata = {
        "x-amz-key-v2": base64.b64encode(answer["CiphertextBlob"]).decode(),
        "x-amz-iv": base64.b64encode(iv).decode(),
        "x-amz-matdesc": json.dumps(pairs),
        "x-amz-wrap-alg": "kms+context",
        "x-amz-cek-alg": "AES/GCM/NoPadding",
        "x-amz-tag-len": "128",
        "x-amz-unencrypted-content-length": str(len(_SAMPLE)),
    }
    body = AESGCM(answer["Plaintext"]).encrypt(iv, _SAMPLE, None)
    world.client("s3").put_object(Bucket=world.bucket, Key="client", Body=body, Metadata=metadata)
    legacy = ("s3ec-v2",)
    _need(_get(world, _sealer(world, legacy=legacy), "client") == _SAMPLE, "the object was decrypted to something else")
    name = f"s3://{world.bucket}/client"
    rewrapper = _sealer(world).rewrapper(to=world.key("next"), context=CONTEXT)
    S3Store(name, world.session()).rewrap(name, rewrapper)
    _need(_get(world, _sealer(world, "next", legacy=legacy), "client") == _SAMPLE, "after the re-wrap it does not open")
    return "read, re-wrapped in place, and read under the new key"
