"""How versions of models belong together."""

from __future__ import annotations

from collections.abc import Sequence

from . import Bundle


def parent_of(bundle: Bundle | None, models: Sequence[Bundle]) -> Bundle | None:
    """What `bundle` was made from, if it is among `models`."""
    wanted = bundle.parent["hash"] if bundle is not None and bundle.parent else None
    return next((one for one in models if one.content_hash == wanted), None)


def family_of(bundle: Bundle, models: Sequence[Bundle]) -> list[Bundle]:
    """Those of `models` that descend from one model with `bundle`, or have a name in common; the newest first."""
    names = {bundle.name}
    while True:
        family = [one for one in models if names & {one.name, one.parent["name"] if one.parent else one.name}]
        known = {one.name for one in models}
        more = {name for one in family for name in (one.name, one.parent["name"] if one.parent else one.name)} & known
        if more <= names:
            return [one for one in reversed(family) if one.name in names]
        names |= more
