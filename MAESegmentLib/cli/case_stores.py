"""Which case store a command means, and how cases are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ..errors import ConfigurationError, DatasetError
from ..images.labels import Label

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..cases.records import CaseRecord
    from ..cases.store import CaseStore


def choose_store(folder: Path | None, model: str | None) -> tuple[CaseStore, Bundle | None]:
    """The store in `folder`, else that of `model`'s family, else the only one there is; and the model that was named,
    or that the only store is called after."""
    from ..bundle import ModelStore
    from ..cases.store import CaseStore
    from ..storage.user_folders import default_cases_folder

    models = ModelStore()
    bundle = models.find(model, kind="segmentation") if model else None
    if folder is not None:
        return CaseStore(folder), bundle
    if bundle is not None:
        return CaseStore(default_cases_folder() / models.root_of(bundle)), bundle
    stores = known_stores()
    if len(stores) == 1:
        return stores[0], models.meant(kind="segmentation").get(stores[0].folder.name)
    names = ", ".join(store.folder.name for store in stores)
    raise ConfigurationError(
        "Which cases? No model was named, and no folder.",
        "Add -m MODEL or --store DIR." + (f" There are cases for: {names}." if names else ""),
    )


def existing_store(folder: Path | None, model: str | None) -> CaseStore:
    """As `choose_store`; `DatasetError` if no case was ever stored there."""
    store = choose_store(folder, model)[0]
    if not store.folder.is_dir():
        raise DatasetError(f"There are no cases in {store.folder}.", "Add one with `maesegment cases add`.")
    return store


def known_stores() -> list[CaseStore]:
    """Those in the folder for cases, by name."""
    from ..cases.layout import is_case_store
    from ..cases.store import CaseStore
    from ..storage.user_folders import default_cases_folder

    root = default_cases_folder()
    return [CaseStore(path) for path in sorted(root.iterdir()) if is_case_store(path)] if root.is_dir() else []


def case_table(store: CaseStore, records: Sequence[CaseRecord]) -> Table:
    colours = {label.name: label.colour for label in store.labels()}
    missing = {record.id: [*record.unknown, *(["outside region"] if record.partial else [])] for record in records}
    headings = ["case", "role", "labels (ml)", "voxels, mm", "added", "model"]
    if any(missing.values()):
        headings.insert(3, "not annotated")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in ("not annotated", "model"))
    for record in records:
        model = record.model or {"name": "", "version": ""}
        cells: dict[str, str | Text] = {
            "case": record.id,
            "role": record.role,
            "labels (ml)": Text("\n").join(
                Text.assemble(("■ ", "rgb({},{},{})".format(*colours.get(name, Label.colour))), f"{name} {ml:.2f}")
                for name, ml in record.volumes_ml.items()
            ),
            "not annotated": "\n".join(missing[record.id]),
            "voxels, mm": size_text(record),
            "added": record.added,
            "model": f"{model['name']} {model['version']}",
        }
        table.add_row(*(cells[heading] for heading in headings))
    return table


def size_text(record: CaseRecord) -> str:
    """Voxels, below them their size in mm."""
    voxels = "x".join(map(str, record.shape))
    channels = f"{record.channels} x " if record.channels > 1 else ""
    return f"{channels}{voxels}\n{'x'.join(f'{mm:.3g}' for mm in record.spacing)}"
