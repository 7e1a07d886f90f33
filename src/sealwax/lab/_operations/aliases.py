"""Aliases: names for keys, each in one account and Region."""

from __future__ import annotations

from dataclasses import replace

from sealwax.lab._apierror import ApiError, not_found, refused
from sealwax.lab._call import Call, operation
from sealwax.lab._model import AliasRecord, Answer, KeyRecord
from sealwax.lab._names import ALIAS, check_alias_name
from sealwax.lab._paging import page

_MAX_ALIASES_OF_A_KEY = 50


@operation("CreateAlias", writes=True)
def create_alias(call: Call) -> Answer:
    name: str = call.members["AliasName"]
    check_alias_name(name)
    key = _target(call, "CreateAlias")
    alias = AliasRecord(call.account, call.region, name, key.key_id, call.now, call.now)
    call.authorize("CreateAlias", alias.arn)
    call.authorize("CreateAlias", key)
    existing = call.records.alias(call.account, call.region, name)
    if existing is not None:
        raise ApiError("AlreadyExistsException", f"An alias with the name {alias.arn} already exists")
    _check_count(call, key)
    call.records.put_alias(alias)
    return {}


@operation("UpdateAlias", writes=True)
def update_alias(call: Call) -> Answer:
    name: str = call.members["AliasName"]
    check_alias_name(name)
    alias = _existing(call, name)
    key = _target(call, "UpdateAlias")
    current = call.records.key(alias.account, alias.region, alias.key_id)
    call.authorize("UpdateAlias", alias.arn)
    if current is not None:
        call.authorize("UpdateAlias", current)
    call.authorize("UpdateAlias", key)
    if alias.key_id != key.key_id:
        _check_count(call, key)
    call.records.put_alias(replace(alias, key_id=key.key_id, updated=call.now))
    return {}


@operation("DeleteAlias", writes=True)
def delete_alias(call: Call) -> Answer:
    name: str = call.members["AliasName"]
    check_alias_name(name)
    alias = _existing(call, name)
    key = call.records.key(alias.account, alias.region, alias.key_id)
    call.authorize("DeleteAlias", alias.arn)
    if key is not None:
        call.authorize("DeleteAlias", key)
    call.records.delete_alias(alias)
    return {}


@operation("ListAliases")
def list_aliases(call: Call) -> Answer:
    call.authorize("ListAliases")
    key_id = None
    if "KeyId" in call.members:
        key = call.find(call.members["KeyId"], "ListAliases")
        if key.account != call.account:
            raise call.denied_unknown("ListAliases", "on this resource")
        key_id = key.key_id
    aliases, answer = page(
        call.records.aliases(call.account, call.region, key_id), lambda alias: alias.name, call.members, default=50
    )
    answer["Aliases"] = [
        {
            "AliasName": alias.name,
            "AliasArn": alias.arn,
            "TargetKeyId": alias.key_id,
            "CreationDate": alias.created,
            "LastUpdatedDate": alias.updated,
        }
        for alias in aliases
    ]
    return answer


def _target(call: Call, action: str) -> KeyRecord:
    target: str = call.members["TargetKeyId"]
    if target.startswith(ALIAS):
        raise refused("Aliases must refer to keys. Not aliases")
    key = call.find(target, action, arn_error="NotFoundException")
    if key.account != call.account:
        raise call.denied_unknown(action, "on this resource")
    call.need_alive(key)
    return key


def _existing(call: Call, name: str) -> AliasRecord:
    alias = call.records.alias(call.account, call.region, name)
    if alias is None:
        arn = AliasRecord(call.account, call.region, name, "", 0, 0).arn
        raise not_found(f"Alias {arn} is not found.")
    return alias


def _check_count(call: Call, key: KeyRecord) -> None:
    if len(call.records.aliases(key.account, key.region, key.key_id)) >= _MAX_ALIASES_OF_A_KEY:
        raise ApiError("LimitExceededException", f"The key {key.arn} has {_MAX_ALIASES_OF_A_KEY} aliases, the maximum.")
