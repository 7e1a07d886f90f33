"""Checks of records, in a scope of their own: sealed, refused elsewhere, rolled, re-wrapped and shredded."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from sealwax import errors
from sealwax._core import context as ctx
from sealwax._core import envelope
from sealwax._core.sealer import Sealer
from sealwax.prove._envelopes import round_trip
from sealwax.prove._proof import Failed, NotShown, Proof, check
from sealwax.prove._requests import flipped, refused
from sealwax.records import Field, KeyKind, KeyRow, KeyState, KeyStore, Records, _blob, _form

_SAMPLE: Final = b"This sample of sealwax prove is not a secret."
_NAME: Final = "sealwax-prove-records"
_ROW: Final = 7
_OPEN: Final = "Field.open"
_SEAL: Final = "Field.seal"


class Trial:
    """Records in a scope of their own, which nobody else has; the store keeps no key of it."""

    def __init__(self, proof: Proof, store: KeyStore) -> None:
        self._proof = proof
        self.store = store
        self.scope = {**proof.context, _NAME: secrets.token_hex(8)}
        try:
            ctx.encode(_blob.kms_context(self.scope, KeyKind.DATA))
        except errors.ContextError:
            raise NotShown("the context is too large to be the scope of records") from None
        self.records = self.new()
        self.sealed: list[bytes] = []

    def new(self) -> Records:
        return self._proof.options.parts.records(self._proof.keyring(), self.store, scope=self.scope)

    def rows(self) -> list[KeyRow]:
        return self.store.get_many(self.scope)

    def live(self) -> list[KeyRow]:
        return [row for row in self.rows() if row.state is KeyState.LIVE and row.kind is KeyKind.DATA]

    def close(self) -> None:
        self.records.close()
        with contextlib.suppress(errors.KeyStoreError):
            for row in self.rows():
                self.store.remove(row)  # a shredded row stays, in any store


def _trial(proof: Proof) -> Trial:
    if proof.options.records is None:
        raise NotShown("this needs a key store", option="records")
    if not isinstance(proof.trial, Trial):
        proof.trial = Trial(proof, proof.options.records)
    return proof.trial


def _field(records: Records, name: str = "prove.sample", **pairs: str) -> Field:
    return records.field(name, row=int, **pairs)


def _opened(proof: Proof, field: Field, sealed: bytes) -> None:
    if field.open(sealed, row=_ROW) != _SAMPLE:
        raise Failed("a record opens to other data")
    proof.record(_OPEN)


def _refuses(
    proof: Proof, field: Field, sealed: bytes, what: str, error: type[errors.SealwaxError], *, row: int = _ROW
) -> None:
    """Check that a field does not open a record."""
    proof.record(_OPEN, proof.refused(what, partial(field.open, sealed, row=row), error))


@contextmanager
def _fresh(trial: Trial) -> Iterator[Records]:
    """Yield a Records that has no key in memory."""
    with trial.new() as records:
        yield records


@check(
    "records-round-trip",
    "a record opens again, and needs KMS for its data key only",
    needs=[round_trip],
    requests=2,
)
def records_round_trip(proof: Proof) -> str:
    trial = _trial(proof)
    trial.records.ensure()
    with _no_requests(proof, "sealing and opening"):
        field = _field(trial.records)
        sealed = field.seal(_SAMPLE, row=_ROW)
        proof.record(_SEAL)
        if _SAMPLE in sealed:
            raise Failed("the record contains the sample in plaintext")
        _opened(proof, field, sealed)
    with _fresh(trial) as other:
        other.ensure()
        _opened(proof, _field(other), sealed)
    trial.sealed.append(sealed)
    return f"{len(_SAMPLE)} bytes in a record of {len(sealed)}; another Records unwrapped the data key and opened it"


@contextmanager
def _no_requests(proof: Proof, doing: str) -> Iterator[None]:
    before = len(proof.evidence)
    yield
    if any(item.is_request for item in proof.evidence[before:]):
        raise Failed(f"KMS was called for {doing}, although the data key was in memory")


@check(
    "records-refused",
    "a record opens in no other row, field or scope, and KMS refuses its data key to another scope",
    needs=[records_round_trip],
    requests=1,
)
def records_refused(proof: Proof) -> str:
    trial = _trial(proof)
    (sealed,) = trial.sealed
    field, (row,) = _field(trial.records), trial.live()
    other = {**trial.scope, f"{_NAME}-other": "x"}
    with _no_requests(proof, "what cannot be right"):
        tampered = errors.RecordTamperedError
        _refuses(proof, field, sealed, "a record in another row", tampered, row=_ROW + 1)
        _refuses(proof, _field(trial.records, "prove.other"), sealed, "a record in another field", tampered)
        _refuses(proof, field, flipped(sealed, len(sealed) - 1), "a changed record", tampered)
        foreign = _field(trial.records, **{f"{_NAME}-other": "x"})
        _refuses(proof, foreign, sealed, "a record in another scope", errors.UnknownKeyError)
        unwrap = partial(_blob.unwrap, proof.keyring(), dataclasses.replace(row, scope=other))
        proof.record("Keyring.unwrap", proof.refused("a key row in another scope", unwrap, errors.KeyRowError))
        _refuse_other_makers(proof, proof.sealer(), row)
    wrapped = envelope.inspect(row.blob).wrapped_keys[0].ciphertext
    context = _blob.kms_context(other, row.kind)
    by = refused(proof, "the data key in another scope", wrapped, context, errors.AccessDeniedError)
    if by == "policy":
        # With the right scope it must still be allowed, or the policy denies everything.
        _blob.unwrap(proof.keyring(), row).close()
    return f"another row, field and scope, and a changed byte, refused without KMS; another scope refused by {by}"


def _refuse_other_makers(proof: Proof, sealer: Sealer, row: KeyRow) -> None:
    context = _blob.kms_context(row.scope, row.kind)
    makers = {
        "Sealer.reencrypt": partial(sealer.reencrypt, row.blob, context=context),
        "Sealer.encrypt": partial(sealer.encrypt, b"", context=context),
    }
    for name, make in makers.items():
        proof.record(name, proof.refused("the context of a key row", make, errors.ContextError))


@check(
    "records-roll",
    "after a roll, new records are under another data key, and old ones open",
    needs=[records_round_trip],
    requests=3,
)
def records_roll(proof: Proof) -> str:
    trial = _trial(proof)
    trial.records.roll()
    field, (old,) = _field(trial.records), trial.sealed
    new = field.seal(_SAMPLE, row=_ROW)
    proof.record(_SEAL)
    if _form.parse(new).key_id == _form.parse(old).key_id:
        raise Failed("the new record is under the old key")
    _opened(proof, field, old)
    _opened(proof, field, new)
    keyring = proof.keyring()
    first, second = trial.live()
    with _blob.unwrap(keyring, first) as one, _blob.unwrap(keyring, second) as other:
        if one.buffer == other.buffer:
            raise Failed("both generations have the same data key")
    trial.sealed.append(new)
    return "two generations, two data keys; the records of both open"


@check(
    "records-rewrap",
    "moving the data keys to new wrapped keys changes no record",
    needs=[records_roll],
    requests=4,
)
def records_rewrap(proof: Proof) -> str:
    trial, sealer = _trial(proof), proof.sealer()
    rows = trial.live()
    for row in rows:
        blob = sealer.rewrap(row.blob, to=proof.key, context=_blob.kms_context(row.scope, row.kind))
        before, after = envelope.inspect(row.blob), envelope.inspect(blob)
        if before.wrapped_keys[0].ciphertext == after.wrapped_keys[0].ciphertext:
            raise Failed("the wrapped key did not change")
        if not trial.store.replace(row, blob):
            raise Failed("the key store did not take the re-wrapped key")
    with _fresh(trial) as other:
        other.ensure()
        for sealed in trial.sealed:
            _opened(proof, _field(other), sealed)
    return f"{len(rows)} key rows by ReEncrypt; the same {len(trial.sealed)} records open"


@check(
    "records-shred",
    "after a shred, no record of the scope opens, and nothing is sealed for it until it is reopened",
    needs=[records_roll],
    requests=1,
)
def records_shred(proof: Proof) -> str:
    trial = _trial(proof)
    trial.records.shred()
    if any(row.blob for row in trial.rows()):
        raise Failed("the key store still has a wrapped key of the scope")
    gone = errors.ShreddedError
    with _fresh(trial) as other:
        for field in (_field(trial.records), _field(other)):
            for sealed in trial.sealed:
                _refuses(proof, field, sealed, "a record of a shredded scope", gone)
            seal = partial(field.seal, _SAMPLE, row=_ROW)
            proof.record(_SEAL, proof.refused("a value for a shredded scope", seal, gone))
    trial.records.reopen()
    field = _field(trial.records)
    _opened(proof, field, field.seal(_SAMPLE, row=_ROW))
    for sealed in trial.sealed:
        _refuses(proof, field, sealed, "a record of a shredded scope", gone)
    return f"{len(trial.sealed)} records do not open any more; the reopened scope has a new data key"
