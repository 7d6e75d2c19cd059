"""What a name that is not written out means. A model that is imported changes it for none that meant something."""

from __future__ import annotations

from collections.abc import Collection


def candidates(text: str, names: Collection[str], shipped: Collection[str]) -> list[str]:
    """Those of `names` that `text` may mean, sorted: itself, else those that it begins.

    The models that ship come first, so that what begins like one of them is reached by more of its name alone.

    >>> candidates("hip", {"hippocampus-mr", "hip-ct"}, shipped={"hippocampus-mr"})
    ['hippocampus-mr']
    """
    if text in names:
        return [text]
    begun = sorted(name for name in names if text and name.startswith(text))
    own = [name for name in begun if name in shipped]
    return own if len(own) == 1 else begun


def no_longer_enough(new: str, names: Collection[str], shipped: Collection[str]) -> dict[str, str]:
    """For each of `names` that a beginning of it stood for alone until `new` joins them: the longest such beginning."""
    found = {}
    for end in range(1, len(new)):
        before = candidates(new[:end], names, shipped)
        if len(before) == 1 and candidates(new[:end], {*names, new}, shipped) != before:
            found[before[0]] = new[:end]
    return found
