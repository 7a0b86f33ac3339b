"""A refusal on the wire: google.rpc.Status with the words for people and, beside them, what was refused."""

from __future__ import annotations

from typing import Any

from google.protobuf import struct_pb2

_INVALID_ARGUMENT = 3
_WORDS_MOST = 4096


def write_refusal(status: Any, words: str, type_url: str = "", names: tuple[str, ...] = ()) -> None:
    """Fill `status` (a google.rpc.Status)."""
    status.code = _INVALID_ARGUMENT
    status.message = words
    if type_url:
        blame = struct_pb2.Struct()
        blame.update({"type_url": type_url, "names": list(names)})
        status.details.add().Pack(blame)


def read_refusal(status: Any) -> tuple[str, tuple[str, ...], str]:
    """(type url, names, words); the first two empty when the peer did not say."""
    # PostgreSQL takes no NUL, and would refuse the revision's end and everything noted beside it.
    words = status.message[:_WORDS_MOST].replace("\0", "\ufffd") or "refused without words"
    for detail in status.details:
        blame = struct_pb2.Struct()
        if detail.Unpack(blame) and "type_url" in blame.fields:
            names = tuple(str(item.string_value) for item in blame.fields["names"].list_value.values)
            return str(blame.fields["type_url"].string_value), names, words
    return "", (), words
