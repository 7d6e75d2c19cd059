"""`maesegment models`: what models there are, what they can do, and moving them in and out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import compare_models, official_models, options
from .terminal import confirm_deletion, make_console, print_json, say

if TYPE_CHECKING:
    from ..bundle import Bundle, ModelStore

#: Exit code when a model is damaged.
DAMAGED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = options.add_actions(parser)
    options.add_json(options.add_action(actions, "list", "the models that are installed", _list))
    show = options.add_action(actions, "show", "what one model segments, how well, and where it comes from", _show)
    show.add_argument("model", metavar="MODEL", help=options.MODEL)
    options.add_json(show, "print the metadata as JSON")
    show.add_argument("--card", action="store_true", help="print the whole model card")

    verify = options.add_action(
        actions, "verify", "check every file of a model against its hash, and for code", _verify
    )
    verify.add_argument("models", nargs="*", metavar="MODEL", help="names, NAME@VERSION or folders (default: all)")

    import_ = options.add_action(actions, "import", "add a model from a zip or a folder", _import)
    import_.add_argument("source", type=Path, metavar="ZIP", help="made by `models export`, or a model's folder")
    import_.add_argument(
        "--allow-name", action="store_true", help="even if its name is what another is called for short"
    )

    export = options.add_action(actions, "export", "write a model to one zip file", _export)
    export.add_argument("model", metavar="MODEL", help=options.MODEL)
    options.add_out(export, "ZIP", "(default: NAME-VERSION.zip here)")

    use = options.add_action(actions, "use", "choose which version a model's name means", _use)
    use.add_argument("model", metavar="NAME@VERSION", help="e.g. the version from before a fine-tuning")

    remove = options.add_action(actions, "remove", "delete one of your own versions", _remove)
    remove.add_argument("model", metavar="NAME@VERSION", help="a version that no other was made from")
    options.add_yes(remove)

    compare = options.add_action(actions, "compare", "Dice of two models on the same cases", compare_models.run)
    compare_models.add_arguments(compare)
    summary = "make a model of an official nnFormer checkpoint"
    official_models.add_arguments(options.add_action(actions, "import-official", summary, official_models.run))


run = options.run_action


def _list(arguments: argparse.Namespace) -> int:
    from .model_tables import list_table, summary

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
    from rich.markdown import Markdown

    from .model_tables import print_facts

    store = _store()
    bundle = store.find(arguments.model)
    if arguments.json:
        print_json(dict(bundle.metadata))
    elif arguments.card:
        make_console().print(Markdown(bundle.card))
    else:
        print_facts(make_console(), bundle, store)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from ..bundle import check_inference_config, verify_bundle
    from ..errors import BundleError

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

    store = _store()
    bundle = import_bundle(
        arguments.source,
        store,
        allow_name=arguments.allow_name,
        report=lambda text: say(f"note: {text}", error=True),
    )
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
