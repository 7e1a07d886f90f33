"""The two ways in, over one engine: in process through botocore, and over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from sealwax.errors import LabError
from sealwax.lab import Lab, _wire
from sealwax.lab._secretbytes import wipe
from sealwax.lab._server import Server, is_loopback
from sealwax.lab._wire import HttpResponse
from tests.lab.conftest import client
from tests.lab.refusal import refused

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


@pytest.fixture
def remote(server: Server) -> KMSClient:
    return boto3.client(
        "kms",
        endpoint_url=server.url,
        region_name="eu-central-1",
        aws_access_key_id="anything",
        aws_secret_access_key="at-all",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_session_brings_what_is_not_set(lab: Lab) -> None:
    session = lab.session()
    assert session.region_name == "us-east-1"
    assert session.get_credentials() is not None
    assert session.client("kms").create_key()["KeyMetadata"]["AWSAccountId"] == "111122223333"


def test_the_users_own_region_and_credentials_stay(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    session = lab.session()
    assert session.region_name == "eu-north-1"
    assert session.get_credentials().access_key == "AKIAMINE"  # type: ignore[union-attr]
    assert lab.session("eu-west-1").region_name == "eu-west-1"


def test_both_doors_open_the_same_keys(lab: Lab, remote: KMSClient) -> None:
    local = client(lab.session("eu-central-1"))
    made = remote.generate_data_key(KeyId=remote.create_key()["KeyMetadata"]["Arn"], KeySpec="AES_256")
    assert local.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    blob = local.encrypt(KeyId=made["KeyId"], Plaintext=b"local", EncryptionContext={"a": "b"})["CiphertextBlob"]
    assert remote.decrypt(CiphertextBlob=blob, EncryptionContext={"a": "b"})["Plaintext"] == b"local"


def test_errors_come_over_http_as_they_are(remote: KMSClient) -> None:
    with refused("NotFoundException") as refusal:
        remote.encrypt(KeyId="alias/missing", Plaintext=b"x")
    assert refusal.status == 400
    assert "alias/missing is not found" in refusal.message


def test_many_threads_over_http(lab: Lab, server: Server) -> None:
    key = lab.create_key(region="eu-central-1")["KeyId"]
    problems: list[object] = []

    def work() -> None:
        kms = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b").client(
            "kms", endpoint_url=server.url, region_name="eu-central-1"
        )
        try:
            for _ in range(10):
                made = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
                assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 70000, 431),
    ],
)
def test_what_is_no_request_is_refused(server: Server, request_bytes: bytes, status: int) -> None:
    with socket.create_connection((server.host, server.port)) as connection:
        connection.settimeout(5)
        connection.sendall(request_bytes)
        assert connection.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def test_requests_without_a_signature_are_refused(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port)
    connection.request("POST", "/", b"{}", {"X-Amz-Target": "TrentService.ListKeys"})
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"MissingAuthenticationTokenException" in answer.read()
    connection.request("POST", "/", b"{}", {"Authorization": "Basic dXNlcjpwYXNz"})
    assert b"IncompleteSignatureException" in connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"not json", "SerializationException"),
        (b"[]", "SerializationException"),
        (b"[" * 100000, "SerializationException"),
        (b'{"KeyId": 7}', "SerializationException"),
        (b"{}", "ValidationException"),
        (b'{"KeyId": "k", "Plaintext": "no base64!"}', "SerializationException"),
    ],
)
def test_bodies_that_are_no_request(server: Server, body: bytes, code: str) -> None:
    connection = http.client.HTTPConnection(server.host, server.port)
    authorization = (
        "AWS4-HMAC-SHA256 Credential=ANYTHING/20270101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"
    )
    connection.request("POST", "/", body, {"X-Amz-Target": "TrentService.Encrypt", "Authorization": authorization})
    assert code.encode() in connection.getresponse().read()
    connection.close()


AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=ANYTHING/20270101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=00"
)


SIGNED = AUTHORIZATION.format("kms")


def send(lab: Lab, operation: str, body: bytes, service: str = "kms") -> dict[str, Any]:
    """What the gateway answers to a body that no client would write."""
    headers = {"x-amz-target": f"TrentService.{operation}", "authorization": AUTHORIZATION.format(service)}
    request = _wire.HttpRequest("POST", "/", headers, bytearray(body), "127.0.0.1", secure=True)
    answer: dict[str, Any] = json.loads(lab._gateway.handle(request).body)
    return answer


HALF = rb"\ud800"  # half a character, as JSON escapes can spell it


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("CreateKey", b'{"Description": "%s"}' % HALF),
        ("CreateKey", b'{"Tags": [{"TagKey": "%s", "TagValue": ""}]}' % HALF),
        ("Encrypt", b'{"KeyId": "k", "Plaintext": "aGk=", "GrantTokens": ["%s"]}' % HALF),
        ("Encrypt", b'{"KeyId": "k", "Plaintext": "aGk=", "EncryptionContext": {"%s": ""}}' % HALF),
        ("Encrypt", b'{"KeyId": "k", "Plaintext": "aGk=", "EncryptionContext": {"a": "%s"}}' % HALF),
        (
            "ImportKeyMaterial",
            b'{"KeyId": "k", "ImportToken": "aGk=", "EncryptedKeyMaterial": "aGk=", "ValidTo": 1e300}',
        ),
        (
            "ImportKeyMaterial",
            b'{"KeyId": "k", "ImportToken": "aGk=", "EncryptedKeyMaterial": "aGk=", "ValidTo": NaN}',
        ),
        ("ListKeys", b'{"Limit": ' + b"9" * 5000 + b"}"),
    ],
)
def test_values_that_nothing_can_hold_are_refused(lab: Lab, operation: str, body: bytes) -> None:
    assert send(lab, operation, body)["__type"] == "SerializationException"


@pytest.mark.parametrize("other", ["plaintext taken out:0", "plaintext taken out:9", "plaintext taken out:x"])
def test_text_that_looks_like_the_lab_s_own_is_text(lab: Lab, other: str) -> None:
    context = {"Plaintext": "aGVs", "note": other}
    asked = {"KeyId": lab.create_key()["KeyId"], "EncryptionContext": context, "Plaintext": "aGVsbG8="}
    blob = send(lab, "Encrypt", json.dumps(asked).encode())["CiphertextBlob"]
    assert lab.call("Decrypt", CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"hello"
    asked["Plaintext"] = other
    assert send(lab, "Encrypt", json.dumps(asked).encode())["__type"] == "SerializationException"


def test_a_context_name_like_a_member_s_stays_as_it_is(lab: Lab) -> None:
    kms = client(lab.session())
    key = lab.create_key()["KeyId"]
    root = "arn:aws:iam::111122223333:root"
    pairs = {"Plaintext": "aGVsbG8="}
    kms.create_grant(
        KeyId=key, GranteePrincipal=root, Operations=["Decrypt"], Constraints={"EncryptionContextSubset": pairs}
    )
    assert kms.list_grants(KeyId=key)["Grants"][0]["Constraints"] == {"EncryptionContextSubset": pairs}


@pytest.mark.parametrize("service", ["s3", "sts", "cloudtrail"])
def test_a_signature_is_for_its_service(lab: Lab, service: str) -> None:
    answer = send(lab, "ListKeys", b"{}", service)
    assert answer["__type"] == "InvalidSignatureException"
    assert answer["message"] == "Credential should be scoped to correct service: 'kms'."


def test_a_failure_inside_is_an_answer(
    lab: Lab, server: Server, remote: KMSClient, caplog: pytest.LogCaptureFixture
) -> None:
    key = remote.create_key()["KeyMetadata"]["KeyId"]
    lab._state.close()
    with refused("KMSInternalException") as refusal:
        remote.encrypt(KeyId=key, Plaintext=b"a very secret text")
    assert refusal.status == 500
    assert "Traceback" in caplog.text
    assert "secret" not in caplog.text
    # The connection is kept, as after any answer.
    connection = http.client.HTTPConnection(server.host, server.port)
    for _ in range(2):
        connection.request("POST", "/", b"{}", {"X-Amz-Target": "TrentService.ListKeys", "Authorization": SIGNED})
        answer = connection.getresponse()
        assert answer.status == 500
        assert json.loads(answer.read())["__type"] == "KMSInternalException"
    connection.close()


def test_a_server_without_descriptors_waits_for_some(tmp_path: Path) -> None:
    """More connections than it may open: they wait, and it goes on when others are closed."""
    Lab(tmp_path / "lab").close()
    command = f"ulimit -n 40; exec {Path(sys.executable).parent}/sealwax lab serve --lab lab --port 0"
    with subprocess.Popen(["bash", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].decode()
        place = (url.split(":")[1].strip("/"), int(url.split(":")[2]))
        crowd = [socket.create_connection(place) for _ in range(60)]
        # One of the last gets no answer while the others hold every descriptor.
        crowd[-1].settimeout(0.5)
        crowd[-1].sendall(b"POST / HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            crowd[-1].recv(1)
        for connection in crowd[:-1]:
            connection.close()
        crowd[-1].settimeout(30)
        assert crowd[-1].recv(100).startswith(b"HTTP/1.1 411 ")
        crowd[-1].close()
        assert process.poll() is None
        process.terminate()


def test_an_address_in_use_is_one_sentence(lab: Lab, server: Server) -> None:
    with pytest.raises(Exception, match=f"cannot listen on 127.0.0.1 port {server.port}"):
        Server(lab, port=server.port)


def test_loopback_is_told_from_the_rest() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")


def test_the_lab_wipes_what_it_answered_with(lab: Lab, kms: KMSClient, monkeypatch: pytest.MonkeyPatch) -> None:
    responses: list[HttpResponse] = []
    handle = lab._gateway.handle

    def kept(*arguments: Any) -> HttpResponse:
        responses.append(handle(*arguments))
        return responses[-1]

    monkeypatch.setattr(lab._gateway, "handle", kept)
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    assert [bytes(response.body).strip(b"\0") for response in responses[1:]] == [b"", b""]


def test_wiping() -> None:
    buffer = bytearray(os.urandom(50))
    wipe(buffer)
    assert buffer == bytes(50)


def test_tls(lab: Lab, tmp_path: Path) -> None:
    certificate, private_key = _self_signed(tmp_path)
    server = Server(lab, host="localhost", tls=(certificate, private_key))
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        kms = boto3.client(
            "kms",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            verify=str(certificate),
        )
        assert server.url.startswith("https://")
        assert kms.create_key()["KeyMetadata"]["Enabled"]
    finally:
        server.close()
        thread.join()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return chain, key


def test_a_plaintext_is_wiped_once_it_is_in_the_answer() -> None:
    secret = bytearray(b"0123456789abcdef0123456789abcdef")
    response = _wire.answer({"KeyId": "k", "Plaintext": secret}, "id")
    assert secret == bytes(32)
    assert json.loads(response.body)["Plaintext"] == "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def test_a_plaintext_of_a_request_never_becomes_text() -> None:
    body = b'{"KeyId": "k", "Plaintext": "aGVsbG8="}'
    document = _wire.read_document(bytearray(body))
    assert document == {"KeyId": "k", "Plaintext": bytearray(b"hello")}
    assert isinstance(document["Plaintext"], bytearray)


def test_a_server_on_every_address_is_reached_by_both_kinds(lab: Lab) -> None:
    try:
        server = Server(lab, host="::")
    except LabError as error:  # this machine has no IPv6
        assert "cannot listen on :: port 0" in str(error)  # noqa: PT017
        return
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        for host in ("127.0.0.1", "[::1]"):
            url = f"http://{host}:{server.port}"
            kms = boto3.client(
                "kms",
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id="any",
                aws_secret_access_key="thing",
            )
            assert kms.list_keys()["Keys"] == []
        assert {event.record["sourceIPAddress"] for event in lab.trail.events()} == {"127.0.0.1", "::1"}
    finally:
        server.close()
        thread.join()
