"""One name for the replicas of a multi-Region key: what one Region sealed opens in the other, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

import sealwax
from sealwax import fleet
from sealwax._core.envelope import header_of_value
from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from sealwax.events import Event, KmsCall
from sealwax.fleet._settings import Contexts
from sealwax.lab import Lab

HERE, THERE = "eu-west-1", "us-east-1"
ACCOUNT = "111122223333"
CONTEXT = {"purpose": "test"}
ALIAS = "alias/app"


def in_region(name: str, region: str) -> str:
    """Return the ARN of an alias, or of a replica."""
    if name.startswith("arn:"):
        return name.replace(THERE, region).replace(HERE, region)
    return f"arn:aws:kms:{region}:{ACCOUNT}:{name}"


class World:
    """A lab with a multi-Region key in two Regions, under one alias in both, and the calls made to it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.calls: list[tuple[str, str, str]] = []
        self.there = self.multi_region_key("app")
        self.here = in_region(self.there, HERE)

    def multi_region_key(self, alias: str) -> str:
        """Return the ARN in the far Region of a key that has an alias in both."""
        arn: str = self.lab.call("CreateKey", region=THERE, MultiRegion=True)["KeyMetadata"]["Arn"]
        self.lab.call("ReplicateKey", region=THERE, KeyId=arn, ReplicaRegion=HERE)
        for region in (HERE, THERE):
            self.lab.call("CreateAlias", region=region, AliasName=f"alias/{alias}", TargetKeyId=in_region(arn, region))
        return arn

    def session(self, region: str) -> boto3.Session:
        session = self.lab.session(region)
        session.events.register("provide-client-params.kms", self._count)
        return session

    def _count(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: object) -> None:
        key = params.get("SourceKeyId") or params["KeyId"]  # none is made without
        self.calls.append((model.name, context["client_region"], key))

    def sealer(self, key: str | list[str], region: str = HERE, **options: Any) -> sealwax.Sealer:
        return sealwax.Sealer(sealwax.KmsKeyring(key, session=self.session(region), **options))

    def sealed_there(self) -> bytes:
        sealed = self.sealer(ALIAS, THERE).encrypt(b"secret", context=CONTEXT)
        self.calls.clear()
        return sealed


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Lab(tmp_path / "lab") as lab:
        yield World(lab)


def with_keys(sealed: bytes, *keys: WrappedKey) -> bytes:
    old = header_of_value(sealed).preamble
    header = hdr.lay_out(
        envelope_id=old.envelope_id,
        kms_context=old.kms_context,
        local_pairs=old.local_pairs,
        wrapped_keys=keys,
        slot_count=1,
    )
    return header.to_bytes() + sealed[old.payload_offset :]


def wrapped(sealed: bytes) -> WrappedKey:
    (key,) = header_of_value(sealed).slot.wrapped_keys
    return key


# Each way to allow the replica here, and the KeyId that it sends; None: the replica's own ARN.
ENTRIES: list[tuple[str | sealwax.KeyScope, str | None]] = [
    (ALIAS, ALIAS),
    (in_region(ALIAS, HERE), in_region(ALIAS, HERE)),
    (sealwax.KeyScope(ACCOUNT, HERE), None),
]
entries = pytest.mark.parametrize(("entry", "key_id"), ENTRIES, ids=["alias", "alias ARN", "scope"])


@entries
def test_what_was_sealed_in_another_region_opens_here(
    world: World, entry: str | sealwax.KeyScope, key_id: str | None
) -> None:
    sealed = world.sealed_there()
    sealer = world.sealer(ALIAS, decrypt_with=[entry])
    assert sealer.decrypt(sealed, context=CONTEXT) == b"secret"
    rewrapped = sealer.rewrap(sealed, to=ALIAS, context=CONTEXT)
    # In this Region alone, and never without a KeyId.
    assert world.calls == [(operation, HERE, key_id or world.here) for operation in ("Decrypt", "ReEncrypt")]
    assert wrapped(rewrapped).key_arn == world.here
    assert world.sealer(world.here).decrypt(rewrapped, context=CONTEXT) == b"secret"


@entries
def test_one_of_another_account_or_partition_is_not_asked_for(
    world: World, entry: str | sealwax.KeyScope, key_id: str | None
) -> None:
    sealed = world.sealed_there()
    sealer = world.sealer(ALIAS, decrypt_with=[entry])
    for old, new in ((ACCOUNT, "999999999999"), ("arn:aws:", "arn:aws-cn:")):
        forged = with_keys(sealed, replace(wrapped(sealed), key_arn=world.there.replace(old, new)))
        if entry == ALIAS:  # which names neither: what KMS answers decides
            with pytest.raises(sealwax.WrongKeyError, match="answered"):
                sealer.decrypt(forged, context=CONTEXT)
            with pytest.raises(sealwax.WrongKeyError, match="answered"):
                sealer.rewrap(forged, to=ALIAS, context=CONTEXT)
        else:
            with pytest.raises(sealwax.KeyNotAllowedError):
                sealer.decrypt(forged, context=CONTEXT)
    assert len(world.calls) == (4 if entry == ALIAS else 0), key_id


@entries
def test_a_key_of_one_region_is_not_asked_for_in_another(
    world: World, entry: str | sealwax.KeyScope, key_id: str | None
) -> None:
    single = world.lab.create_key(region=THERE)["Arn"]
    sealed = world.sealer(single, THERE).encrypt(b"secret", context=CONTEXT)
    world.calls.clear()
    sealer = world.sealer(ALIAS, decrypt_with=[entry])
    for act in (sealer.decrypt, lambda *args, **kw: sealer.rewrap(*args, to=ALIAS, **kw)):
        with pytest.raises(sealwax.KeyNotAllowedError, match=HERE) as caught:
            act(sealed, context=CONTEXT)
        assert single in str(caught.value)
    assert world.calls == [], key_id
    # What the error advises helps.
    assert world.sealer(ALIAS, decrypt_with=[entry, single]).decrypt(sealed, context=CONTEXT) == b"secret"


def test_an_alias_that_points_to_another_key_here(world: World) -> None:
    other = in_region(world.multi_region_key("other"), HERE)
    world.lab.call("UpdateAlias", region=HERE, AliasName=ALIAS, TargetKeyId=other)
    sealed = world.sealed_there()
    for act in ("decrypt", "rewrap"):
        sealer = world.sealer(ALIAS)
        with pytest.raises(sealwax.WrongKeyError, match="does not point to") as caught:  # noqa: PT012
            if act == "decrypt":
                sealer.decrypt(sealed, context=CONTEXT)
            else:
                sealer.rewrap(sealed, to=ALIAS, context=CONTEXT)
        assert world.here in str(caught.value)
        assert world.there in str(caught.value)
    assert [call[:2] for call in world.calls] == [("Decrypt", HERE), ("ReEncrypt", HERE)]
    # What the error names helps, here and there.
    for arn in (world.here, world.there):
        assert world.sealer(ALIAS, decrypt_with=[ALIAS, arn]).decrypt(sealed, context=CONTEXT) == b"secret"
    # And a claim of the other key, over what this one wrapped, opens nothing.
    forged = with_keys(sealed, replace(wrapped(sealed), key_arn=in_region(other, THERE)))
    with pytest.raises(sealwax.WrongKeyError):
        world.sealer(ALIAS).decrypt(forged, context=CONTEXT)


def test_an_answer_for_another_key_is_refused(world: World) -> None:
    sealed = world.sealed_there()
    lies = {
        "the key there": world.there,
        "another key": in_region(world.multi_region_key("other"), HERE),
        "another account": world.here.replace(ACCOUNT, "999999999999"),
        "another partition": world.here.replace("arn:aws:", "arn:aws-cn:"),
    }
    assert len(lies) == 4
    for lie in lies.values():
        for operation, field in (("Decrypt", "KeyId"), ("ReEncrypt", "SourceKeyId")):
            session = world.session(HERE)

            def tell(parsed: dict[str, Any], lie: str = lie, field: str = field, **_: object) -> None:
                parsed[field] = lie

            session.events.register(f"after-call.kms.{operation}", tell)
            sealer = sealwax.Sealer(sealwax.KmsKeyring(ALIAS, session=session))
            with pytest.raises(sealwax.WrongKeyError, match="answered"):  # noqa: PT012
                if operation == "Decrypt":
                    sealer.decrypt(sealed, context=CONTEXT)
                else:
                    sealer.rewrap(sealed, to=ALIAS, context=CONTEXT)


@entries
def test_where_there_is_no_replica_the_error_names_the_key_that_there_is(
    world: World, entry: str | sealwax.KeyScope, key_id: str | None
) -> None:
    arn: str = world.lab.call("CreateKey", region=THERE, MultiRegion=True)["KeyMetadata"]["Arn"]
    world.lab.call("DeleteAlias", region=HERE, AliasName=ALIAS)
    sealed = world.sealer(arn, THERE).encrypt(b"secret", context=CONTEXT)
    with pytest.raises(sealwax.KeyNotFoundError) as caught:
        world.sealer(ALIAS, decrypt_with=[entry]).decrypt(sealed, context=CONTEXT)
    assert arn in str(caught.value), key_id
    assert "allow it by its ARN" in str(caught.value)
    assert world.sealer(ALIAS, decrypt_with=[entry, arn]).decrypt(sealed, context=CONTEXT) == b"secret"


def test_a_hostile_header_costs_no_more_calls_than_before(world: World) -> None:
    sealed = world.sealed_there()
    key = wrapped(sealed)
    decoys = [WrappedKey(f"{world.there[:-2]}{at:02x}", b"rubbish") for at in range(16)]
    decoys = [decoy for decoy in decoys if decoy.key_arn != world.there][:15]
    forged = with_keys(sealed, *decoys, key)
    for max_wrapped_keys_tried, most in ((None, 3), (1, 1), (5, 5)):
        for entry in (ALIAS, in_region(ALIAS, HERE), sealwax.KeyScope(ACCOUNT, HERE)):
            world.calls.clear()
            with pytest.raises(sealwax.KmsError):
                world.sealer(ALIAS, decrypt_with=[entry], max_wrapped_keys_tried=max_wrapped_keys_tried).decrypt(
                    forged, context=CONTEXT
                )
            assert [call[:2] for call in world.calls] == [("Decrypt", HERE)] * most
    # With room enough it opens.
    assert world.sealer(ALIAS, max_wrapped_keys_tried=16).decrypt(forged, context=CONTEXT) == b"secret"


def test_several_aliases_cost_one_call_in_each_region(world: World) -> None:
    world.multi_region_key("second")
    keys = [ALIAS, "alias/second"]
    sealed = world.sealer(keys, THERE).encrypt(b"secret", context=CONTEXT)
    first, second = header_of_value(sealed).slot.wrapped_keys
    for region in (HERE, THERE):
        world.calls.clear()
        sealer = world.sealer(keys, region)
        assert sealer.decrypt(sealed, context=CONTEXT) == b"secret"
        rewrapped = sealer.rewrap(sealed, to=keys, context=CONTEXT)
        assert len(world.calls) == 3
        assert [key.key_arn for key in header_of_value(rewrapped).slot.wrapped_keys] == [
            in_region(first.key_arn, region),
            in_region(second.key_arn, region),
        ]
    # One that was moved leaves the other.
    world.lab.call("UpdateAlias", region=HERE, AliasName=ALIAS, TargetKeyId=in_region(second.key_arn, HERE))
    assert world.sealer(keys).decrypt(sealed, context=CONTEXT) == b"secret"


def test_a_key_at_home_goes_before_its_relatives(world: World) -> None:
    """What opened with one call goes on with one, whatever else the envelope is wrapped under."""
    single = world.lab.create_key(alias="single", region=HERE)["Arn"]
    sealed = world.sealer([world.there, single], THERE).encrypt(b"secret", context=CONTEXT)
    world.calls.clear()
    for names in (["alias/single"], [ALIAS, "alias/single"], [sealwax.KeyScope(ACCOUNT, HERE), "alias/single"]):
        world.sealer(ALIAS, decrypt_with=names, max_wrapped_keys_tried=2).decrypt(sealed, context=CONTEXT)
    assert [call[1] for call in world.calls] == [HERE] * len(world.calls)
    assert world.calls[0] == ("Decrypt", HERE, "alias/single")
    assert world.calls[-1] == ("Decrypt", HERE, single)


def test_one_key_named_twice_costs_one_call(world: World) -> None:
    sealed = world.sealed_there()
    scope = sealwax.KeyScope(ACCOUNT, HERE)
    allowed: list[list[str | sealwax.KeyScope]] = [
        [world.here, world.here.rpartition("/")[2]],
        [world.here, world.here],
        [scope, world.here],
        [scope, scope],
    ]
    world.lab.call("DisableKey", region=HERE, KeyId=world.here)
    for names in allowed:
        with pytest.raises(sealwax.KeyStateError):
            world.sealer(ALIAS, decrypt_with=names).decrypt(sealed, context=CONTEXT)
    assert world.calls == [("Decrypt", HERE, world.here)] * 4


def test_a_key_that_is_named_in_two_regions_is_asked_in_both(world: World) -> None:
    sealed = world.sealed_there()
    both: list[list[str | sealwax.KeyScope]] = [
        [world.here, world.there],
        [in_region(ALIAS, HERE), in_region(ALIAS, THERE)],
        [sealwax.KeyScope(ACCOUNT, HERE), sealwax.KeyScope(ACCOUNT, THERE)],
        [ALIAS, world.there],
        [in_region(ALIAS, THERE), world.here],
    ]
    new = [world.lab.create_key(region=region)["Arn"] for region in (HERE, THERE)]
    for names in both:
        # Each of the two can re-wrap where the other cannot.
        rewrapped = world.sealer(ALIAS, decrypt_with=names).rewrap(sealed, to=new, context=CONTEXT)
        assert [key.key_arn for key in header_of_value(rewrapped).slot.wrapped_keys] == new
    for region in (HERE, THERE):
        arn = in_region(world.there, region)
        world.lab.call("DisableKey", region=region, KeyId=arn)
        for names in both:
            assert world.sealer(ALIAS, decrypt_with=names).decrypt(sealed, context=CONTEXT) == b"secret"
        world.lab.call("EnableKey", region=region, KeyId=arn)


def test_rewrap_into_a_region_of_no_allowed_key(world: World) -> None:
    sealed = world.sealed_there()
    with pytest.raises(sealwax.ConfigurationError, match="within one Region only") as caught:
        world.sealer(ALIAS).rewrap(sealed, to=in_region(ALIAS, THERE), context=CONTEXT)
    # It is wrapped there, so that must not be said to be missing; what is allowed is.
    assert "wrapped in" not in str(caught.value)
    assert f"in {HERE}" in str(caught.value)
    assert world.calls == []
    allowed = [ALIAS, in_region(ALIAS, THERE)]
    rewrapped = world.sealer(ALIAS, decrypt_with=allowed).rewrap(sealed, to=in_region(ALIAS, THERE), context=CONTEXT)
    assert wrapped(rewrapped).key_arn == world.there


def test_a_cache_holds_what_it_opened_here(world: World) -> None:
    sealed = world.sealed_there()
    with sealwax.CachingKeyring(sealwax.KmsKeyring(ALIAS, session=world.session(HERE)), max_age=60) as cache:
        sealer = sealwax.Sealer(cache)
        for _ in range(3):
            assert sealer.decrypt(sealed, context=CONTEXT) == b"secret"
        assert world.calls == [("Decrypt", HERE, ALIAS)]
        # The same bytes under another claim are another thing, which KMS is asked about.
        forged = with_keys(sealed, replace(wrapped(sealed), key_arn=world.there[:-4] + "0000"))
        with pytest.raises(sealwax.WrongKeyError):
            sealer.decrypt(forged, context=CONTEXT)
        assert len(world.calls) == 2


@pytest.mark.parametrize("away", [HERE, THERE])
def test_independent_names_of_related_keys_survive_a_region(world: World, away: str) -> None:
    """Every envelope opens in every Region, and a Region that is away costs one attempt and is given up."""
    seen: list[KmsCall] = []

    def watch(event: Event) -> None:
        if isinstance(event, KmsCall):
            seen.append(event)

    names = [in_region(ALIAS, HERE), in_region(ALIAS, THERE)]
    keyring = sealwax.MultiRegionKeyring(
        names, min_wrapped=1, session=world.lab.session(), retry_region_after=60, on_event=watch
    )
    sealer = sealwax.Sealer(keyring)
    both = sealer.encrypt(b"secret", context=CONTEXT)
    one = with_keys(both, next(key for key in header_of_value(both).slot.wrapped_keys if f":{away}:" in key.key_arn))
    added = header_of_value(sealer.rewrap(one, to=names, context=CONTEXT)).slot.wrapped_keys
    assert [key.key_arn for key in added] == [world.here, world.there]
    world.lab.faults.add(away, "down", 1.0, operation=None, code=None, seed=1)
    seen.clear()
    for _ in range(5):
        # `one` has a wrapped key of the lost Region alone.
        assert sealer.decrypt(both, context=CONTEXT) == sealer.decrypt(one, context=CONTEXT) == b"secret"
    assert sum(call.region == away for call in seen) == (3 if away == HERE else 0)
    assert [state.healthy for state in keyring.health()] == [away != HERE, True]


def test_failures_inside_a_region_give_it_up_however_many_wrapped_keys_are_tried(world: World) -> None:
    names = [in_region(ALIAS, HERE), in_region(ALIAS, THERE)]
    keyring = sealwax.MultiRegionKeyring(names, session=world.lab.session(), retry_region_after=60)
    sealer = sealwax.Sealer(keyring)
    both = sealer.encrypt(b"secret", context=CONTEXT)
    world.lab.faults.add(HERE, "error", 1.0, operation=None, code="KMSInternalException", seed=1)
    for _ in range(4):
        assert sealer.decrypt(both, context=CONTEXT) == b"secret"
    assert [state.healthy for state in keyring.health()] == [False, True]


def test_a_region_that_is_away_is_asked_once_for_an_envelope(world: World) -> None:
    both = world.sealer([world.here, world.there]).encrypt(b"secret", context=CONTEXT)
    world.lab.faults.add(HERE, "down", 1.0, operation=None, code=None, seed=1)
    world.calls.clear()
    once = sealwax.RetryPolicy(attempts=1)
    acts: list[Callable[[sealwax.Sealer], object]] = [
        lambda sealer: sealer.decrypt(both, context=CONTEXT),
        lambda sealer: sealer.rewrap(both, to=world.here, context=CONTEXT),
    ]
    for act in acts:
        for names in ([world.here], [ALIAS], [sealwax.KeyScope(ACCOUNT, HERE)]):
            with pytest.raises(sealwax.UnavailableError):
                act(world.sealer(ALIAS, decrypt_with=names, retries=once))
    assert len(world.calls) == 6
    # One whose name comes later is not cut off by those that are passed over.
    names = [ALIAS, world.there]
    assert world.sealer(ALIAS, decrypt_with=names, retries=once, max_wrapped_keys_tried=2).decrypt(
        both, context=CONTEXT
    )


def test_who_is_not_signed_in_is_told_so_and_no_other_wrapped_key_is_tried(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    both = world.sealer([world.here, world.there]).encrypt(b"secret", context=CONTEXT)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    calls: list[Event] = []
    for name in (ALIAS, world.here):
        sealer = sealwax.Sealer(
            sealwax.KmsKeyring(name, session=boto3.Session(region_name=HERE), on_event=calls.append)
        )
        with pytest.raises(sealwax.CredentialsError):
            sealer.decrypt(both, context=CONTEXT)
        with pytest.raises(sealwax.CredentialsError):
            sealer.rewrap(both, to=name, context=CONTEXT)
    assert not calls  # KMS was not asked at all


def test_a_fleet_by_alias_takes_what_either_region_sealed(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for place in (HERE, THERE):
        (folder / f"{place}.swx").write_bytes(world.sealer(ALIAS, place).encrypt(b"secret", context=CONTEXT))
    world.multi_region_key("new")
    session = world.session(HERE)
    path = tmp_path / "rotation.plan"
    contexts = Contexts(tuple(CONTEXT.items()))
    fleet.plan(path, [str(folder)], sources=[ALIAS], to=["alias/new"], contexts=contexts, session=session)
    world.calls.clear()
    report = fleet.run(path, session=session)
    assert report.rewrapped == 2
    assert {call[:2] for call in world.calls} == {("ReEncrypt", HERE)}
    for place in (HERE, THERE):
        for each in folder.iterdir():
            assert world.sealer("alias/new", place).decrypt(each.read_bytes(), context=CONTEXT) == b"secret"


def test_a_fleet_whose_sources_are_in_two_regions_re_wraps_in_either(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.swx").write_bytes(world.sealed_there())
    new = [world.lab.create_key(region=region)["Arn"] for region in (HERE, THERE)]
    session = world.session(HERE)
    path = tmp_path / "rotation.plan"
    fleet.plan(
        path,
        [str(folder)],
        sources=[in_region(ALIAS, HERE), in_region(ALIAS, THERE)],
        to=new,
        contexts=Contexts(tuple(CONTEXT.items())),
        session=session,
    )
    assert fleet.run(path, session=session).rewrapped == 1
    found = header_of_value((folder / "a.swx").read_bytes()).slot.wrapped_keys
    assert [key.key_arn for key in found] == new
