"""Which case store a command means, and how cases are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..cases.records import role_name
from ..errors import ConfigurationError, DatasetError
from ..images.labels import Label, by_name
from .terminal import make_table, swatch

if TYPE_CHECKING:
    from rich.table import Table

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
    from rich.text import Text

    labels = by_name(store.labels())
    has_gaps = any(record.unknown or record.partial for record in records)
    headings = ("case\nrole", "labels (ml)", "not\nannotated", "voxels\nmm", "added", "model")
    chosen = [heading for heading in headings if has_gaps or "annotated" not in heading]
    table = make_table(*chosen, whole=[heading for heading in chosen if heading not in ("not\nannotated", "model")])
    for record in records:
        volumes = [
            swatch(labels.get(name, Label(1, name))).append(f" {ml:.2f}") for name, ml in record.volumes_ml.items()
        ]
        missing = "\n".join([*record.unknown, *(["outside region"] if record.partial else [])])
        model = "{name}\n{version}".format(**record.model) if record.model else ""
        case = f"{record.id}\n{role_name(record.role)}"
        gaps = [missing] if has_gaps else []
        table.add_row(case, Text("\n").join(volumes), *gaps, size_text(record), record.added, model)
    return table


def size_text(record: CaseRecord) -> str:
    """Voxels, below them their size in mm."""
    voxels = "x".join(map(str, record.shape))
    channels = f"{record.channels} x " if record.channels > 1 else ""
    return f"{channels}{voxels}\n{'x'.join(f'{mm:.3g}' for mm in record.spacing)}"
