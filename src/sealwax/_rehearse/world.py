"""The account that a run works in: made, reached and taken away again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from botocore.exceptions import ClientError

from sealwax import errors
from sealwax._aws import refusals, sts
from sealwax._aws.partitions import partition_of
from sealwax._aws.responses import ask
from sealwax._aws.session import Session
from sealwax._core.keyring import now
from sealwax._rehearse.masks import Masks
from sealwax._rehearse.plan import CONTEXT, PREFIX, RUN_ID, TAG, WAITING_DAYS
from sealwax._rehearse.state import Folder, Run

T = TypeVar("T")

KEYS: Final = ("main", "next", "global")
REPLICA: Final = "replica"
ROLES: Final = ("reader", "stranger")
_ALIASES: Final = (*KEYS, "more")
# IAM and the tags of keys take effect everywhere within five minutes, as AWS says; most often within ten seconds.
_PATIENCE: Final = 360.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_NOT_YET: Final = frozenset({"AccessDenied", "AccessDeniedException"})
# KMS does not find everywhere at once what was just made.
_NOT_YET_FOUND: Final = _NOT_YET | {"NotFoundException"}
_NOT_YET_USABLE: Final = _NOT_YET_FOUND | {"KMSInvalidStateException"}
# One part of KMS may know a new tag before another does: this many uses in a row must succeed.
_USES: Final = 3
# The names are unique to the run: what exists was made by a request whose answer was lost, and that was repeated.
_MADE: Final = frozenset({"EntityAlreadyExists", "BucketAlreadyOwnedByYou", "AlreadyExistsException"})
# How often, and how many seconds apart, a key whose ARN is not known is looked for.
_LOOKS, _BETWEEN_LOOKS = 6, 2.0
# What was just made may not be known everywhere: for so many seconds, that is not taken for gone.
_KEY_PATIENCE, _GONE_PATIENCE = 60.0, 2.0
# A key policy names a role that KMS does not know yet.
_NO_ROLE_YET: Final = frozenset({"MalformedPolicyDocumentException"})
_ROLE_PATIENCE: Final = 60.0
_GONE: Final = frozenset({"NotFoundException", "NoSuchEntity", "NoSuchBucket", "NoSuchKey", "NoSuchUpload", "404"})
_ENDING: Final = ("PendingDeletion", "PendingReplicaDeletion")
_OF_RUN: Final = re.compile(rf"{re.escape(PREFIX)}({RUN_ID.pattern})(?:-(\w+))?")


class AccountReach(Protocol):
    """How the caller and the roles of a run reach an account, be it AWS's or the lab's."""

    def caller(self, region: str) -> Session:
        """Return the caller's session in a Region."""
        ...

    def role(self, arn: str, region: str) -> Session:
        """Return a session of a role in a Region."""
        ...


def told(error: Exception, doing: str) -> str:
    """Return what to say of an error, whatever raised it. An answer that cannot be read may hold a secret."""
    if refusals.is_foreign(error):
        error = refusals.translate(error, doing, None)
    if isinstance(error, errors.CredentialsError):
        # Its message names the source of the credentials, such as a profile or what another program has printed.
        return f"{type(error).__name__} ({error.code})" if error.code else type(error).__name__
    if isinstance(error, errors.SealwaxError | OSError):
        return f"{type(error).__name__}: {error}"
    return f"{type(error).__name__}, which is not expected of AWS's answers"


def settled(
    call: Callable[[], T], codes: frozenset[str] = _NOT_YET, patience: float = _PATIENCE, first: float = _FIRST_PAUSE
) -> T:
    """Return what a call returns, once AWS has settled: it is repeated while it fails with one of these codes."""
    until, pause = now() + patience, first
    while True:
        try:
            return call()
        except (ClientError, errors.SealwaxError) as error:
            if code_of(error) not in codes or now() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def completed(call: Callable[[], T]) -> T:
    """Return what a call returns. Signals wait for it, so that nothing is made after it was taken away."""
    stop: BaseException | None = None
    with ThreadPoolExecutor(1) as pool:
        # The pool does not wait for a thread in whose start the signal came: what makes something needs one that runs.
        pool.submit(int).result()
        future = pool.submit(call)
        while not future.done():
            try:
                wait([future])
            except (KeyboardInterrupt, SystemExit) as error:
                stop = error
    if stop is not None:
        raise stop
    return future.result()


def _made(create: Callable[[], object]) -> None:
    """Make something by its name, unless a request whose answer was lost has made it."""
    try:
        completed(create)
    except ClientError as error:
        if code_of(error) not in _MADE:
            raise


def code_of(error: BaseException) -> str:
    """Return the error code of AWS in an error; "" if it has none."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "code", "") or "")


@dataclass
class World:
    """What a run has, and how it gets at it.

    Attributes:
        run: the run and its keys.
        reach: how the account is reached.
        masks: learns what must not be in the report.
        work: a folder for files, removed at the end.
        unseen: of how many keys the tags could not be read, in the search for those of rehearsals.
    """

    run: Run
    reach: AccountReach
    masks: Masks
    work: Path
    unseen: int = 0
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _sessions: dict[tuple[str, str], Session] = field(default_factory=dict)

    @property
    def near(self) -> str:
        return self.run.regions[0]

    @property
    def far(self) -> str:
        return self.run.regions[1]

    @property
    def bucket(self) -> str:
        return self.run.names.bucket

    def key(self, name: str) -> str:
        """Return the ARN of a key."""
        return self.run.keys[name]

    def role_arn(self, name: str) -> str:
        return f"arn:{partition_of(self.near)}:iam::{self.run.account}:role/{self.run.names.role(name)}"

    def session(self, who: str = "caller", region: str | None = None) -> Session:
        """Return a session of the caller or of one of the roles."""
        place = who, region or self.near
        if place not in self._sessions:
            if who == "caller":
                self._sessions[place] = self.reach.caller(place[1])
            else:
                self._sessions[place] = settled(lambda: self.reach.role(self.role_arn(who), place[1]))
        return self._sessions[place]

    def client(self, service: str, region: str | None = None) -> Any:
        """Return one of the caller's clients."""
        place = service, region or self.near
        if place not in self._clients:
            self._clients[place] = self.session(region=place[1]).client(service, region_name=place[1])
        return self._clients[place]


def make(world: World, folder: Folder, say: Callable[[str], None]) -> None:
    """Make everything. What is begun is noted before, so that it is found again whatever happens.

    Raises:
        Exception: botocore's or the product's: AWS refused, or was not reached.
    """

    def begin(what: str) -> None:
        world.run.begun.append(what)
        folder.save(world.run)

    _make_roles(world, begin)
    say("made 2 roles")
    begin("bucket")
    where = {} if world.near == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": world.near}}
    _made(partial(world.client("s3").create_bucket, Bucket=world.bucket, **where))
    say("made 1 bucket")

    def keep(name: str, arn: str) -> None:
        world.run.keys[name] = arn
        world.masks.add(arn, f"<{name}>")
        world.masks.add(arn.rpartition("/")[2], f"<id of {name}>")
        folder.save(world.run)

    say("making 3 KMS keys and a replica; AWS may need up to five minutes until they can be used")
    make_keys(world, begin, keep)
    # The compared requests make this one.
    begin("alias more")
    for who in ROLES:
        world.session(who)
    for name in KEYS:
        _try(world, name, world.near)
    _try(world, REPLICA, world.far)


def _try(world: World, key: str, region: str) -> None:
    """Wait until the caller may use a key."""
    generate = world.client("kms", region).generate_data_key_without_plaintext
    for _ in range(_USES):
        use = partial(generate, KeyId=world.key(key), KeySpec="AES_256", EncryptionContext=CONTEXT)
        settled(use, _NOT_YET_USABLE)


def _make_roles(world: World, begin: Callable[[str], None]) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition_of(world.near)}:iam::{world.run.account}:root"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    for name in ROLES:
        begin(f"role {name}")
        parameters = {
            "RoleName": world.run.names.role(name),
            "AssumeRolePolicyDocument": json.dumps(trust),
            "Description": "sealwax rehearse made it, and takes it away again",
            "Tags": [{"Key": TAG, "Value": world.run.run}],
        }
        _made(partial(world.client("iam").create_role, **parameters))
        world.masks.add(world.role_arn(name), f"<role {name}>")


def make_keys(world: World, begin: Callable[[str], None], keep: Callable[[str, str], None]) -> None:
    """Make the keys, the replica and the aliases, in AWS or in the lab."""
    kms, tags = world.client("kms"), [{"TagKey": TAG, "TagValue": world.run.run}]
    for name in KEYS:
        begin(f"key {name}")
        parameters = {
            "Description": f"sealwax rehearse: {name}",
            "Policy": _key_policy(world, with_reader=name == "main"),
            "Tags": tags,
            "MultiRegion": name == "global",
            # It compares with identity policies, which do not know the key's tag yet; the account's root stays allowed.
            "BypassPolicyLockoutSafetyCheck": True,
        }
        create = _key_maker(name, partial(kms.create_key, **parameters), "KeyMetadata", begin, keep)
        settled(partial(completed, create), _NO_ROLE_YET, _ROLE_PATIENCE)
    begin(f"key {REPLICA}")
    policy = _key_policy(world, with_reader=False)
    replica = {"ReplicaRegion": world.far, "Policy": policy, "Tags": tags, "BypassPolicyLockoutSafetyCheck": True}
    replicate = partial(kms.replicate_key, KeyId=world.key("global"), **replica)
    make_replica = _key_maker(REPLICA, replicate, "ReplicaKeyMetadata", begin, keep)
    try:
        settled(partial(completed, make_replica), _NOT_YET_FOUND)
    except errors.SealwaxError as error:
        if code_of(error) not in _MADE:
            raise
        keep(REPLICA, world.key("global").replace(f":{world.near}:", f":{world.far}:"))
    for name in KEYS:
        begin(f"alias {name}")
        alias = world.run.names.alias(name)
        alias_it = partial(kms.create_alias, AliasName=alias, TargetKeyId=world.key(name))
        settled(partial(_made, alias_it), _NOT_YET_FOUND)
    _wait_for_replica(world)


def _key_maker(
    name: str,
    create: Callable[[], object],
    part: str,
    begin: Callable[[str], None],
    keep: Callable[[str, str], None],
) -> Callable[[], None]:
    """Return what makes a key once and keeps its ARN."""

    def make_it() -> None:
        answer = ask(create, f"making the KMS key '{name}'", None)
        if answer.part("ResponseMetadata").get("RetryAttempts"):
            # An attempt whose answer was lost may have made another one.
            begin(f"key of another attempt at {name}")
        keep(name, answer.part(part).need("Arn", str))

    return make_it


def _wait_for_replica(world: World) -> None:
    far = world.client("kms", world.far)
    describe = partial(ask, partial(far.describe_key, KeyId=world.key(REPLICA)), "looking at the replica", None)
    until = now() + _PATIENCE
    while settled(describe, _NOT_YET_FOUND).part("KeyMetadata").need("KeyState", str) == "Creating":
        if now() > until:
            raise errors.RequestRefusedError(f"the replica in {world.far} is still being created after 6 minutes")
        time.sleep(_FIRST_PAUSE)


def _key_policy(world: World, *, with_reader: bool) -> str:
    statements: list[dict[str, object]] = [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{partition_of(world.near)}:iam::{world.run.account}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]
    if with_reader:
        pairs = {f"kms:EncryptionContext:{name}": value for name, value in CONTEXT.items()}
        statements.append(
            {
                "Effect": "Allow",
                "Principal": {"AWS": world.role_arn("reader")},
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": {"StringEquals": pairs},
            }
        )
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


# --- taking away


def take_away(world: World) -> list[str]:
    """Take away all that a run may have made, in an order that leaves nothing in use.

    Returns:
        What is left, and why; empty if nothing is.
    """
    left: list[str] = []
    for what, remove in _removals(world):
        try:
            remove()
        except Exception as error:  # of any kind: the rest is taken away all the same
            left.append(f"{what}: {told(error, 'taking it away')}")
    return left


def _removals(world: World) -> Iterator[tuple[str, Callable[[], None]]]:
    run = world.run
    for what in reversed(run.begun):
        kind, _, name = what.partition(" ")
        if kind == "bucket":
            yield f"the bucket {run.names.bucket}", partial(_remove_bucket, world)
        elif kind == "role":
            role = run.names.role(name)
            yield f"the role {role}", partial(_remove_role, world, role)
        elif kind == "alias":
            alias = run.names.alias(name)
            yield from ((f"the alias {alias}", partial(_remove_alias, world, alias, region)) for region in run.regions)
    if any(what.startswith("key ") for what in run.begun):
        unknown = [what for what in run.begun if what.startswith("key ") and what[4:] not in run.keys]
        if unknown:
            yield "a KMS key that was being made", partial(_find_keys, world, len(unknown))
        # A primary key waits for its replicas.
        yield from (
            (f"the KMS key {arn}", partial(_end_key, world, arn))
            for arn in sorted(run.keys.values(), key=lambda arn: arn.split(":")[3] == world.near)
        )


def _gone(remove: Callable[[], object]) -> None:
    try:
        remove()
    except ClientError as error:
        if code_of(error) not in _GONE:
            raise


def _remove_role(world: World, role: str) -> None:
    delete = partial(world.client("iam").delete_role, RoleName=role)
    _gone(lambda: settled(delete, frozenset({"NoSuchEntity"}), _GONE_PATIENCE))


def _remove_alias(world: World, alias: str, region: str) -> None:
    delete = partial(world.client("kms", region).delete_alias, AliasName=alias)
    _gone(lambda: settled(delete, _NOT_YET, _KEY_PATIENCE))


def _remove_bucket(world: World) -> None:
    s3 = world.client("s3")
    # An upload that was interrupted may still arrive.
    _gone(lambda: settled(partial(_empty_and_delete, s3, world.bucket), frozenset({"BucketNotEmpty"}), patience=20))


def _empty_and_delete(s3: Any, bucket: str) -> None:
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", ()):
            which = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            _gone(partial(s3.abort_multipart_upload, **which))
    # Some accounts turn on versioning for each new bucket.
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    s3.delete_bucket(Bucket=bucket)


def _end_key(world: World, arn: str) -> None:
    """Schedule the deletion of a key, unless it is scheduled; a replica that is being made is waited for.

    Raises:
        RequestRefusedError: it does not have the run's tag, whatever the state says.
    """
    kms = world.client("kms", arn.split(":")[3])

    def schedule() -> None:
        if _run_of(kms, arn) != world.run.run:
            raise errors.RequestRefusedError("the key does not have the tag of this rehearsal, so it was left as it is")
        try:
            kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=WAITING_DAYS)
        except ClientError as error:
            if code_of(error) == "KMSInvalidStateException":
                state = kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"]
                if state in _ENDING:
                    return
            raise

    _gone(lambda: settled(schedule, _NOT_YET_USABLE, _KEY_PATIENCE))


def _run_of(kms: Any, key: str) -> str | None:
    """Return which run has made a key, by its tag; None if none has."""
    tags = {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=key)["Tags"]}
    run = tags.get(TAG)
    return run if run and RUN_ID.fullmatch(run) else None


def _find_keys(world: World, expected: int) -> None:
    """Add the keys of a run whose ARNs were never noted, by their tag. KMS may list a new key after a moment."""
    found = 0
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_LOOKS)
        for region in world.run.regions:
            for arn, run in tagged_keys(world, region):
                if run == world.run.run and arn not in world.run.keys.values():
                    world.run.keys[f"found {len(world.run.keys)}"] = arn
                    found += 1
        if found >= expected:
            return


def tagged_keys(world: World, region: str) -> Iterator[tuple[str, str]]:
    """Yield the ARN of each key that a rehearsal has made and not taken away, and the run's id; count unseen ones."""
    kms = world.client("kms", region)
    for page in kms.get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            try:
                run = _run_of(kms, key["KeyId"])
            except ClientError as error:
                if code_of(error) not in _GONE | {"AccessDeniedException"}:
                    raise
                world.unseen += code_of(error) not in _GONE
                continue
            if run is not None:
                state = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"]
                if state not in _ENDING:
                    yield key["KeyArn"], run


def leftovers(world: World) -> list[Run]:
    """Return the runs that have left something in the account, found by tags and names."""
    runs: dict[str, Run] = {}

    def of(run: str) -> Run:
        return runs.setdefault(run, Run(run, world.run.account, world.run.regions))

    for region in world.run.regions:
        for arn, run in tagged_keys(world, region):
            keys = of(run).keys
            name = f"found {len(keys)}"
            keys[name] = arn
            of(run).begun.append(f"key {name}")
    for page in world.client("iam").get_paginator("list_roles").paginate():
        for role in page["Roles"]:
            if (match := _OF_RUN.fullmatch(role["RoleName"])) and match[2] in ROLES:
                of(match[1]).begun.append(f"role {match[2]}")
    for bucket in world.client("s3").list_buckets()["Buckets"]:
        if (match := _OF_RUN.fullmatch(bucket["Name"])) and not match[2]:
            of(match[1]).begun.append("bucket")
    for region in world.run.regions:
        for page in world.client("kms", region).get_paginator("list_aliases").paginate():
            for alias in page["Aliases"]:
                match = _OF_RUN.fullmatch(alias["AliasName"].removeprefix("alias/"))
                if match and match[2] in _ALIASES:
                    of(match[1]).begun.append(f"alias {match[2]}")
    return list(runs.values())


class AwsReach:
    """AWS, by the caller's own sessions.

    Args:
        opened: returns the caller's session in a Region.
        prepare: called with each session of a role before it is used.
    """

    def __init__(self, opened: Callable[[str], Session], prepare: Callable[[Any], object]) -> None:
        self._opened = opened
        self._prepare = prepare

    def caller(self, region: str) -> Session:
        return self._opened(region)

    def role(self, arn: str, region: str) -> Session:
        return sts.assume_role(arn, self._opened(region), region, prepare=self._prepare)
