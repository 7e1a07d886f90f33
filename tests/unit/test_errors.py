"""The error tree is the one that is drawn, every error survives its travels, and every foreign one has its place."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import botocore.exceptions as foreign
import botocore.session
import pytest

import sealwax
from sealwax import errors
from sealwax._aws import meanings, refusals

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
}


def test_the_drawn_tree_is_the_tree() -> None:
    drawing = (errors.__doc__ or "").split("::", 1)[1].split("\n\nNothing else", 1)[0]
    drawn: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in drawing.splitlines():
        found = re.match(r"^([ │├└─]*)(\w+Error)\b", line)
        if not found:
            continue
        # A child stands four columns to the right of its parent.
        depth = (len(found[1]) - 4) // 4
        above[depth] = found[2]
        if depth:
            drawn[found[2]] = above[depth - 1]
    real = {name: kind.__mro__[1].__name__ for name, kind in CLASSES.items() if kind.__mro__[1] is not Exception}
    assert drawn == real
    assert len(CLASSES) == len(drawn) + 1
    assert all(kind.__doc__ for kind in CLASSES.values())


def _example(kind: type[errors.SealwaxError]) -> errors.SealwaxError:
    if kind is errors.AllKeysFailedError:
        return errors.AllKeysFailedError(
            "all", (("arn:1", errors.ContextError("one")), ("arn:2", errors.KmsError("two")))
        )
    if issubclass(kind, errors.KmsError):
        return kind("a message", code="SomeException", request_id="r-1", key="alias/x")
    return kind("a message")


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())
def test_pickle_and_copy(kind: type[errors.SealwaxError]) -> None:
    error = _example(kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        _same(pickle.loads(pickle.dumps(error, protocol)), error)
    _same(copy.copy(error), error)
    _same(copy.deepcopy(error), error)


def _same(other: errors.SealwaxError, error: errors.SealwaxError) -> None:
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.args == error.args
    mine, its = dict(vars(error)), dict(vars(other))
    if isinstance(error, errors.AllKeysFailedError):
        assert isinstance(other, errors.AllKeysFailedError)
        for (arn, one), (other_arn, other_one) in zip(mine.pop("attempts"), its.pop("attempts"), strict=True):
            assert arn == other_arn
            _same(other_one, one)
    assert mine == its


# --- foreign errors


def _modelled() -> dict[str, str]:
    """Return each error code that KMS's service model lists, with its shape's name."""
    model = botocore.session.Session().get_service_model("kms")
    shapes = {shape.name: shape for name in model.operation_names for shape in model.operation_model(name).error_shapes}
    return {shape.metadata.get("error", {}).get("code", name): name for name, shape in shapes.items()}


def test_every_error_of_the_service_model_has_its_place() -> None:
    modelled = _modelled()
    assert len(modelled) >= 48
    for code, shape in modelled.items():
        assert code in meanings.CODES or shape in meanings.CODES, f"{shape} ({code}) is not in the table"


def test_the_codes_that_the_wire_carries() -> None:
    """KMS speaks AWS JSON 1.1: the shape's name travels, also where the query protocol has a code of its own."""
    for shape in _modelled().values():
        error = refusals.translate(_client_error(shape), "doing", "alias/x")
        assert type(error) is not errors.KmsError
        assert error.code == shape


def _client_error(code: str, status: int = 400, message: str = "so it is said") -> foreign.ClientError:
    return foreign.ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"RequestId": "r-1", "HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "Decrypt",
    )


@pytest.mark.parametrize("code", sorted(meanings.CODES))
def test_every_entry_of_the_table(code: str) -> None:
    error = refusals.translate(_client_error(code), "opening the data key", "alias/x")
    assert type(error) is meanings.CODES[code].error
    assert (error.code, error.request_id, error.key) == (code, "r-1", "alias/x")
    assert str(error).startswith("opening the data key with KMS key 'alias/x' failed: ")
    for part in (code, "request id r-1", "so it is said", meanings.CODES[code].todo):
        assert part in str(error)


CHOSEN = {
    "DisabledException": errors.KeyStateError,
    "KMSInvalidStateException": errors.KeyStateError,
    "NotFoundException": errors.KeyNotFoundError,
    "InvalidCiphertextException": errors.WrappedKeyRefusedError,
    "IncorrectKeyException": errors.WrongKeyError,
    "AccessDeniedException": errors.AccessDeniedError,
    "ThrottlingException": errors.ThrottledError,
    "KMSInternalException": errors.UnavailableError,
    "DependencyTimeoutException": errors.UnavailableError,
    "KeyUnavailableException": errors.UnavailableError,
    "InvalidKeyUsageException": errors.ConfigurationError,
    "InvalidGrantTokenException": errors.AccessDeniedError,
    "LimitExceededException": errors.RequestRefusedError,
    "ExpiredTokenException": errors.CredentialsError,
    "UnrecognizedClientException": errors.CredentialsError,
    "XksProxyUriUnreachableException": errors.UnavailableError,
    "CloudHsmClusterNotActiveException": errors.UnavailableError,
}


@pytest.mark.parametrize(("code", "kind"), CHOSEN.items())
def test_what_the_important_ones_become(code: str, kind: type[errors.KmsError]) -> None:
    assert type(refusals.translate(_client_error(code), "doing", None)) is kind


def test_an_unknown_code() -> None:
    assert type(refusals.translate(_client_error("BrandNewException"), "doing", None)) is errors.RequestRefusedError
    assert type(refusals.translate(_client_error("BrandNewException", 503), "doing", None)) is errors.UnavailableError


BOTOCORE: list[tuple[Exception, type[errors.KmsError], str]] = [
    (foreign.NoCredentialsError(), errors.CredentialsError, "use the lab"),
    (foreign.PartialCredentialsError(provider="env", cred_var="x"), errors.CredentialsError, "access key"),
    (foreign.UnauthorizedSSOTokenError(), errors.CredentialsError, "aws sso login"),
    (foreign.SSOTokenLoadError(profile_name="p", error_msg="m"), errors.CredentialsError, "aws sso login"),
    (foreign.TokenRetrievalError(provider="sso", error_msg="expired"), errors.CredentialsError, "aws sso login"),
    (foreign.CredentialRetrievalError(provider="p", error_msg="m"), errors.CredentialsError, "profile"),
    (foreign.ProfileNotFound(profile="p"), errors.ConfigurationError, "profile"),
    (foreign.NoRegionError(), errors.ConfigurationError, "Region"),
    (foreign.EndpointConnectionError(endpoint_url="https://kms"), errors.UnavailableError, "network"),
    (foreign.ConnectTimeoutError(endpoint_url="https://kms"), errors.UnavailableError, "network"),
    (foreign.ReadTimeoutError(endpoint_url="https://kms"), errors.UnavailableError, "network"),
    (foreign.ConnectionClosedError(endpoint_url="https://kms"), errors.UnavailableError, "network"),
    (foreign.SSLError(endpoint_url="https://kms", error=OSError("bad")), errors.UnavailableError, "AWS_CA_BUNDLE"),
    (foreign.ProxyConnectionError(proxy_url="http://p"), errors.UnavailableError, "network"),
    (foreign.ParamValidationError(report="bad"), errors.RequestRefusedError, "parameters"),
    (foreign.InvalidRegionError(region_name="a b"), errors.ConfigurationError, "Region"),
    (ValueError("Invalid endpoint: x"), errors.ConfigurationError, "endpoint"),
]


@pytest.mark.parametrize(("error", "kind", "hint"), BOTOCORE, ids=[type(row[0]).__name__ for row in BOTOCORE])
def test_botocores_own_errors(error: Exception, kind: type[errors.KmsError], hint: str) -> None:
    translated = refusals.translate(error, "doing", "alias/x")
    assert type(translated) is kind
    assert translated.code == type(error).__name__
    assert hint in str(translated)


def test_every_botocore_error_has_a_place() -> None:
    """Each class of botocore's is met by an entry above the last, or is about settings, which the last one says."""
    kinds = [
        kind for kind in vars(foreign).values() if inspect.isclass(kind) and issubclass(kind, foreign.BotoCoreError)
    ]
    assert len(kinds) >= 80
    for kind in kinds:
        assert any(issubclass(kind, known) for known, _ in meanings.EXCEPTIONS), kind
    # Whatever is about the network is told as such.
    for kind in kinds:
        if issubclass(kind, foreign.ConnectionError | foreign.HTTPClientError):
            meaning = next(meaning for known, meaning in meanings.EXCEPTIONS if issubclass(kind, known))
            assert meaning.error is errors.UnavailableError, kind


def test_an_aws_managed_key_is_told() -> None:
    error = refusals.translate(_client_error("AccessDeniedException"), "doing", "alias/aws/s3")
    assert "AWS managed" in str(error)


def test_foreign_text_cannot_paint_the_terminal() -> None:
    error = refusals.translate(
        _client_error("SomeException", message="\x1b[31m\u202eevil\n" + "x" * 9999), "doing", "k\x1b"
    )
    assert str(error).isprintable()
    assert len(str(error)) < 1000


def test_nothing_of_an_answer_is_carried_along() -> None:
    """botocore's error holds the whole answer; ours must not lead back to it."""
    response = _client_error("SomeException")
    response.response["Plaintext"] = b"PLAINTEXT-BYTES"  # type: ignore[typeddict-unknown-key]
    error = refusals.translate(response, "doing", None)
    assert "PLAINTEXT" not in f"{error!r} {error} {vars(error)}"
    assert error.__cause__ is None


def test_every_error_is_a_public_name() -> None:
    assert set(CLASSES) <= set(sealwax.__all__)
    for name, kind in CLASSES.items():
        assert getattr(sealwax, name) is kind
