"""`maesegment models`: what models there are, what they can do, and moving them in and out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cases.records import role_name
from . import evaluate, official_models, options
from .terminal import confirm_deletion, figure, make_console, make_table, print_json, print_markdown, say, swatch

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..bundle import Bundle, ModelStore
    from ..images.labels import Label

#: Exit code when a model is damaged.
DAMAGED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = options.add_actions(parser)
    options.add_json(options.add_action(actions, "list", "list the installed models", _list))
    show = options.add_action(actions, "show", "show what a model segments, how well, and where it comes from", _show)
    show.add_argument("model", metavar="MODEL", help=options.MODEL)
    options.add_json(show, "print the metadata as JSON")
    show.add_argument("--card", action="store_true", help="print the whole model card")

    verify = options.add_action(
        actions, "verify", "check every file of a model against its hash, and that none holds code", _verify
    )
    verify.add_argument("models", nargs="*", metavar="MODEL", help="names, NAME@VERSION or folders (default: all)")

    import_ = options.add_action(actions, "import", "add a model from a zip or a folder", _import)
    import_.add_argument("source", type=Path, metavar="ZIP", help="made by `models export`, or a model's folder")
    import_.add_argument(
        "--allow-name", action="store_true", help="import it even if its name is the short form of another model's"
    )

    export = options.add_action(actions, "export", "write a model to one zip file", _export)
    export.add_argument("model", metavar="MODEL", help=options.MODEL)
    options.add_out(export, "ZIP", "file to write (default: NAME-VERSION.zip in the current folder)")

    use = options.add_action(actions, "use", "choose which version a model's name stands for", _use)
    use.add_argument("model", metavar="NAME@VERSION", help="e.g. the version before the last fine-tuning")

    remove = options.add_action(actions, "remove", "delete one of your own versions", _remove)
    remove.add_argument("model", metavar="NAME@VERSION", help="a version that no other was made from")
    options.add_yes(remove)

    prepare = options.add_action(
        actions, "prepare", "convert models for OpenVINO, which segments faster on a processor", _prepare
    )
    prepare.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"{options.MODEL} (default: every model that segments)"
    )

    compare = options.add_action(
        actions, "compare", "compare the Dice of two models on the same cases", evaluate.compare
    )
    evaluate.add_compare_arguments(compare)
    summary = "make a model from an official nnFormer checkpoint"
    official_models.add_arguments(options.add_action(actions, "import-official", summary, official_models.run))


run = options.run_action


def _list(arguments: argparse.Namespace) -> int:
    store = _store()
    bundles, problems = store.scan()
    if arguments.json:
        used = {bundle.path for bundle in store.meant().values()}
        print_json([summary(bundle, store, is_used=bundle.path in used) for bundle in bundles])
    elif bundles:
        make_console().print(list_table(bundles, store))
    else:
        say("No model is installed. Import one with `maesegment models import ZIP`.")
    stderr = make_console(stderr=True)
    for folder, error in problems:
        stderr.print(f"not usable: {folder}\n  {error.message}", soft_wrap=True)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    store = _store()
    bundle = store.find(arguments.model)
    if arguments.json:
        print_json(dict(bundle.metadata))
    elif arguments.card:
        print_markdown(bundle.card)
    else:
        print_facts(make_console(), bundle, store)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from ..bundle import check_inference_config, verify_bundle
    from ..errors import BundleError, ModelNotFound

    store = _store()
    checks: dict[str, Callable[[], Bundle]]
    damaged: dict[str, str] = {}
    unsafe: dict[str, str] = {}
    if arguments.models:
        checks = {text: partial(store.find, text) for text in arguments.models}
    else:
        bundles, problems = store.scan()
        checks = {f"{bundle.name} {bundle.version}": partial(verify_bundle, bundle) for bundle in bundles}
        damaged = {str(folder): error.message for folder, error in problems}
    for name, check in checks.items():
        try:
            bundle = check()
        except ModelNotFound:
            raise
        except BundleError as error:
            damaged[name] = error.message
            continue
        try:
            check_inference_config(bundle)
        except BundleError as error:
            unsafe[name] = f"{error.message}\n         {error.hint}"
            continue
        say(f"intact   {name}")
    for verdict, found in (("DAMAGED", damaged), ("UNSAFE ", unsafe)):
        for name, message in found.items():
            say(f"{verdict}  {name}\n         {message}")
    if not checks and not damaged:
        say("No model is installed.")
    return DAMAGED if damaged or unsafe else 0


def _import(arguments: argparse.Namespace) -> int:
    from ..bundle import import_bundle
    from ..bundle.store import NameInUse

    store = _store()
    before = {known.path for known in store.list()}
    try:
        bundle = import_bundle(
            arguments.source,
            store,
            allow_name=arguments.allow_name,
            report=lambda text: say(f"note: {text}", error=True),
        )
    except NameInUse as error:
        error.hint += " To import it all the same, add --allow-name; the other model then goes by its full name only."
        raise
    if bundle.path in before:
        say(f"{bundle.name} {bundle.version} is here already, the same; nothing was changed: {bundle.path}")
        return 0
    say(f"Imported {bundle.name} {bundle.version}: {bundle.path}")
    say(f"  maesegment models show {bundle.name}@{bundle.version}")
    versions = [other for other in store.list() if other.name == bundle.name]
    meant = store.meant()[bundle.name]
    if len(versions) == 1:
        say(f"  {bundle.name} means this version, as there is no other.")
    elif meant.content_hash == bundle.content_hash:
        say(f"  {bundle.name} means this version.")
    else:
        say(f"  {bundle.name} still means version {meant.version}; to use this one by that name:")
        say(f"  maesegment models use {bundle.name}@{bundle.version}")
    return 0


def _use(arguments: argparse.Namespace) -> int:
    store = _store()
    bundle = _exactly(arguments.model, store)
    before = store.meant().get(bundle.name)
    store.select(bundle)
    say(f"{bundle.name} now means version {bundle.version}.")
    if before is not None and before.version != bundle.version:
        say(f"  back: maesegment models use {before.name}@{before.version}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    store = _store()
    bundle = _exactly(arguments.model, store)
    # Asking about what cannot be done would be odd.
    if not store.removable(bundle) and not arguments.yes:
        confirm_deletion(f"{bundle.name} {bundle.version} ({bundle.size_bytes / 2**20:.1f} MB)")
    store.remove(bundle)
    say(f"Removed {bundle.name} {bundle.version}.")
    now = store.meant().get(bundle.name)
    if now is not None:
        say(f"  {bundle.name} means version {now.version}.")
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    from ..bundle.library import SEGMENTATION
    from ..inference.runtimes.conversion import prepare

    store = _store()
    for bundle in [store.find(text) for text in arguments.models] or store.meant(kind=SEGMENTATION).values():
        made = prepare(bundle)
        size = f"{made.file.stat().st_size / 2**20:.1f} MB"
        say(f"Prepared {bundle.name} {bundle.version} for OpenVINO: {made.file} ({size})")
        say(f"  its scores differ from PyTorch's by {made.difference:.0e} of the largest")
    return 0


def _exactly(text: str, store: ModelStore) -> Bundle:
    """The one version that was named; a name alone is not a choice here. Damaged ones can be chosen, too."""
    from ..errors import ConfigurationError

    bundle = store.find(text, verify=False)
    if "@" not in text and not Path(text).is_dir():
        versions = [other.version for other in store.list() if other.name == bundle.name]
        raise ConfigurationError(
            f"Which version of {bundle.name}?", f"It has {', '.join(versions)}; write e.g. {bundle.name}@{versions[0]}."
        )
    return bundle


def _export(arguments: argparse.Namespace) -> int:
    from ..bundle import export_bundle

    bundle = _store().find(arguments.model)
    written = export_bundle(bundle, arguments.out or Path(f"{bundle.name}-{bundle.version}.zip"))
    say(f"Exported {bundle.name} {bundle.version}: {written} ({written.stat().st_size / 2**20:.1f} MB)")
    return 0


def _store() -> ModelStore:
    from ..bundle import ModelStore

    return ModelStore()


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
    from rich.text import Text

    table = make_table("model", "version", "used", "for", "structures", "MB", "from", right=("MB",))
    used = {bundle.path for bundle in store.meant().values()}
    for bundle, depth in family_tree(bundles):
        structures = Text(", ".join(label.name for label in bundle.labels))
        table.add_row(
            "  " * depth + bundle.name,
            bundle.version,
            "●" if bundle.path in used else "",
            bundle.metadata["maesegment"]["modality"],
            structures or Text("pretrained encoder, to fine-tune", style="italic"),
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
        "cleaning": _cleaning(bundle),
        "size": f"{bundle.size_bytes / 2**20:.1f} MB",
        "hash": bundle.content_hash,
        "folder": str(bundle.path),
    }
    from rich.table import Table

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
        console.print(label_table(bundle.labels, validation))
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


def _cleaning(bundle: Bundle) -> str:
    """What of each structure stays; "" for a model that leaves results as they are."""
    from ..bundle.usage.cleaning import cleaning_of

    recipes = cleaning_of(bundle.metadata["maesegment"]["inference"])
    found = (f"{one.name}: {recipes[one.value].describe()}" for one in bundle.labels if one.value in recipes)
    return "; ".join(found)


def label_table(labels: Sequence[Label], validation: Mapping[str, Any]) -> Table:
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
    text += f" ({role_name(validation['held_out'])})." if validation.get("held_out") else "."
    return f"{text} Too few to be more than an indication." if validation.get("indicative_only") else text


def _code(label: Label) -> str:
    from ..images.labels import UNCODED

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
