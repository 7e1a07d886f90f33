"""Every block of commands or Python on the pages runs as typed, with what its page says and nothing else."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer
from fakeredis import TcpFakeServer
from redis import Redis

import sealwax
from sealwax import fleet
from sealwax.cli.examples import EXAMPLES
from sealwax.lab import Lab
from tests.docs.blocks import PAGES, PROGRAMS, ROOT, Block, blocks_of, run
from tests.foreign import s3ec
from tests.foreign.test_real_messages import serving
from tests.s3 import StrictS3

BLOCKS: Final = {page.relative_to(ROOT).as_posix(): list(blocks_of(page)) for page in PAGES}
RUN: Final = {page: [b for b in blocks if b.runs or b.file] for page, blocks in BLOCKS.items()}
KEYS: Final = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


def test_as_many_blocks_run_as_the_pages_have() -> None:
    # A page that loses a block, or gets one nobody counted, fails here: what is not counted may not have run.
    kinds = {page: dict(Counter(b.file or b.language for b in blocks)) for page, blocks in RUN.items() if blocks}
    assert kinds == {
        "README.md": {"sh": 1, "python": 1},
        "docs/start/lab.md": {"sh": 6, "python": 1},
        "docs/tutorials/audit-an-account.md": {"sh": 5},
        "docs/tutorials/protect-a-column.md": {"python": 7},
        "docs/tutorials/protect-a-file.md": {"sh": 7, "python": 1},
        "docs/tutorials/rotate-a-key.md": {"sh": 5},
        "docs/how-to/access-denied.md": {"sh": 5, "python": 1},
        "docs/how-to/erase-a-tenant.md": {"sh": 4, "python": 1},
        "docs/how-to/async.md": {"sh": 1, "python": 1},
        "docs/how-to/audit.md": {"sh": 1, "python": 1},
        "docs/how-to/automatic-rotation.md": {"sh": 1},
        "docs/how-to/caching.md": {"sh": 2, "python": 2},
        "docs/explanation/concepts.md": {"sh": 1, "python": 2},
        "docs/how-to/editing.md": {"sh": 2},
        "docs/how-to/backups.md": {"sh": 6},
        "docs/how-to/from-s3-encryption-client.md": {"sh": 3, "python": 2},
        "docs/how-to/from-scripts.md": {"python": 1, "sh": 4},
        "docs/how-to/from-encryption-sdk.md": {"sh": 6, "python": 1},
        "docs/reference/iam.md": {"python": 1},
        "docs/how-to/in-production.md": {"python": 1},
        "docs/how-to/data-keys.md": {"sh": 1},
        "docs/how-to/key-stores.md": {"sh": 1, "python": 3},
        "docs/how-to/lab.md": {"sh": 3},
        "docs/how-to/many-files.md": {"sh": 3},
        "docs/how-to/moving-in.md": {"python": 2, "sh": 2},
        "docs/reference/misconfigurations.md": {"sh": 1, "python": 1},
        "docs/how-to/open-without-sealwax.md": {"unseal.py": 1, "sh": 1},
        "docs/how-to/policies.md": {"sh": 6, "python": 1},
        "docs/explanation/records.md": {"python": 2},
        "docs/how-to/django.md": {"python": 2, "conftest.py": 1, "sh": 6},
        "docs/how-to/blind-indexes.md": {"python": 1, "sh": 1},
        "docs/how-to/rehearsal.md": {"sh": 1},
        "docs/how-to/recipes.md": {"python": 8, "sealing.py": 1},
        "docs/how-to/regions.md": {"python": 3},
        "docs/reference/reports.md": {"sh": 2, "python": 1},
        "docs/how-to/pipes.md": {"sh": 2},
        "docs/how-to/reencrypt.md": {"sh": 3},
        "docs/how-to/reseal.md": {"sh": 2, "python": 1},
        "docs/how-to/retire-a-key.md": {"sh": 1},
        "docs/how-to/rotate-records.md": {"sh": 2, "python": 1},
        "docs/how-to/rotation.md": {"sh": 3, "python": 1},
        "docs/how-to/s3.md": {"sh": 2, "python": 1},
        "docs/reference/settings.md": {"sh": 2},
        "docs/how-to/secrets.md": {"sh": 4, "python": 1},
        "docs/how-to/share.md": {"sh": 4},
        "docs/how-to/sqlalchemy.md": {"python": 5},
        "docs/how-to/testing.md": {"python": 2, "shop.py": 1, "test_shop.py": 1, "sh": 1},
        "docs/how-to/throttling.md": {"sh": 1, "python": 2},
        "docs/how-to/verification.md": {"sh": 1},
    }


def test_each_block_that_does_not_run_says_why() -> None:
    assert {
        page: [block.not_run for block in blocks if block.not_run]
        for page, blocks in BLOCKS.items()
        if any(block.not_run for block in blocks)
    } == {
        "CONTRIBUTING.md": ["the tests of this page are among them"],
        "docs/reference/cli.md": ["each example of a verb is a test of its own"] * len(EXAMPLES),
        "docs/how-to/rotate-in-lambda.md": [
            "downloads wheels and needs a bucket for code",
            "deploys a stack to an AWS account",
            "calls the deployed function",
            "KEY and the bucket are yours",
        ],
        "docs/README.md": ["start/lab.md runs the same"],
        "docs/explanation/speed.md": ["measures for ten minutes or more"],
        "docs/start/aws.md": [
            "makes a KMS key in an AWS account",
            *["uses a KMS key in an AWS account"] * 2,
            "looks up a KMS key in an AWS account",
            "deletes a KMS key in an AWS account",
        ],
        "docs/start/install.md": ["downloads from PyPI"],
        "docs/how-to/in-production.md": ["needs credentials of AWS", "needs Airflow"],
        "docs/how-to/editing.md": ["opens an editor"],
        "docs/how-to/backups.md": ["needs restic"],
        "docs/how-to/lab.md": ["serves until Ctrl-C, and needs the AWS CLI"],
        "docs/how-to/open-without-sealwax.md": ["serves until Ctrl-C", "the port differs in the tests"],
        "docs/how-to/temporary-access.md": ["waits for an hour"],
        "docs/how-to/recipes.md": ["tests/spark runs it"],
        "docs/how-to/move-many.md": ["needs a bucket with messages"],
        "docs/how-to/rehearsal.md": ["it needs an AWS account"] * 2,
        "docs/how-to/s3.md": ["serves until Ctrl-C", "the port differs in the tests"],
        "docs/how-to/spark.md": ["needs Spark, Java and a bucket", "needs Spark, Java and a bucket"],
        "docs/how-to/verify-a-release.md": [
            "downloads a release",
            "downloads a release",
            "downloads a release",
            "clones the repository and downloads the tools",
        ],
    }


@contextlib.contextmanager
def s3(_: Path) -> Iterator[dict[str, str]]:
    with StrictS3() as server:
        client = server.bucket("vault")
        yield {**KEYS, "AWS_ENDPOINT_URL_S3": server.url}
        names = {item["Key"] for item in client.list_objects_v2(Bucket="vault")["Contents"]}
        assert names >= {"a.swx", "tree.tar.swx", "tree/one.swx", "tree/two.swx"}


@contextlib.contextmanager
def served_lab(folder: Path) -> Iterator[dict[str, str]]:
    """The server that the page starts in another terminal, at a port that is free here."""
    command = [str(PROGRAMS / "sealwax"), "lab", "serve", "--lab", str(folder.with_name("served")), "--port", "0"]
    with subprocess.Popen(command, env={}, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("sealwax lab is ready at "), line
            yield {**KEYS, "AWS_ENDPOINT_URL_KMS": line.split()[-1]}
        finally:
            server.terminate()


@contextlib.contextmanager
def queues(folder: Path) -> Iterator[dict[str, str]]:
    results = folder.with_name("results")
    results.mkdir()
    redis = TcpFakeServer(("127.0.0.1", 0))
    thread = threading.Thread(target=redis.serve_forever)
    thread.start()
    kafka = Producer({"test.mock.num.brokers": 1})
    try:
        (broker,) = kafka.list_topics(timeout=30).brokers.values()
        yield {
            "REDIS_URL": f"redis://127.0.0.1:{redis.server_address[1]}",
            "KAFKA_BROKERS": f"{broker.host}:{broker.port}",
            "CELERY_BROKER_URL": "memory://",
            "CELERY_RESULT_BACKEND": results.as_uri(),
        }
        with Redis(port=redis.server_address[1]) as client:
            assert [b"Ada" in client.dump(key) for key in client.scan_iter()] == [False]
        kept = [path.read_bytes() for path in results.iterdir()]
        assert [b"1234" in result or b"1250" in result for result in kept] == [False]
    finally:
        redis.shutdown()
        thread.join()
        redis.server_close()


@contextlib.contextmanager
def nothing(_: Path) -> Iterator[Mapping[str, str]]:
    yield {}


@contextlib.contextmanager
def client_objects(folder: Path) -> Iterator[dict[str, str]]:
    """The objects that the page says are there, under a key of the lab."""
    context = {"tenant": "acme"}
    with StrictS3() as server, Lab(folder.with_name("lab")) as lab, serving(lab) as kms_server:
        client, kms = server.bucket("vault"), lab.session().client("kms")
        client.create_bucket(Bucket="mail")
        old, new = (lab.create_key(alias=alias)["Arn"] for alias in ("old", "new"))
        s3ec.make(kms, old, b"%PDF of today", context).put(client, "report.pdf", bucket="vault")
        s3ec.make(kms, old, b"%PDF of then", context, version=2).put(client, "old.pdf", bucket="vault")
        mail = {"aws:ses:message-id": "id1", "aws:ses:rule-name": "inbound"}
        s3ec.make(kms, old, b"From:", mail, version=2).put(client, "1", bucket="mail")
        yield {**KEYS, "AWS_ENDPOINT_URL_S3": server.url, "AWS_ENDPOINT_URL_KMS": kms_server.url}
        assert (folder / "report.pdf").read_bytes() == b"%PDF of today"
        kept = client.head_object(Bucket="mail", Key="1")["Metadata"]["x-amz-key-v2"]
        bound = {**mail, s3ec.CIPHER: s3ec.GCM}
        opened = kms.decrypt(KeyId=new, CiphertextBlob=base64.b64decode(kept), EncryptionContext=bound)
        assert len(opened["Plaintext"]) == 32


NEEDS: Final = {
    "docs/how-to/from-s3-encryption-client.md": client_objects,
    "docs/how-to/open-without-sealwax.md": served_lab,
    "docs/how-to/recipes.md": queues,
    "docs/how-to/s3.md": s3,
}


def run_page(page: str, folder: Path, *, terminal: bool) -> str:
    with NEEDS.get(page, nothing)(folder) as needs:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert [name for name in needs if name not in text] == [], "the page says what it needs"
        return run(RUN[page], folder, needs, terminal=terminal)


def fleet_of_rotation(folder: Path) -> None:
    inspections = [sealwax.inspect(path) for path in (folder / "backups.swx").iterdir()]
    assert len(inspections) == 3
    assert len({inspection.wrapped_keys[0].key_arn for inspection in inspections}) == 1


def plan_of_scheduler(folder: Path) -> None:
    report = fleet.status(folder / "rotation.plan").as_dict()
    assert (report["objects"], report["fresh"], report["kms_calls"]) == (1, 1, 1)


def page_of_audit(folder: Path) -> None:
    assert "rotation-off" in (folder / "audit.html").read_text("utf-8")


def file_of_readme(folder: Path) -> None:
    assert (folder / "b.txt").read_text() == "the crown jewels\n"
    assert "rotation-off" in (folder / "audit.html").read_text("utf-8")
    with Lab(folder / "lab") as lab:
        moved_to = lab.session().client("kms").describe_key(KeyId="alias/demo2")["KeyMetadata"]["Arn"]
    keys = [sealwax.inspect(folder / name).wrapped_keys[0].key_arn for name in ("a.txt.swx", "backup.tar.swx")]
    assert keys == [moved_to] * 2


def files_of_settings(folder: Path) -> None:
    keys = {sealwax.inspect(folder / name / "db.env.swx").wrapped_keys[0].key_arn for name in ("dev", "prod")}
    assert len(keys) == 2
    assert (folder / "prod/db.env").read_text() == "password=prod\n"
    assert sealwax.inspect(folder / "other.swx").context == {"project": "other", "team": "payments"}


LEFT: Final = {
    "README.md": file_of_readme,
    "docs/how-to/audit.md": page_of_audit,
    "docs/how-to/automatic-rotation.md": plan_of_scheduler,
    "docs/how-to/rotation.md": fleet_of_rotation,
    "docs/reference/settings.md": files_of_settings,
}


# On a terminal, as people type them; tests/cli runs commands without one. The page for schedulers runs both ways.
@pytest.mark.parametrize(
    ("page", "terminal"),
    [*((page, True) for page, blocks in RUN.items() if blocks), ("docs/how-to/automatic-rotation.md", False)],
)
def test_a_page_runs_as_typed(page: str, terminal: bool, tmp_path: Path) -> None:
    run_page(page, tmp_path / "folder", terminal=terminal)
    if page in LEFT:
        LEFT[page](tmp_path / "folder")


def test_a_page_that_does_not_run_is_noticed(tmp_path: Path) -> None:
    for number, block in enumerate(
        [
            Block("sh", "false\n"),
            Block("python", "import sealwax.errors; sealwax.nothing\n"),
            Block("sh", "sealwax inspect missing.swx\n"),
        ]
    ):
        for terminal in (False, True):
            with pytest.raises(AssertionError):
                run([block], tmp_path / f"{number}{terminal}", {}, terminal=terminal)


@pytest.mark.parametrize(
    "text",
    [
        "```sh run\ntrue\n```\n",
        "```bash\ntrue\n```\n",
        "- a\n  ```sh\n  true\n  ```\n",
        "```\nsealwax inspect a\n```\n",
    ],
)
def test_a_block_that_nobody_would_run_is_refused(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md:[12]: a block"):
        list(blocks_of(page))


def test_the_library_does_not_read_the_variables_of_the_command_line() -> None:
    package = Path(sealwax.__file__).parent
    sources = [path for path in package.rglob("*.py") if "cli" not in path.relative_to(package).parts]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in ("SEALWAX_LAB", "SEALWAX_KEY", "SEALWAX_SETTINGS") if name in text], path
