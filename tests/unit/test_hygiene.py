"""How data keys are kept out of botocore: the canary, the fallback, other people's calls, encodings, retries."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import ssl
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import HTTPError

import sealwax
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey
from sealwax.errors import RequestRefusedError, SealwaxError
from sealwax.kms import _hygiene

KEY = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
OTHER = "arn:aws:kms:us-east-1:111122223333:key/0b0b0b0b-0000-4000-8000-00000000000b"
SECRET = bytes(range(100, 132))


class Endpoint(BaseHTTPRequestHandler):
    """Gives SECRET as data key, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[dict[str, Any]]] = []
    failures: ClassVar[list[int]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(request)
        status = self.failures.pop() if self.failures else 200
        answer = {"KeyId": request["KeyId"], "CiphertextBlob": "AAAA"}
        if "Encrypt" not in self.headers["X-Amz-Target"]:
            answer["Plaintext"] = base64.b64encode(SECRET).decode()
        if status != 200:
            answer = {"__type": "KMSInternalException"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def endpoint() -> Iterator[str]:
    Endpoint.requests.clear()
    Endpoint.failures.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def new_client(url: str = "http://127.0.0.1:9", **settings: Any) -> Any:
    return boto3.client(
        "kms",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(connect_timeout=2, read_timeout=2, **settings),
    )


@pytest.fixture
def client(endpoint: str) -> Iterator[Any]:
    client = new_client(endpoint, retries={"mode": "standard", "total_max_attempts": 3})
    yield client
    client.close()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(_hygiene, "_warned", [])
    caplog.set_level(logging.WARNING, "sealwax")
    return caplog


# --- the canary


def test_botocore_is_where_it_was(warnings: pytest.LogCaptureFixture) -> None:
    client = new_client()
    _hygiene.attach(client)
    manager = client._endpoint.http_session._manager
    for scheme in ("http", "https"):
        pool: Any = manager.connection_from_host("localhost", scheme=scheme)
        assert isinstance(pool, _hygiene._WipingPool)
        assert issubclass(pool.ConnectionCls, _hygiene._WipingConnection)
    assert warnings.messages == []


def test_a_proxy_is_covered() -> None:
    client = new_client(proxies={"http": "http://127.0.0.1:1"})
    _hygiene.attach(client)
    manager = client._endpoint.http_session._get_connection_manager("http://x", "http://127.0.0.1:1")
    assert isinstance(manager.connection_from_url("http://x"), _hygiene._WipingPool)


def test_openssl_is_told_to_cleanse_what_it_decrypts() -> None:
    client = new_client("https://127.0.0.1:9")
    _hygiene.attach(client)
    connection = client._endpoint.http_session._manager.connection_from_url("https://127.0.0.1:9")._new_conn()
    assert not connection.ssl_context.options & 0x2
    with pytest.raises(HTTPError):  # nobody listens there
        connection.connect()
    assert connection.ssl_context.options & 0x2  # SSL_OP_CLEANSE_PLAINTEXT


def test_attaching_twice_changes_nothing() -> None:
    client = new_client()
    _hygiene.attach(client)
    manager = client._endpoint.http_session._manager
    _hygiene.attach(client)
    assert client._endpoint.http_session._manager is manager


def test_other_clients_keep_their_connections() -> None:
    _hygiene.attach(new_client())
    assert not issubclass(
        new_client()._endpoint.http_session._manager.pool_classes_by_scheme["https"], _hygiene._WipingPool
    )


@pytest.mark.parametrize("gone", ["_endpoint", "_manager", "_proxy_managers", "_pool_classes_by_scheme"])
def test_what_is_gone_is_told_once_and_the_rest_goes_on(
    client: Any, gone: str, warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(client if gone == "_endpoint" else client._endpoint.http_session, gone)
        keyring = sealwax.KmsKeyring(KEY, client=client)
        sealwax.KmsKeyring(KEY, client=client)
    assert len(warnings.messages) == 1
    assert "memory" in warnings.messages[0]
    with warnings.at_level(logging.DEBUG):
        assert keyring.generate({}, lambda key, _: bytes(key.buffer)) == SECRET
    assert "redacted/by/sealwax" in warnings.text
    assert base64.b64encode(SECRET).decode() not in warnings.text


def test_an_openssl_that_cannot_cleanse_is_told(
    warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hygiene, "_CAN_CLEANSE", False)
    _hygiene.attach(new_client())
    assert ssl.OPENSSL_VERSION in warnings.text


# --- other people's calls


def test_the_owner_of_a_client_gets_what_botocore_gives(client: Any) -> None:
    keyring = sealwax.KmsKeyring([KEY, OTHER], client=client)
    keyring.generate({}, lambda *_: None)
    assert client.generate_data_key(KeyId=KEY, KeySpec="AES_256")["Plaintext"] == SECRET
    assert client.decrypt(CiphertextBlob=b"x", KeyId=KEY)["Plaintext"] == SECRET
    client.encrypt(KeyId=KEY, Plaintext=b"the owner's own")
    assert Endpoint.requests[-1]["Plaintext"] == base64.b64encode(b"the owner's own").decode()


def test_two_threads_do_not_see_each_other(client: Any) -> None:
    keyring = sealwax.KmsKeyring(KEY, client=client)
    inside, leave = threading.Event(), threading.Event()
    found: list[bytes] = []

    def use(key: DataKey, _: object) -> None:
        inside.set()
        leave.wait(5)
        found.append(bytes(key.buffer))

    thread = threading.Thread(target=keyring.generate, args=({}, use))
    with _hygiene.Exchange():
        thread.start()
        assert inside.wait(5)
        leave.set()
        thread.join()
    assert found == [SECRET]


def test_handlers_see_no_key(client: Any) -> None:
    seen: list[Any] = []
    client.meta.events.register("after-call.kms", lambda parsed, **_: seen.append(parsed["Plaintext"]))
    sealwax.KmsKeyring(KEY, client=client).generate({}, lambda *_: None)
    assert seen == [None]


def test_an_answer_without_a_connection(client: Any) -> None:
    body = json.dumps({"KeyId": KEY, "CiphertextBlob": "AAAA", "Plaintext": base64.b64encode(SECRET).decode()}).encode()
    given = bytes(bytearray(body))

    class Raw:
        def stream(self) -> Iterator[bytes]:
            yield given

    client.meta.events.register("before-send.kms", lambda **_: AWSResponse("http://x", 200, HTTPHeaders(), Raw()))
    keyring = sealwax.KmsKeyring(KEY, client=client)
    for _ in range(2):
        assert keyring.generate({}, lambda key, _: bytes(key.buffer)) == SECRET
    assert given == body, "somebody else's bytes were overwritten"


def test_the_reader_keeps_nothing_of_what_it_handed_out() -> None:
    reader = _hygiene._WipingReader(io.BytesIO(b"Head: 1\r\n" + SECRET))
    assert reader.readline() == b"Head: 1\r\n"
    body = bytearray(20)
    assert reader.readinto(body) == 20
    assert body == SECRET[:20]
    assert bytes(reader._buffer).strip(b"\0") == SECRET[20:]
    assert reader.read(100) == SECRET[20:]
    assert not any(reader._buffer)


def test_a_chunk_that_is_cut_off_leaves_nothing() -> None:
    reader = _hygiene._WipingReader(io.BytesIO(SECRET))
    reader.chunked = True
    body = bytearray(40)
    with pytest.raises(ConnectionError):
        reader.readinto(body)
    assert not any(body)


# --- kms:Encrypt


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_encrypt_sends_the_key_each_time(client: Any, failures: int) -> None:
    _hygiene.attach(client)
    Endpoint.failures[:] = [500] * failures
    context = {"Plaintext": "redacted/by/sealwax/////", "a": "b"}
    with _hygiene.Exchange(bytearray(SECRET)) as exchange:
        client.encrypt(KeyId=KEY, Plaintext=exchange.stand_in(), EncryptionContext=context)
        exchange.check_sent()
        body = exchange._body
    sent = {"KeyId": KEY, "Plaintext": base64.b64encode(SECRET).decode(), "EncryptionContext": context}
    assert Endpoint.requests == [sent] * (failures + 1)
    assert not any(body)


def test_a_request_that_was_not_sent_wraps_nothing(client: Any) -> None:
    client.meta.events.register(
        "before-call.kms.Encrypt",
        lambda **_: (AWSResponse("", 200, HTTPHeaders(), None), {"KeyId": OTHER, "CiphertextBlob": b"x"}),
    )
    keyring = sealwax.KmsKeyring([KEY, OTHER], client=client)
    with pytest.raises(RequestRefusedError, match="never sent"):
        keyring.generate({}, lambda *_: None)


def test_an_error_in_the_middle_leaves_the_key_wiped(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    buffers: list[bytearray] = []
    original = _hygiene.Exchange.plaintext

    def keep(self: _hygiene.Exchange, answer: Any) -> bytearray:
        buffers.append(original(self, answer))
        return buffers[-1]

    monkeypatch.setattr(_hygiene.Exchange, "plaintext", keep)
    keyring = sealwax.KmsKeyring([KEY, "alias/b"], client=client)  # the endpoint answers with the alias: no ARN
    with pytest.raises(SealwaxError):
        keyring.generate({}, lambda *_: None)
    assert buffers == [bytearray(32)]


# --- encodings


@given(st.binary(max_size=70))
def test_base64_as_everybody_has_it(data: bytes) -> None:
    text = bytearray((len(data) + 2) // 3 * 4)
    _hygiene._encode_base64(bytearray(data), text)
    assert text == base64.b64encode(data)
    assert _hygiene._decode_base64(text, 0, len(text)) == data


@given(st.binary(min_size=1, max_size=40), st.sampled_from(["/", "+", "="]), st.booleans())
def test_json_may_escape(data: bytes, char: str, short: bool) -> None:
    escaped = "\\/" if short and char == "/" else f"\\u{ord(char):04x}"
    text = base64.b64encode(data).decode().replace(char, escaped)
    body = bytearray(b'{"Plaintext" : "' + text.encode() + b'"}')
    with _hygiene.Exchange() as exchange:
        exchange._take_out(body, len(body))
        assert exchange.plaintext({}) == data
    assert text.encode() not in body or len(text) < 5


@pytest.mark.parametrize("text", [b"!!!!", b"AA\\u00"])
def test_what_is_no_base64_is_no_key(text: bytes) -> None:
    body = bytearray(b'{"Plaintext":"' + text + b'"}')
    with _hygiene.Exchange() as exchange:
        exchange._take_out(body, len(body))
        assert len(exchange.plaintext({"Plaintext": b"stays unused"})) == 0


# --- the payload's keys


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 3 * 16384, 100_000])
def test_the_payload_is_cryptographys_cobblestone(size: int) -> None:
    key, text = os.urandom(32), os.urandom(size)
    sealed = payload.encrypt(payload.Encryptor(DataKey(bytearray(key)), b"info"), b"", text)
    theirs = Cobblestone256Decryptor(key, b"info")
    assert theirs.update(sealed) + theirs.finalize() == text
    encryptor = Cobblestone256Encryptor(key, b"info")
    sealed = encryptor.update(text) + encryptor.finalize()
    decryptor = payload.Decryptor(DataKey(bytearray(key)), b"info", sealed[: payload.HEAD_BYTES])
    assert payload.decrypt(decryptor, memoryview(sealed)[payload.HEAD_BYTES :]) == text


@pytest.mark.parametrize("text", [b"text", bytes(20_000)], ids=["one chunk", "more"])
def test_keys_that_were_given_up_seal_nothing(text: bytes) -> None:
    encryptor = payload.Encryptor(DataKey(bytearray(32)), b"info")
    encryptor.close()
    with pytest.raises(ValueError, match="were dropped"):
        payload.encrypt(encryptor, b"", text)
    encryptor = payload.Encryptor(DataKey(bytearray(32)), b"info")
    payload.encrypt(encryptor, b"", text)
    with pytest.raises(ValueError, match=r"were dropped|not the first chunk"):
        payload.encrypt(encryptor, b"", text)


def test_what_failed_half_way_is_not_sealed_again_under_the_same_nonce() -> None:
    encryptor = payload.Encryptor(DataKey(bytearray(32)), b"info")
    text = memoryview(bytes(2 * payload.CHUNK_BYTES))
    first, second = bytearray(payload.SEALED_CHUNK_BYTES), bytearray(2 * payload.SEALED_CHUNK_BYTES)
    with pytest.raises(ValueError, match="buffer"):
        encryptor.seal_into(text, memoryview(first), last=False)
    encryptor.seal_into(text, memoryview(second), last=False)
    assert first not in second
    assert any(first)


@pytest.mark.parametrize(("size", "step"), [(4, "open_only"), (20_000, "_each")])
def test_an_error_that_is_kept_keeps_no_payload_key(size: int, step: str) -> None:
    sealed = bytearray(payload.encrypt(payload.Encryptor(DataKey(bytearray(32)), b"info"), b"", bytes(size)))
    sealed[-1] ^= 1
    decryptor = payload.Decryptor(DataKey(bytearray(32)), b"info", sealed[: payload.HEAD_BYTES])
    with pytest.raises(SealwaxError) as caught:
        payload.decrypt(decryptor, memoryview(sealed)[payload.HEAD_BYTES :])
    todo: list[BaseException | None] = [caught.value, caught.value.__context__]
    frames = [frame for error in todo if error is not None for frame, _ in traceback.walk_tb(error.__traceback__)]
    held = [value for frame in frames for value in frame.f_locals.values()]
    assert any(frame.f_code.co_name == step for frame in frames)
    assert not any(isinstance(value, AESGCM) or isinstance(getattr(value, "__self__", None), AESGCM) for value in held)
