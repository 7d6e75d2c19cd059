"""A model's key facts for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ..bundle import Bundle, ModelStore
from ..images.labels import UNCODED, Label
from .terminal import figure, make_table, swatch

if TYPE_CHECKING:
    from rich.console import Console

#: Marks the version that a name alone means.
USED = "●"


def summary(bundle: Bundle, store: ModelStore, *, is_used: bool) -> dict[str, Any]:
    """What `models list --json` prints of one model; `is_used` if it is the version that its name alone means."""
    own = bundle.metadata["maesegment"]
    return {
        "name": bundle.name,
        "version": bundle.version,
        "kind": bundle.kind,
        "modality": own["modality"],
        "channels": own["channels"],
        "labels": [label.to_dict() for label in bundle.labels],
        "description": bundle.metadata["description"],
        "licence": own["licence"],
        "shipped": is_shipped(bundle, store),
        "used": is_used,
        "parent": bundle.parent,
        "hash": bundle.content_hash,
        "size_bytes": bundle.size_bytes,
        "path": str(bundle.path),
    }


def is_shipped(bundle: Bundle, store: ModelStore) -> bool:
    return bundle.path.is_relative_to(store.shipped_folder.resolve())


def list_table(bundles: Sequence[Bundle], store: ModelStore) -> Table:
    """Every version below the one it was made from."""
    table = make_table("model", "version", "used", "for", "structures", "MB", "from", right=("MB",))
    used = {bundle.path for bundle in store.meant().values()}
    for bundle, depth in family_tree(bundles):
        structures = Text(", ").join(map(swatch, bundle.labels))
        table.add_row(
            "  " * depth + bundle.name,
            bundle.version,
            USED if bundle.path in used else "",
            bundle.metadata["maesegment"]["modality"],
            structures if bundle.labels else Text("pretrained encoder, to fine-tune", style="italic"),
            f"{bundle.size_bytes / 2**20:.1f}",
            "MAESegment" if is_shipped(bundle, store) else _origin(bundle) or "you",
        )
    return table


def family_tree(bundles: Sequence[Bundle]) -> list[tuple[Bundle, int]]:
    """Each bundle with its depth: below its parent, if that is among them, else at the top. Siblings stay in order."""
    known = {bundle.content_hash for bundle in bundles}
    children: dict[str, list[Bundle]] = {}
    for bundle in bundles:
        parent = bundle.parent["hash"] if bundle.parent else ""
        children.setdefault(parent if parent in known else "", []).append(bundle)
    tree: list[tuple[Bundle, int]] = []
    waiting = [(bundle, 0) for bundle in reversed(children.get("", []))]
    while waiting:
        bundle, depth = waiting.pop()
        tree.append((bundle, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(bundle.content_hash, []))]
    return tree


def print_facts(console: Console, bundle: Bundle, store: ModelStore) -> None:
    """Everything a user needs to decide whether to use the model."""
    metadata, own = bundle.metadata, bundle.metadata["maesegment"]
    preprocessing = own["preprocessing"]
    spacing = " x ".join(f"{step:g}" for step in preprocessing["spacing"])
    children = store.children(bundle)
    facts = {
        "description": metadata["description"],
        "intended use": metadata["intended_use"],
        "input": f"{own['modality']}: {', '.join(own['channels'])}",
        "resolution": f"{spacing} mm ({preprocessing['orientation']})",
        "data": metadata["data_source"],
        "licence": own["licence"],
        "copyright": metadata["copyright"],
        "parent": _origin(bundle) or "none",
        "children": ", ".join(f"{child.name}@{child.version}" for child in children) or "none",
        "training": _training(own["training"]),
        "autoencoder": _autoencoder(bundle),
        "unlike scans": _unlike_scans(bundle),
        "size": f"{bundle.size_bytes / 2**20:.1f} MB",
        "hash": bundle.content_hash,
        "folder": str(bundle.path),
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    console.print(f"{bundle.name} {bundle.version}", style="bold")
    console.print(table)
    if bundle.labels:
        validation = own["metrics"].get("validation")
        validation = validation if isinstance(validation, Mapping) else {}
        console.print(_label_table(bundle.labels, validation))
        console.print(_how_measured(validation))
    console.print(f"Model card: maesegment models show {bundle.name}@{bundle.version} --card")


def _unlike_scans(bundle: Bundle) -> str:
    """Whether the model warns of them; "" for one that does not segment."""
    if bundle.kind != "segmentation":
        return ""
    stored = bundle.metadata["maesegment"].get("familiarity")
    if not stored:
        return "not recognised: made before models kept statistics of their training scans"
    return f"warns of them, by statistics of {stored.get('scans')} training scans"


def _label_table(labels: Sequence[Label], validation: Mapping[str, Any]) -> Table:
    """With the mean Dice before and after training, of the cases held out from it."""
    dice = {"Dice before": validation.get("dice_before") or {}, "Dice": validation.get("dice_after") or {}}
    dice = {heading: by_name for heading, by_name in dice.items() if any(x is not None for x in by_name.values())}
    table = make_table("value", "structure", "code", *dice, right=("value", *dice))
    for label in labels:
        figures = (figure(by_name.get(label.name)) for by_name in dice.values())
        table.add_row(str(label.value), swatch(label), _code(label), *figures)
    return table


def _how_measured(validation: Mapping[str, Any]) -> str:
    if not validation:
        return "No held-out cases: how well this model does is not known."
    text = f"Dice: mean of n = {validation.get('cases', '?')} cases kept out of training"
    text += f" ({validation['held_out']})." if validation.get("held_out") else "."
    return f"{text} Too few to be more than an indication." if validation.get("indicative_only") else text


def _code(label: Label) -> str:
    if label.terminology == UNCODED:
        return ""
    kind, modifier = label.terminology.type, label.terminology.modifier
    return f"{kind.scheme} {kind.value} {kind.meaning}" + (f", {modifier.meaning}" if modifier else "")


def _origin(bundle: Bundle) -> str:
    return f"{bundle.parent['name']}@{bundle.parent['version']}" if bundle.parent else ""


def _training(training: Mapping[str, Any]) -> str:
    cases, steps = training.get("cases"), training.get("steps")
    parts = [f"{len(cases)} cases"] if isinstance(cases, Sequence) and not isinstance(cases, str) else []
    parts += [f"{steps} steps"] if steps else []
    return ", ".join(parts)


def _autoencoder(bundle: Bundle) -> str:
    if bundle.kind == "autoencoder":
        return "this is one"
    return "included" if "models/autoencoder.pt" in bundle.metadata["maesegment"]["files"] else "not included"
