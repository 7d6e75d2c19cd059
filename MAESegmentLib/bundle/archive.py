"""A bundle as one zip file, for exchange. What comes in is refused unless it is certainly only a model."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from ..errors import BundleError, ConfigurationError, OutputError, WeightsError, refused
from ..storage.atomic_file import replacing
from ..storage.atomic_folder import writing
from ..storage.zip_directory import check_directory
from .bounds import MAX_METADATA_BYTES, MAX_WEIGHTS_BYTES
from .changing import VersionTaken, copy_files
from .folder import (
    DROPPINGS,
    INFERENCE,
    MAX_DOCUMENT_BYTES,
    METADATA,
    Bundle,
    check_inference_config,
    open_bundle,
    verify_bundle,
)
from .metadata import content_hash, serialise
from .monai_config import inference_file
from .schema import ALLOWED_FILES, broken
from .store import ModelStore, NameInUse

_log = logging.getLogger(__name__)
_MAX_FILES = 256
_CHUNK = 2**20
_MAX_TOTAL_BYTES = 2 * MAX_WEIGHTS_BYTES
#: Of the zip's table of contents.
_MAX_DIRECTORY_BYTES = 2**20
#: Weights hardly compress and JSON by a factor of ten or so; a bomb by a thousand.
_MAX_RATIO = 100
#: A zip's earliest date: equal bundles give equal archives.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
_DISTRUST = "Do not use this file; ask for a model that MAESegment exported."


def export_bundle(bundle: Bundle, zip_path: str | os.PathLike[str]) -> Path:
    """Write the verified `bundle` as a zip with its name as the one top folder; equal bundles give equal bytes."""
    verify_bundle(bundle)
    check_inference_config(bundle)
    target = Path(zip_path).expanduser()
    if target.suffix.lower() != ".zip":
        raise OutputError(
            f"{target.name} is not the name of a zip file.", f"Write e.g. -o {bundle.name}-{bundle.version}.zip."
        )
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted([METADATA, *bundle.metadata["maesegment"]["files"]]):
            _add(archive, f"{bundle.name}/{name}", (bundle.path / name).read_bytes())
    return target


def import_bundle(
    path: str | os.PathLike[str],
    store: ModelStore,
    *,
    load: bool = True,
    allow_name: bool = False,
    report: Callable[[str], None] = _log.warning,
) -> Bundle:
    """Add the model in a zip (or a bundle's folder) to the user's models, verified to the last weight, or do nothing.

    What its name means stays as it was, unless nothing had that name before; one that stands for another model as the
    beginning of its name is refused unless `allow_name`. A model that is there already is returned
    as it is and changes nothing. `load=False`, for a process without torch, checks every file
    but leaves it to the first segmentation to find weights that do not fit the network. `report` gets a sentence on
    what was changed: `configs/inference.json` is always what MAESegment writes for the model's description.
    """
    source = Path(path).expanduser()
    staging = store.user_folder
    try:
        with writing(store.user_folder / "import", own_lock=True) as staging:
            if source.is_dir():
                copy_files(open_bundle(source), staging)
            else:
                _unpack(source, staging)
            bundle = _with_own_config(open_bundle(staging), report)
            _check_statistics(bundle)
            if load:
                bundle.check_loads()
            needing_more = store.needing_more(bundle.name)
            taken = store.take_in(bundle, allow_name=allow_name)
            for name, short in needing_more.items():
                report(f"{name} can no longer be called {short!r}, as {bundle.name} begins so too: write more of it.")
            return taken
    except _DAMAGED as error:
        raise BundleError(f"{source.name} is not an intact zip file ({error}).", "Copy or download it again.") from None
    except FileNotFoundError:
        raise BundleError(f"{source} does not exist.", "Give the path of a zip file.") from None
    except OSError as error:
        place = (
            source if str(error.filename).startswith(str(source)) else f"the folder of your models, {store.user_folder}"
        )
        raise refused(f"The model in {source} could not be imported: {place}", error) from error
    except (VersionTaken, NameInUse):
        raise
    except (BundleError, ConfigurationError, WeightsError) as error:
        message = error.message.replace(str(staging.resolve()), source.name).replace(str(staging), source.name)
        raise BundleError(message, error.hint) from error


def _unpack(source: Path, staging: Path) -> None:
    if not stat.S_ISREG(source.stat().st_mode):
        raise BundleError(f"{source} is not a file.", "Give the path of a zip file.")
    with source.open("rb") as stream:
        check_directory(stream, _MAX_DIRECTORY_BYTES)
    with zipfile.ZipFile(source) as archive:
        entries = _checked_entries(archive, source)
        for name, entry in entries.items():
            # zipfile checks the CRC and gives no more bytes than the size that was checked.
            (staging / name).parent.mkdir(exist_ok=True)
            with archive.open(entry) as content, (staging / name).open("xb") as file:
                shutil.copyfileobj(content, file, _CHUNK)


def _with_own_config(bundle: Bundle, report: Callable[[str], None]) -> Bundle:
    """The bundle, in a folder that only its importer uses, with the `configs/inference.json` of its description."""
    try:
        check_inference_config(bundle)
        return bundle
    except BundleError:
        pass
    config, own = inference_file(bundle.metadata), dict(bundle.metadata["maesegment"])
    files = {name: digest for name, digest in own["files"].items() if name != INFERENCE}
    (bundle.path / INFERENCE).unlink(missing_ok=True)
    if config is not None:
        (bundle.path / INFERENCE).write_bytes(config)
        files[INFERENCE] = hashlib.sha256(config).hexdigest()
    metadata = {**bundle.metadata, "maesegment": {**own, "files": files}}
    metadata["maesegment"]["content_hash"] = content_hash(metadata)
    (bundle.path / METADATA).write_bytes(serialise(metadata))
    report(
        f"The {INFERENCE} that came with {bundle.name} {bundle.version} was not what MAESegment writes: it was "
        "replaced, and nothing in it was run."
    )
    return open_bundle(bundle.path)


def _checked_entries(archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of the one model in `archive`, by path inside its folder; `BundleError` for anything suspicious."""
    infos = archive.infolist()
    # A truncated archive can end with a weight file, which is a zip too: with bytes before its first entry.
    if infos and min(info.header_offset for info in infos) != 0:
        raise zipfile.BadZipFile("its directory is missing")
    total = sum(info.file_size for info in infos)
    if len(infos) > _MAX_FILES:
        raise BundleError(f"{source.name} holds {len(infos)} files; a model has at most {_MAX_FILES}.", _DISTRUST)
    if total > _MAX_TOTAL_BYTES or total > _MAX_RATIO * max(source.stat().st_size, 1):
        raise BundleError(f"{source.name} would unpack to {total / 2**20:.0f} MB, far more than a model.", _DISTRUST)
    tops: set[str] = set()
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        parts = _checked_parts(info, source)
        if info.is_dir() or parts[0] == "__MACOSX" or parts[-1] in DROPPINGS:
            continue
        tops.add(parts[0])
        name = "/".join(parts[1:])
        if not ALLOWED_FILES.fullmatch(name):
            raise BundleError(f"{source.name} holds {info.filename!r}, which is not part of a model.", _DISTRUST)
        if info.file_size > _largest(name):
            raise BundleError(f"{source.name} holds {info.filename!r}, which is far too large.", _DISTRUST)
        if name.lower() in (known.lower() for known in entries):
            raise BundleError(f"{source.name} holds {info.filename!r} twice.", _DISTRUST)
        entries[name] = info
    if len(tops) != 1 or METADATA not in entries:
        raise BundleError(
            f"{source.name} is not an exported model: it needs one folder at its top with {METADATA} in it.",
            "Ask for a zip that MAESegment exported.",
        )
    return entries


def _checked_parts(info: zipfile.ZipInfo, source: Path) -> list[str]:
    """Path components of one entry, none of which can lead out of the folder it is unpacked into."""
    # zipfile cuts `filename` at a NUL byte and rewrites separators; the original is what an attacker wrote.
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    printable = not any(unicodedata.category(character).startswith("C") for character in name)
    if not printable or re.search(r'[\\:<>"|?*]', name) or any(part in ("", ".", "..") for part in parts):
        raise BundleError(f"{source.name} holds a file with the unsafe path {name!r}.", _DISTRUST)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BundleError(f"{source.name} holds a link or special file: {name!r}.", _DISTRUST)
    if info.flag_bits & 0x1:
        raise BundleError(f"{source.name} is encrypted.", "Ask for it without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BundleError(f"{source.name} uses an unusual compression for {name!r}.", _DISTRUST)
    return parts


def _largest(name: str) -> int:
    """Bytes that the file `name` of a model may have."""
    if name == METADATA:
        return MAX_METADATA_BYTES
    return MAX_WEIGHTS_BYTES if name.startswith("models/") else MAX_DOCUMENT_BYTES


def _check_statistics(bundle: Bundle) -> None:
    """What is compared with each scan before it is segmented; without torch."""
    from ..preprocessing.intensity import IntensityRecipe
    from .training_statistics import read_statistics

    own = bundle.metadata["maesegment"]
    network = own["network"] or own["autoencoder"]["encoder"]
    dims = [network["embed_dim"] * 2**stage for stage in range(len(network["depths"]))]
    try:
        intensity = IntensityRecipe.from_dict(own["preprocessing"]["intensity"])
    except (ConfigurationError, TypeError) as error:
        raise broken("maesegment.preprocessing.intensity", f"is not usable ({error})") from None
    read_statistics(own.get("familiarity"), dims, intensity, len(own["channels"]))


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    # fp16 weights gain about a tenth from deflate, not worth the time.
    info.compress_type = zipfile.ZIP_STORED if name.endswith((".pt", ".png")) else zipfile.ZIP_DEFLATED
    archive.writestr(info, data)
