"""Checks of outages: KMS throttles or cannot be reached. Both are simulated before a request is sent."""

from __future__ import annotations

from typing import Any, Final

from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from botocore.model import OperationModel

from sealwax import errors, events
from sealwax.kms import RetryPolicy
from sealwax.prove._envelopes import round_trip
from sealwax.prove._proof import SAMPLE, Failed, Proof, check

_TIMES: Final = 2
_INJECTED: Final = "injected-by-sealwax-prove"
_SECONDS: Final = 300.0


class Outage:
    """A session whose KMS clients can simulate an outage.

    Attributes:
        throttle: how many of the next requests to answer with ThrottlingException.
        down: whether KMS cannot be reached.
    """

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self.throttle = 0
        self.down = False

    @property
    def region_name(self) -> str | None:
        return self._proof.session.region_name

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        client = self._proof.session.client(service_name, region_name=region_name, config=config)
        client.meta.events.register_first("before-call.kms", self._answer)
        return client

    def _answer(self, model: OperationModel, **_: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
        if self.down:
            raise EndpointConnectionError(endpoint_url=f"of {model.name}, simulated as unreachable")
        if not self.throttle:
            return None
        self.throttle -= 1
        headers: Any = {}
        answer = {
            "Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"},
            "ResponseMetadata": {"RequestId": _INJECTED},
        }
        return AWSResponse("", 400, headers, None), answer

    def watch(self, event: events.Event) -> None:
        injected = isinstance(event, events.KmsCall) and event.request_id == _INJECTED
        self._proof.watch(event, simulated=self.down or injected)


@check("throttling", "a throttled request is retried until it succeeds", needs=[round_trip], requests=1)
def throttling(proof: Proof) -> str:
    outage = Outage(proof)
    sealer = proof.sealer(session=outage, on_event=outage.watch)
    outage.throttle = _TIMES
    try:
        opened = sealer.decrypt(proof.sealed, context=proof.to_bind)
    except errors.ThrottledError:
        if any(item.error is not None and not item.simulated for item in proof.evidence):
            raise  # KMS itself throttles too
        raise Failed("the library gave up before the request succeeded") from None
    if opened != SAMPLE:
        raise Failed("the envelope decrypts to other data")
    injected = sum(item.simulated for item in proof.evidence)
    if injected != _TIMES:
        raise Failed(f"the library made {injected} of the {_TIMES} requests that were to be throttled")
    return f"{_TIMES} injected ThrottlingExceptions, then a success"


@check(
    "cached-offline",
    "with a cached data key, encryption and decryption work while KMS cannot be reached",
    needs=[round_trip],
    requests=2,
)
def cached_offline(proof: Proof) -> str:
    outage = Outage(proof)
    keyring = proof.keyring(session=outage, on_event=outage.watch, retries=RetryPolicy(attempts=1))
    with proof.options.parts.cache(keyring, max_age=_SECONDS) as cache:
        sealer = proof.options.parts.sealer(cache)
        sealed = sealer.encrypt(SAMPLE, context=proof.to_bind)
        sealer.decrypt(sealed, context=proof.to_bind)
        outage.down = True
        # Otherwise the rest shows nothing.
        proof.refused(
            "a call to an unreachable endpoint",
            lambda: proof.options.parts.sealer(keyring).decrypt(sealed, context=proof.to_bind),
            errors.UnavailableError,
        )
        try:
            again = sealer.decrypt(sealed, context=proof.to_bind)
            another = sealer.encrypt(SAMPLE, context=proof.to_bind)
        except errors.UnavailableError:
            raise Failed("KMS was called although the data key was cached") from None
        if again != SAMPLE or sealer.decrypt(another, context=proof.to_bind) != SAMPLE:
            raise Failed("the envelope decrypts to other data")
    return "encrypted and decrypted while KMS was unreachable; a call without the cache failed"
