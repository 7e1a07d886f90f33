"""Checks of bad days: KMS throttles, or cannot be reached. Both are put on here, before a request leaves."""

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


class Weather:
    """A session whose KMS clients have a bad day when told so.

    Attributes:
        throttle: how many of the next requests are answered with ThrottlingException.
        down: whether nothing can be reached.
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
            raise EndpointConnectionError(endpoint_url=f"of {model.name}, made unreachable here")
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


@check("throttling", "a throttled request is repeated until it is served", needs=[round_trip], requests=1)
def throttling(proof: Proof) -> str:
    weather = Weather(proof)
    sealer = proof.sealer(session=weather, on_event=weather.watch)
    weather.throttle = _TIMES
    try:
        opened = sealer.decrypt(proof.sealed, context=proof.to_bind)
    except errors.ThrottledError:
        if any(one.error is not None and not one.simulated for one in proof.evidence):
            raise  # KMS throttles as well, and more than that is not to be outlasted
        raise Failed("the request was given up before it was served") from None
    if opened != SAMPLE:
        raise Failed("the sample did not come back")
    seen = sum(one.simulated for one in proof.evidence)
    if seen != _TIMES:
        raise Failed(f"of {_TIMES} injected throttles {seen} were met")
    return f"{_TIMES} injected ThrottlingExceptions, then served"


@check(
    "cached-offline",
    "with a cached data key, work goes on while KMS is out of reach",
    needs=[round_trip],
    requests=2,
)
def cached_offline(proof: Proof) -> str:
    weather = Weather(proof)
    keyring = proof.keyring(session=weather, on_event=weather.watch, retries=RetryPolicy(attempts=1))
    with proof.options.parts.cache(keyring, max_age=_SECONDS) as cache:
        sealer = proof.options.parts.sealer(cache)
        sealed = sealer.encrypt(SAMPLE, context=proof.to_bind)
        sealer.decrypt(sealed, context=proof.to_bind)
        weather.down = True
        # It is out of reach, or the rest shows nothing.
        proof.refused(
            "a call to an endpoint that was made unreachable",
            lambda: proof.options.parts.sealer(keyring).decrypt(sealed, context=proof.to_bind),
            errors.UnavailableError,
        )
        try:
            again = sealer.decrypt(sealed, context=proof.to_bind)
            another = sealer.encrypt(SAMPLE, context=proof.to_bind)
        except errors.UnavailableError:
            raise Failed("KMS was asked though the data key was cached") from None
        if again != SAMPLE or sealer.decrypt(another, context=proof.to_bind) != SAMPLE:
            raise Failed("the sample did not come back")
    return "encrypted and decrypted with KMS made unreachable, and an uncached call failed"
