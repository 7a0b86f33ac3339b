"""Where in the inventory's files a value was written.

From core 2.19 every value loaded from YAML carries its origin, through merging and templating. The tag
lives in an internal module of ansible-core, so its import is guarded: without it errors name the path only.
"""

from __future__ import annotations

import functools
import os

try:
    from ansible._internal._datatag._tags import Origin, VaultedValue
except ImportError:  # pragma: no cover - another ansible-core; paths alone must do then
    Origin = VaultedValue = None


def shown_path(path):
    """``path`` as a person would type it: relative to the working directory where it lies below it."""
    return _shown_path(str(path), os.getcwd())  # noqa: PTH109 - a Path for each of a million values is slow


@functools.lru_cache(maxsize=4096)
def _shown_path(path, folder):
    relative = os.path.relpath(path, folder)
    return path if relative.startswith(os.pardir) else relative


def origin_of(value):
    """'inventories/lab/edge/services/shop.yml:41:7', or None where the value does not say."""
    tag = Origin.get_tag(value) if Origin is not None else None
    if tag is None:
        return None
    if not tag.path:
        # "<CLI option '-e'>" says something; the name of an inventory plugin does not.
        return None if str(tag).startswith("<inventory plugin") else str(tag)
    text = shown_path(tag.path)
    if tag.line_num:
        text += f":{tag.line_num}"
        if tag.col_num:
            text += f":{tag.col_num}"
    return text


def file_of(value):
    """Absolute path of the file ``value`` was written in, or None."""
    tag = Origin.get_tag(value) if Origin is not None else None
    return tag.path if tag is not None else None


def is_vaulted(value):
    """True when ``value`` is the unchanged plain text of a vault value."""
    return VaultedValue is not None and VaultedValue.is_tagged_on(value)
