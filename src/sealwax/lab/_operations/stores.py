"""Custom key stores, in description and state only: behind them is the lab's own software, not an HSM or a proxy."""

from __future__ import annotations

import json
import secrets
import string
from dataclasses import replace
from typing import Any

from sealwax.lab._apierror import ApiError, refused, unsupported
from sealwax.lab._call import Call, operation
from sealwax.lab._paging import page
from sealwax.lab._records import CONNECTED, DISCONNECTED, KeyStore

_HSM, _EXTERNAL = "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"
_HSM_NEEDS = ("CloudHsmClusterId", "TrustAnchorCertificate", "KeyStorePassword")
_EXTERNAL_NEEDS = ("XksProxyUriEndpoint", "XksProxyUriPath", "XksProxyAuthenticationCredential", "XksProxyConnectivity")
_SHOWN = (*_HSM_NEEDS[:2], "XksProxyUriEndpoint", "XksProxyUriPath", "XksProxyConnectivity")


@operation("CreateCustomKeyStore", writes=True)
def create(call: Call) -> dict[str, Any]:
    call.authorize("CreateCustomKeyStore")
    kind: str = call.get("CustomKeyStoreType", _HSM)
    for needed in _HSM_NEEDS if kind == _HSM else _EXTERNAL_NEEDS:
        if needed not in call.members:
            raise refused(f"{needed} is required for a custom key store of type {kind}.")
    name: str = call.members["CustomKeyStoreName"]
    if any(store.name == name for store in call.records.key_stores(call.account, call.region)):
        raise ApiError("CustomKeyStoreNameInUseException", f"A custom key store named {name} exists already")
    settings = {member: call.members[member] for member in _SHOWN if member in call.members}
    if (credential := call.get("XksProxyAuthenticationCredential")) is not None:
        settings["AccessKeyId"] = credential["AccessKeyId"]
    identifier = "cks-" + "".join(secrets.choice(string.digits + "abcdef") for _ in range(17))
    call.records.put_key_store(
        KeyStore(identifier, call.account, call.region, name, kind, DISCONNECTED, call.now, json.dumps(settings))
    )
    return {"CustomKeyStoreId": identifier}


@operation("DescribeCustomKeyStores")
def describe(call: Call) -> dict[str, Any]:
    call.authorize("DescribeCustomKeyStores")
    stores = call.records.key_stores(call.account, call.region)
    wanted_id, wanted_name = call.get("CustomKeyStoreId"), call.get("CustomKeyStoreName")
    if wanted_id is not None or wanted_name is not None:
        stores = [store for store in stores if wanted_id == store.store_id or wanted_name == store.name]
        if not stores:
            raise ApiError("CustomKeyStoreNotFoundException", "There is no such custom key store")
    taken, answer = page(stores, lambda store: store.store_id, call.members)
    answer["CustomKeyStores"] = [_entry(store) for store in taken]
    return answer


@operation("ConnectCustomKeyStore", writes=True)
def connect(call: Call) -> dict[str, Any]:
    store = _store(call, "ConnectCustomKeyStore")
    if store.state != DISCONNECTED:
        raise _wrong_state(store)
    call.records.put_key_store(replace(store, state=CONNECTED))
    return {}


@operation("DisconnectCustomKeyStore", writes=True)
def disconnect(call: Call) -> dict[str, Any]:
    store = _store(call, "DisconnectCustomKeyStore")
    call.records.put_key_store(replace(store, state=DISCONNECTED))
    return {}


@operation("DeleteCustomKeyStore", writes=True)
def delete(call: Call) -> dict[str, Any]:
    store = _store(call, "DeleteCustomKeyStore")
    if any(key.key_store == store.store_id for key in call.records.every_key()):
        raise ApiError("CustomKeyStoreHasCMKsException", f"The custom key store {store.store_id} holds KMS keys")
    if store.state != DISCONNECTED:
        raise _wrong_state(store)
    call.records.delete_key_store(store)
    return {}


def store_for_key(call: Call, origin: str, *, multi_region: bool) -> str | None:
    """The custom key store that a new key goes to, or None for the standard one.

    Raises:
        ApiError: origin and store do not fit, or the store cannot take a key now.
    """
    identifier: str | None = call.get("CustomKeyStoreId")
    wanted = {"AWS_CLOUDHSM": _HSM, "EXTERNAL_KEY_STORE": _EXTERNAL}.get(origin)
    if identifier is None:
        if wanted is not None:
            raise refused(f"CustomKeyStoreId is required when the origin is {origin}.")
        return None
    if multi_region:
        raise unsupported("Multi-Region keys cannot be created in a custom key store")
    store = _find(call, identifier)
    if store.kind != wanted:
        raise refused(f"A custom key store of type {store.kind} takes no keys of origin {origin}.")
    if (origin == _EXTERNAL) != ("XksKeyId" in call.members):
        raise refused("XksKeyId is required for keys of an external key store, and for no others.")
    if store.state != CONNECTED:
        raise _wrong_state(store)
    return identifier


def _store(call: Call, action: str) -> KeyStore:
    call.authorize(action)
    return _find(call, call.members["CustomKeyStoreId"])


def _find(call: Call, identifier: str) -> KeyStore:
    for store in call.records.key_stores(call.account, call.region):
        if store.store_id == identifier:
            return store
    raise ApiError("CustomKeyStoreNotFoundException", f"Custom key store {identifier} does not exist")


def _wrong_state(store: KeyStore) -> ApiError:
    return ApiError("CustomKeyStoreInvalidStateException", f"The custom key store {store.store_id} is {store.state}")


def _entry(store: KeyStore) -> dict[str, Any]:
    settings: dict[str, str] = json.loads(store.settings)
    entry: dict[str, Any] = {
        "CustomKeyStoreId": store.store_id,
        "CustomKeyStoreName": store.name,
        "CustomKeyStoreType": store.kind,
        "ConnectionState": store.state,
        "CreationDate": store.created,
    }
    if store.kind == _HSM:
        return entry | {member: settings[member] for member in _HSM_NEEDS[:2]}
    entry["XksProxyConfiguration"] = {
        "Connectivity": settings["XksProxyConnectivity"],
        "AccessKeyId": settings["AccessKeyId"],
        "UriEndpoint": settings["XksProxyUriEndpoint"],
        "UriPath": settings["XksProxyUriPath"],
    }
    return entry
