"""Every broken source of credentials, over a folder of 50 files: told once and by name, with status 7, no secret."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealwax import cli
from tests.credentials.endpoint import Answer, Asked, Endpoint, json_error, xml_error

KEY = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
ROLE = "arn:aws:iam::111122223333:role/backup"
# What must not be said; each is there whole, and with what breaks it.
ID, SECRET, TOKEN = "AKIAQYZXWVUTSRQPONML", "s3cr3t/Key+zyxwvutsrqponml", "T0kenT0ken/AbCdEfGh+IjKlMnOp=="
STATIC = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET}
BASE = f"[profile base]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
OF_ROLE = f"[default]\nrole_arn = {ROLE}\nsource_profile = base\n{BASE}"
SSO = "[default]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = reader\n"
SSO_SESSION = "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n"
SSO_LEGACY = (
    "[default]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n"
    "sso_account_id = 111122223333\nsso_role_name = reader\n"
)
WEB = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{settings}/token"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{endpoint}/role"}
GIVEN = {"Version": 1, "AccessKeyId": ID, "SecretAccessKey": SECRET, "SessionToken": TOKEN}
LATER = (datetime.now(UTC) + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sso_token(**fields: str) -> str:
    token = {"accessToken": TOKEN, "expiresAt": LATER, "startUrl": "https://corp.awsapps.com/start", **fields}
    return json.dumps(token)


@dataclass(frozen=True)
class Source:
    """A broken source.

    Args:
        said: what the message must have, the source first.
        asked: what the endpoint is asked; how often is botocore's, for one attempt.
        script: of a credential_process, which notes that it ran.
        files: others, by name below the settings' folder.
        kind: the error's class.
        at_once: whether the session cannot be opened, so that there is no file to name.
    """

    said: tuple[str, ...]
    config: str = ""
    shared: str = ""
    env: dict[str, str] = field(default_factory=dict)
    script: str | None = None
    files: dict[str, str | bytes | None] = field(default_factory=dict)
    answer: Callable[[Asked], Answer] = lambda _: Answer(500)
    asked: tuple[str, ...] = ()
    kind: str = "CredentialsError"
    at_once: bool = False


ENV = "the environment (AWS_ACCESS_KEY_ID"
PROCESS = "the credential_process of AWS profile 'default'"
OIDC_TOKEN = hashlib.sha1(b"corp").hexdigest()
LEGACY_TOKEN = hashlib.sha1(b"https://corp.awsapps.com/start").hexdigest()
SIGNED_IN = {f"sso/{OIDC_TOKEN}.json": _sso_token()}
AT_CONTAINER = "the container's credentials endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI"

SOURCES = {
    "nothing": Source(("there are no AWS credentials", "aws sso login")),
    "a key ID alone": Source((ENV, "AWS_SECRET_ACCESS_KEY"), env={"AWS_ACCESS_KEY_ID": ID}),
    "a secret alone": Source(
        ("there are no AWS credentials", "but AWS_ACCESS_KEY_ID is not"), env={"AWS_SECRET_ACCESS_KEY": SECRET}
    ),
    "a line break in a token": Source(
        (ENV, "the session token has a line break"), env=STATIC | {"AWS_SESSION_TOKEN": f"{TOKEN}\n{TOKEN[::-1]}"}
    ),
    "a line break behind a secret": Source(
        (ENV, "the secret access key has a line break"), env=STATIC | {"AWS_SECRET_ACCESS_KEY": f"{SECRET}\n"}
    ),
    "a space in a key ID": Source(
        (ENV, "the access key ID has"), env=STATIC | {"AWS_ACCESS_KEY_ID": f"{ID} {ID[::-1]}"}
    ),
    "a byte that is no text": Source(
        (ENV, "the session token has"), env=STATIC | {"AWS_SESSION_TOKEN": f"{TOKEN}\udcff"}
    ),
    "an expiration that is no time": Source(
        (ENV, "its answer cannot be used"), env=STATIC | {"AWS_CREDENTIAL_EXPIRATION": "soon"}
    ),
    "an expiration that is past": Source(
        (ENV, "have already expired"),
        env=STATIC | {"AWS_SESSION_TOKEN": TOKEN, "AWS_CREDENTIAL_EXPIRATION": "2001-01-01T00:00:00Z"},
    ),
    "a program that is missing": Source(
        (PROCESS, "cannot be run (No such file or directory)"),
        config="[default]\ncredential_process = {settings}/none\n",
    ),
    "a program that is not executable": Source(
        (PROCESS, "cannot be run (Permission denied)"),
        config="[default]\ncredential_process = {settings}/plain\n",
        files={"plain": "#!/bin/sh\n"},
    ),
    "a command with an open quote": Source(
        (PROCESS, "cannot be used"), config="[default]\ncredential_process = /bin/echo 'x\n"
    ),
    "a program without JSON": Source((PROCESS, "did not print a JSON object"), script=f"echo {TOKEN}"),
    "a program with a list": Source((PROCESS, "did not print a JSON object"), script=f"echo '[\"{TOKEN}\"]'"),
    "a program of another version": Source(
        (PROCESS, "does not have Version 1"), script=f"echo '{json.dumps(GIVEN | {'Version': 2})}'"
    ),
    "a program without a secret": Source(
        (PROCESS, "no text for SecretAccessKey"), script=f"echo '{json.dumps(GIVEN | {'SecretAccessKey': ''})}'"
    ),
    "a program with what has expired": Source(
        (PROCESS, "have already expired"),
        script=f"echo '{json.dumps(GIVEN | {'Expiration': '2001-01-01T00:00:00Z'})}'",
    ),
    "a program with a time that is none": Source(
        (PROCESS, "cannot be used"), script=f"echo '{json.dumps(GIVEN | {'Expiration': 'soon'})}'"
    ),
    "a program with a number for a key": Source(
        (PROCESS, "no text for AccessKeyId"), script=f"echo '{json.dumps(GIVEN | {'AccessKeyId': 12345678})}'"
    ),
    "a program with a line break in a token": Source(
        ("a credential_process", "the session token has a line break"),
        script=f"cat <<'END'\n{json.dumps(GIVEN | {'SessionToken': f'{TOKEN}' + chr(10)})}\nEND",
    ),
    "a program that fails": Source(
        (PROCESS, "exited with status 3: please sign in with ***"),
        script=f"echo '{json.dumps(GIVEN)}'; echo please sign in with {TOKEN} >&2; exit 3",
    ),
    "a program that fails and prints no credentials but in its error": Source(
        (PROCESS, "exited with status 3: cannot use *** with *** of /opt/tools/aws2-helper"),
        script=f"echo cannot use {ID} with {SECRET} of /opt/tools/aws2-helper >&2; exit 3",
    ),
    "a program that fails without text": Source((PROCESS, "status 1"), script="printf '\\377\\376' >&2; exit 1"),
    "a program that is killed": Source((PROCESS, "it was killed"), script="kill -9 $$"),
    "a token file that is missing": Source(
        ("the web identity token file '", "/token'", "No such file or directory"), env=WEB
    ),
    "a token file that is a folder": Source(
        ("the web identity token file '", "/token'", "Is a directory"), env=WEB, files={"token": None}
    ),
    "an empty token file": Source(("a web identity token for the role", "STS rejected"), env=WEB, files={"token": ""}),
    "a token file that is no text": Source(
        ("the web identity token file '", "cannot be used"), env=WEB, files={"token": TOKEN.encode() + b"\xff\xfe"}
    ),
    "a token file without a role": Source(
        ("the web identity of AWS profile 'default'", "no role ARN configured"),
        env={"AWS_WEB_IDENTITY_TOKEN_FILE": "/x"},
    ),
    "a shared file with a key ID alone": Source(
        ("the shared credentials file '", "aws_secret_access_key"), shared=f"[default]\naws_access_key_id = {ID}\n"
    ),
    "a settings file with a key ID alone": Source(
        ("the AWS settings file '", "aws_secret_access_key"), config=f"[default]\naws_access_key_id = {ID}\n"
    ),
    "a shared file that is none": Source(
        ("/credentials", "an AWS settings file cannot be read"), shared=f"{TOKEN}\n", at_once=True
    ),
    "a settings file that is none": Source(
        ("/config", "an AWS settings file cannot be read"), config=f"{TOKEN}\n", at_once=True
    ),
    "a profile that is not there": Source(
        ("there is no such AWS profile", "nobody"), env={"AWS_PROFILE": "nobody"}, at_once=True
    ),
    "a source profile that is not there": Source(
        ("the role of AWS profile 'default'", '"nobody"'),
        config=f"[default]\nrole_arn = {ROLE}\nsource_profile = nobody\n",
    ),
    "source profiles in a circle": Source(
        ("the role of AWS profile 'default'", "Infinite loop"),
        config=f"[default]\nrole_arn = {ROLE}\nsource_profile = b\n"
        f"[profile b]\nrole_arn = {ROLE}\nsource_profile = default\n",
    ),
    "a source profile without credentials": Source(
        ("the role of AWS profile 'default'", "must have credentials"),
        config=f"[default]\nrole_arn = {ROLE}\nsource_profile = b\n[profile b]\nregion = us-east-1\n",
    ),
    "a source profile's program": Source(
        ("the credential_process of AWS profile 'b'", "No such file"),
        config=f"[default]\nrole_arn = {ROLE}\nsource_profile = b\n[profile b]\ncredential_process = /none/such\n",
    ),
    "a credential source that is none": Source(
        ("the role of AWS profile 'default'", '"Nowhere"'),
        config=f"[default]\nrole_arn = {ROLE}\ncredential_source = Nowhere\n",
    ),
    "two sources for a role": Source(
        ("the role of AWS profile 'default'", "both"),
        config=f"[default]\nrole_arn = {ROLE}\ncredential_source = Environment\nsource_profile = base\n{BASE}",
    ),
    "no source for a role": Source(
        ("the role of AWS profile 'default'", "has a role, but not", "Name them in the profile with source_profile"),
        config=f"[default]\nrole_arn = {ROLE}\n",
    ),
    "a credential source that has none": Source(
        ("the role of AWS profile 'default'", "No credentials found in credential_source"),
        config=f"[default]\nrole_arn = {ROLE}\ncredential_source = Environment\n",
    ),
    "a role that is no ARN": Source(
        ("the role 'backup'", "STS rejected", "RoleArn"),
        config=f"[default]\nrole_arn = backup\nsource_profile = base\n{BASE}",
    ),
    "STS out of reach": Source(
        (f"the role '{ROLE}'", "STS could not be reached"),
        config=OF_ROLE,
        env={"AWS_ENDPOINT_URL_STS": f"http://user:{TOKEN.replace('/', '-')}@127.0.0.1:9"},
    ),
    "STS at what is no URL": Source(
        (f"the role '{ROLE}'", "its endpoint is not a valid URL"),
        config=OF_ROLE,
        env={"AWS_ENDPOINT_URL_STS": "nonsense"},
    ),
    "an answer of STS that is none": Source(
        (f"the role '{ROLE}'", "the answer cannot be read"),
        config=OF_ROLE,
        answer=lambda _: Answer(200, f"<html>{TOKEN}".encode()),
        asked=("sts:AssumeRole",),
    ),
    "an answer of STS without credentials": Source(
        (f"the role '{ROLE}'", "there is no Credentials"),
        config=OF_ROLE,
        answer=lambda _: Answer(200, b"<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>"),
        asked=("sts:AssumeRole",),
    ),
    "a role without a Region": Source(
        (f"the role '{ROLE}'", "Region"),
        config=OF_ROLE,
        env={"AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL_STS": ""},
    ),
    "a CA bundle that is not there": Source(
        (f"the role '{ROLE}'", "the CA bundle '/none/ca.pem' does not exist"),
        config=OF_ROLE,
        env={"AWS_CA_BUNDLE": "/none/ca.pem", "AWS_ENDPOINT_URL_STS": "https://{place}"},
    ),
    "a CA bundle that is not there, for KMS": Source(
        ("the CA bundle '/none/ca.pem' does not exist",),
        env=STATIC | {"AWS_CA_BUNDLE": "/none/ca.pem", "AWS_ENDPOINT_URL_KMS": "https://{place}"},
        kind="ConfigurationError",
    ),
    "a session that nobody has signed in": Source(
        ("single sign-on of AWS profile 'default'", "aws sso login"), config=SSO + SSO_SESSION
    ),
    "no token of single sign-on": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "aws sso login"), config=SSO_LEGACY
    ),
    "a damaged token of single sign-on": Source(
        ("single sign-on of AWS profile 'default'",),
        config=SSO + SSO_SESSION,
        files={f"sso/{OIDC_TOKEN}.json": f'{{"accessToken": "{TOKEN}'},
    ),
    "a token without a time": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "is invalid"),
        config=SSO_LEGACY,
        files={f"sso/{LEGACY_TOKEN}.json": json.dumps({"accessToken": TOKEN})},
    ),
    "an expired token of single sign-on": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "expired", "aws sso login"),
        config=SSO + SSO_SESSION,
        files={f"sso/{OIDC_TOKEN}.json": _sso_token(expiresAt="2001-01-01T00:00:00Z")},
    ),
    "an expired token without a session": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "expired", "aws sso login"),
        config=SSO_LEGACY,
        files={f"sso/{LEGACY_TOKEN}.json": _sso_token(expiresAt="2001-01-01T00:00:00Z")},
    ),
    "a session of single sign-on that is not there": Source(
        ("single sign-on of AWS profile 'default'", '"corp"'), config=SSO
    ),
    "single sign-on without a Region": Source(
        ("single sign-on of AWS profile 'default'", "sso_region"),
        config=SSO + "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\n",
    ),
    "a session of aws login": Source(
        ("of 'aws login'", "AWS profile 'default'"), config="[default]\nlogin_session = nobody\n"
    ),
    "a container's endpoint elsewhere": Source(
        (AT_CONTAINER, "Unsupported host"),
        env={"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://user:{TOKEN}@example.com/role"},
    ),
    "a container's endpoint that refuses": Source(
        (AT_CONTAINER, "non 200 response 403"),
        env=CONTAINER,
        answer=lambda _: Answer(403, TOKEN.encode()),
        asked=("/role",) * 3,
    ),
    "a container's endpoint that lacks a field": Source(
        (AT_CONTAINER, "there is no Token"),
        env=CONTAINER,
        answer=lambda _: Answer(200, json.dumps({"AccessKeyId": ID, "SecretAccessKey": SECRET}).encode()),
        asked=("/role",),
    ),
    "a container's endpoint that answers with a list": Source(
        (AT_CONTAINER, "cannot be used"),
        env=CONTAINER,
        answer=lambda _: Answer(200, json.dumps([TOKEN]).encode()),
        asked=("/role",),
    ),
    "a line break in a container's token": Source(
        (AT_CONTAINER, "not a legal header value"),
        env=CONTAINER | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": f"{TOKEN}\n{TOKEN}"},
    ),
    "a container's token file that is missing": Source(
        (AT_CONTAINER, "No such file"), env=CONTAINER | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/none/token"}
    ),
    "an instance's metadata of no kind": Source(
        ("signing in to AWS failed", "endpoint mode"),
        env={"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "carrier pigeon"},
        at_once=True,
    ),
    "a token of single sign-on with a line break": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "cannot be sent", "aws sso login"),
        config=SSO + SSO_SESSION,
        files={f"sso/{OIDC_TOKEN}.json": _sso_token(accessToken=f"{TOKEN}\n{TOKEN[::-1]}")},
    ),
    "a cut off token without a session": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "cannot be read", "aws sso login"),
        config=SSO_LEGACY,
        files={f"sso/{LEGACY_TOKEN}.json": f'{{"accessToken": "{TOKEN}'},
    ),
    "a token without a session that is no text": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "cannot be read", "aws sso login"),
        config=SSO_LEGACY,
        files={f"sso/{LEGACY_TOKEN}.json": TOKEN.encode() + b"\xff"},
    ),
    "a container's token that is not ASCII": Source(
        (AT_CONTAINER, "cannot be sent"),
        env=CONTAINER | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": f"{TOKEN}\u20ac{TOKEN}"},
    ),
    "a container's endpoint without a port": Source(
        (AT_CONTAINER, "is not valid", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        env={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:port/role"},
    ),
    "a proxy that cannot be read": Source(
        (f"the role '{ROLE}'", "is not valid", "HTTP_PROXY"),
        config=OF_ROLE,
        env={"HTTP_PROXY": f"http://user:{TOKEN}@bad host:99999"},
    ),
    "a CA bundle that is a folder": Source(
        (f"the role '{ROLE}'", "the TLS certificate of STS is not trusted", "AWS_CA_BUNDLE"),
        config=OF_ROLE,
        files={"ca": None},
        env={"AWS_CA_BUNDLE": "{settings}/ca", "AWS_ENDPOINT_URL_STS": "https://{place}"},
    ),
    "a shared file that is not there": Source(
        (
            "there are no AWS credentials",
            "'/none/file' (from AWS_SHARED_CREDENTIALS_FILE)",
            "No such file or directory",
        ),
        env={"AWS_SHARED_CREDENTIALS_FILE": "/none/file"},
    ),
    "a shared file that cannot be read": Source(
        ("there are no AWS credentials", "'/proc/self/mem' (from AWS_SHARED_CREDENTIALS_FILE)", "Input/output error"),
        env={"AWS_SHARED_CREDENTIALS_FILE": "/proc/self/mem"},
    ),
    "a settings file that is a folder": Source(
        ("there are no AWS credentials", "'{settings}' (from AWS_CONFIG_FILE)", "it is not a regular file"),
        env={"AWS_CONFIG_FILE": "{settings}"},
    ),
    "a profile in a settings file that is not there": Source(
        ("there is no such AWS profile", "corp", "'/none/file' (from AWS_CONFIG_FILE)", "No such file or directory"),
        env={"AWS_CONFIG_FILE": "/none/file", "AWS_PROFILE": "corp"},
        at_once=True,
    ),
    "a time for the metadata service that is none": Source(
        ("signing in to AWS failed", "the AWS setting 'metadata_service_timeout' is not valid"),
        env={"AWS_METADATA_SERVICE_TIMEOUT": "soon"},
        at_once=True,
    ),
    "services that are none": Source(
        ("opening a KMS client", "the AWS setting 'endpoint_url' is not valid"),
        config="[default]\nservices = s\n[services s]\nkms = x\n",
        env={**STATIC, "AWS_ENDPOINT_URL_KMS": ""},
        kind="ConfigurationError",
    ),
    "an endpoint of several lines": Source(
        ("opening a KMS client", "an AWS setting is not valid"),
        config="[default]\nendpoint_url =\n  a = b\n",
        env={**STATIC, "AWS_ENDPOINT_URL_KMS": ""},
        kind="ConfigurationError",
    ),
    "a defaults mode of several lines": Source(
        ("opening a KMS client", "an AWS setting is not valid"),
        config="[default]\ndefaults_mode =\n  a = b\n",
        env=STATIC,
        kind="ConfigurationError",
    ),
    "a source profile of several lines": Source(
        ("the role of AWS profile 'default'", "cannot be used"),
        config=f"[default]\nrole_arn = {ROLE}\nsource_profile =\n  a = b\n",
    ),
    "a line break in what a role is asked for with": Source(
        ("the AWS settings file", "the secret access key has a line break"),
        config=f"{OF_ROLE}".replace(SECRET, f"{SECRET}\n  {SECRET[::-1]}"),
        answer=lambda _: xml_error("SignatureDoesNotMatch", "no", 403),
        asked=("sts:AssumeRole",),
    ),
    "a command without a program": Source(
        (PROCESS, "the setting names no program"), config="[default]\ncredential_process =\n"
    ),
    "an old credential file that is missing": Source(
        ("the file that AWS_CREDENTIAL_FILE names", "/none/file"), env={"AWS_CREDENTIAL_FILE": "/none/file"}
    ),
}
WITHOUT_A_NAME = ("there are no AWS credentials", "signing in to AWS failed")


def grams(*secrets: str) -> set[str]:
    """Every 8 characters of secrets."""
    return {secret[at : at + 8] for secret in secrets for at in range(len(secret) - 7)}


SECRETS = grams(ID, SECRET, TOKEN, TOKEN[::-1], ID[::-1])


def has_secret(text: str) -> bool:
    return any(gram in text for gram in SECRETS)


def put(source: Source, settings: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a source up."""

    def filled(text: str) -> str:
        return (
            text.replace("{settings}", str(settings))
            .replace("{endpoint}", endpoint.url)
            .replace("{place}", endpoint.place)
        )

    endpoint.answer = source.answer
    config = source.config
    if source.script is not None:
        program = settings / "program"
        program.write_text(f"#!/bin/sh\necho ran >> {settings}/ran\n{source.script}\n")
        program.chmod(0o700)
        config += f"[default]\ncredential_process = {program}\n"
    (settings / "config").write_text(filled(config))
    (settings / "credentials").write_text(source.shared)
    for name, content in source.files.items():
        path = settings / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name, value in source.env.items():
        if value:
            monkeypatch.setenv(name, filled(value))
        else:
            monkeypatch.delenv(name)


def over_the_folder(
    folder: Path, settings: Path, capfd: pytest.CaptureFixture[str]
) -> tuple[int, list[dict[str, str]], str]:
    """Encrypt the folder; return the status, what is printed of each file, and what is said."""
    capfd.readouterr()
    status = cli.run(["encrypt", "-r", "-k", KEY, "-c", "a=b", "--json", "-o", str(settings / "out"), str(folder)])
    out, err = capfd.readouterr()
    assert not has_secret(out + err), out + err
    lines = [json.loads(line) for line in out.splitlines()]
    return status, [line for line in lines if "summary" not in line], err


def test_how_many_there_are() -> None:
    assert len(SOURCES) == 85
    assert len(REFUSALS) == 25


@pytest.mark.parametrize("name", SOURCES)
def test_a_broken_source(
    name: str,
    folder: Path,
    settings: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = SOURCES[name]
    put(source, settings, endpoint, monkeypatch)
    status, told, err = over_the_folder(folder, settings, capfd)
    assert status == 7, err
    told_once(source, told, err)
    assert tuple(endpoint.operations()) == source.asked
    if source.script is not None:
        assert (settings / "ran").read_text() == "ran\n"


def told_once(source: Source, told: list[dict[str, str]], err: str) -> None:
    assert err.count("failed: ") == 1, err
    for said in source.said:
        assert said.replace("{settings}", os.environ["AWS_CONFIG_FILE"]) in err, err
    if source.at_once:
        assert not told
    else:
        (only,) = told
        assert (only["error"], only["outcome"]) == (source.kind, "failed")
        assert "the run ends here" in err
    for never in (
        "KMS refused",
        "KMS throttles",
        "KMS failed",
        "KMS could not",
        "the endpoint is no URL",
        "bug in sealwax",
        "{service}",
    ):
        assert never not in err, err


# --- what STS and single sign-on say themselves


def _sts(code: str, status: int, *said: str, web: bool = False) -> Source:
    operation = "AssumeRoleWithWebIdentity" if web else "AssumeRole"
    token = {"token": TOKEN} if web else {}
    return Source(
        (f"the role '{ROLE}'", "STS", *said, f"({code}"),
        config="" if web else OF_ROLE,
        env=WEB if web else {},
        files={**token},
        answer=lambda asked: xml_error(code, _repeated(asked), status),
        asked=(f"sts:{operation}",),
    )


def _repeated(asked: Asked) -> str:
    """What a service has of the request, to put into what it says."""
    return f"of {asked.headers.get('Authorization', '')}, {asked.headers.get('X-Amz-Security-Token', TOKEN)}"


def _sso(code: str, status: int, *said: str) -> Source:
    return Source(
        ("https://corp.awsapps.com/start", "IAM Identity Center", *said, f"({code}"),
        config=SSO + SSO_SESSION,
        files={**SIGNED_IN},
        answer=lambda _: json_error(code, f"of {TOKEN}", status),
        asked=("/federation/credentials",),
    )


REFUSALS = {
    "AccessDenied": _sts("AccessDenied", 403, "denied access to the role", "trust policy"),
    "ExpiredToken": _sts("ExpiredToken", 403, "has expired"),
    "ExpiredTokenException": _sts("ExpiredTokenException", 400, "has expired", web=True),
    "InvalidIdentityToken": _sts("InvalidIdentityToken", 400, "does not accept the web identity token", web=True),
    "IDPCommunicationError": _sts("IDPCommunicationError", 400, "could not reach the identity provider", web=True),
    "IDPRejectedClaim": _sts("IDPRejectedClaim", 403, "does not accept the web identity token", web=True),
    "PackedPolicyTooLarge": _sts("PackedPolicyTooLarge", 400, "too large for STS"),
    "RegionDisabledException": _sts("RegionDisabledException", 403, "is not activated in that Region"),
    "InvalidClientTokenId": _sts("InvalidClientTokenId", 403, "does not accept the credentials"),
    "SignatureDoesNotMatch": _sts("SignatureDoesNotMatch", 403, "does not accept the credentials"),
    "IncompleteSignature": _sts("IncompleteSignature", 400, "does not accept the credentials"),
    "ValidationError": _sts("ValidationError", 400, "STS rejected the request"),
    "Throttling": _sts("Throttling", 400, "STS is throttling"),
    "InternalFailure": _sts("InternalFailure", 500, "STS had an internal error"),
    "ServiceUnavailable": _sts("ServiceUnavailable", 503, "STS had an internal error"),
    "a new one of STS": _sts("BrandNew", 400, "STS rejected the request"),
    "a new one of STS that passes": _sts("BrandNew", 502, "STS had an internal error"),
    "a redirect to a login page": Source(
        (f"the role '{ROLE}'", "the answer is a redirect, which STS does not send", "check the endpoint and proxies"),
        config=OF_ROLE,
        answer=lambda _: Answer(302, b"<html/>", (("Location", "https://login.example/"),)),
        asked=("sts:AssumeRole",),
    ),
    "ForbiddenException": _sso("ForbiddenException", 403, "does not assign this role", "sso_role_name"),
    "ResourceNotFoundException": _sso("ResourceNotFoundException", 404, "does not assign this role"),
    "TooManyRequestsException": _sso("TooManyRequestsException", 429, "is throttling requests"),
    "InvalidRequestException": _sso("InvalidRequestException", 400, "rejected the request"),
    "a new one of single sign-on": _sso("BrandNewException", 500, "had an internal error"),
    "UnauthorizedException": Source(
        ("https://corp.awsapps.com/start", "sign-in session has expired", "aws sso login"),
        config=SSO + SSO_SESSION,
        files={**SIGNED_IN},
        answer=lambda _: json_error("UnauthorizedException", f"of {TOKEN}", 401),
        asked=("/federation/credentials",),
    ),
    "a refresh that is refused": Source(
        ("single sign-on at 'https://corp.awsapps.com/start'", "expired", "aws sso login"),
        config=SSO + SSO_SESSION,
        files={
            f"sso/{OIDC_TOKEN}.json": _sso_token(
                expiresAt="2001-01-01T00:00:00Z",
                refreshToken=TOKEN[::-1],
                clientId="client",
                clientSecret=SECRET,
                registrationExpiresAt=LATER,
            )
        },
        answer=lambda _: json_error("InvalidGrantException", f"of {TOKEN[::-1]}", 400),
        asked=("/token",),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_the_giver_s(
    name: str,
    folder: Path,
    settings: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = REFUSALS[name]
    put(source, settings, endpoint, monkeypatch)
    status, told, err = over_the_folder(folder, settings, capfd)
    assert status == 7, err
    told_once(source, told, err)
    assert tuple(endpoint.operations()) == source.asked


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"])
def test_a_refusal_of_kms_names_where_the_credentials_are_from(
    code: str,
    folder: Path,
    settings: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(asked: Asked) -> Answer:
        return json_error(code, f"no. The canonical string: {asked.headers['X-Amz-Security-Token']}", 400)

    source = Source((ENV, code), env=STATIC | {"AWS_SESSION_TOKEN": TOKEN}, answer=refuse)
    put(source, settings, endpoint, monkeypatch)
    status, told, err = over_the_folder(folder, settings, capfd)
    assert status == 7
    told_once(source, told, err)
    assert endpoint.operations() == ["kms:GenerateDataKey"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_an_answer_of_kms(
    status: int,
    folder: Path,
    settings: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    answer = Answer(status, b"", (("Location", "https://login.example/"),))
    put(Source((), env=STATIC, answer=lambda _: answer), settings, endpoint, monkeypatch)
    _, told, err = over_the_folder(folder, settings, capfd)
    assert {one["error"] for one in told} == {"RequestRefusedError"}
    assert "the answer is a redirect, which KMS does not send" in err
    assert "The endpoint is not AWS" in err
