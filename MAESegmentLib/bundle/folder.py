"""A bundle as a folder: saved by one rename, opened only when every byte is the one that was saved."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BundleError, MAESegmentError, ModelNotFound, refused
from ..images.labels import Label
from ..storage.atomic_folder import publish, writing
from ..text import visible
from .bounds import MAX_METADATA_BYTES, MAX_WEIGHTS_BYTES
from .metadata import build_metadata, parse_metadata, serialise, spec_from_metadata
from .monai_config import inference_file
from .schema import ALLOWED_FILES
from .spec import ModelSpec
from .usage.locator import Locator, locator_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..networks import MaskedAutoencoder, NnFormer

    Network = TypeVar("Network", bound=torch.nn.Module)

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
WEIGHTS = "models/model.pt"
AUTOENCODER_WEIGHTS = "models/autoencoder.pt"
CARD = "docs/README.md"
LICENCE = "LICENSE"
#: Left behind by file browsers; never read.
DROPPINGS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
#: Of a card, as it is shown.
_MAX_CARD_BYTES = 2**20
#: Of any file that is neither metadata nor weights.
MAX_DOCUMENT_BYTES = 64 * 2**20
_CHUNK = 2**20


@dataclass(frozen=True)
class Bundle:
    """An opened model. Everything but `spec` and the networks is available without torch."""

    path: Path
    metadata: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def version(self) -> str:
        return str(self.metadata["version"])

    @property
    def kind(self) -> str:
        """`"segmentation"` or `"autoencoder"`."""
        return str(self.metadata["maesegment"]["kind"])

    @property
    def content_hash(self) -> str:
        """sha256 that changes with any byte of the bundle."""
        return str(self.metadata["maesegment"]["content_hash"])

    @property
    def reference(self) -> dict[str, str]:
        """What a child writes as its `parent`."""
        return {"name": self.name, "version": self.version, "hash": self.content_hash}

    @property
    def parent(self) -> Mapping[str, str] | None:
        parent: Mapping[str, str] | None = self.metadata["maesegment"]["parent"]
        return parent

    @property
    def size_bytes(self) -> int:
        return sum((self.path / name).stat().st_size for name in [METADATA, *self.metadata["maesegment"]["files"]])

    @property
    def card(self) -> str:
        """The model card, Markdown, without what would control a terminal."""
        text = self._read(CARD)[:_MAX_CARD_BYTES].decode("utf-8", errors="replace")
        return visible(text.replace("\r\n", "\n"), "\n\t")

    @property
    def channels(self) -> list[str]:
        """Names of what the model takes, in this order."""
        return list(self.metadata["maesegment"]["channels"])

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        return tuple(Label.from_dict(label) for label in self.metadata["maesegment"]["labels"])

    @cached_property
    def locator(self) -> Locator | None:
        """What places the boxes of a model that is made for one."""
        return locator_of(self.metadata["maesegment"]["inference"], self.labels)

    @cached_property
    def sided(self) -> tuple[tuple[Label, Label], ...]:
        """Each label that a side has where boxes are placed, and which of the model's own it is."""
        return self.locator.pairs(self.labels) if self.locator is not None else ()

    @property
    def all_labels(self) -> tuple[Label, ...]:
        """Whatever a result may hold: no value or name is there twice."""
        return (*self.labels, *(label for label, _own in self.sided))

    @cached_property
    def spec(self) -> ModelSpec:
        """Everything that describes the model. Imports torch."""
        return spec_from_metadata(self.metadata)

    def load_network(self, device: str | torch.device = "cpu") -> NnFormer:
        """The segmentation network, float32, in eval mode."""
        from ..networks import NnFormer

        config = self.spec.network
        if config is None:
            raise BundleError(
                f"Model {self.name!r} is a pretrained autoencoder: it does not segment.",
                "Fine-tune it on labelled cases first.",
            )
        return self._load(lambda: NnFormer(config), WEIGHTS).to(device)

    def load_autoencoder(self, device: str | torch.device = "cpu") -> MaskedAutoencoder | None:
        """The masked autoencoder the encoder was pretrained with, float32, in eval mode; None if there is none."""
        from ..networks import MaskedAutoencoder

        config = self.spec.autoencoder
        file = WEIGHTS if self.kind == "autoencoder" else AUTOENCODER_WEIGHTS
        if config is None or file not in self.metadata["maesegment"]["files"]:
            return None
        return self._load(lambda: MaskedAutoencoder(config), file).to(device)

    def _load(self, make: Callable[[], Network], file: str) -> Network:
        import torch

        from .weights import load_into, read_state

        state = read_state(self._read(file), f"{self.name}/{file}")
        with torch.device("meta"):  # no memory for a network until its weights are known to be there
            network = make()
        load_into(network, state, f"{self.name}/{file}")
        return network.eval()

    def check_loads(self) -> None:
        """Networks that build and weights that fit, so that a broken model is found now and not at the first scan."""
        if self.kind == "segmentation":
            self.load_network()
        self.load_autoencoder()

    def _read(self, name: str) -> bytes:
        """Bytes of one file, checked against its hash: what is used is what was verified."""
        most = MAX_WEIGHTS_BYTES if name.startswith("models/") else MAX_DOCUMENT_BYTES
        try:
            if (self.path / name).stat().st_size > most:
                raise BundleError(
                    f"{self.path / name} is far too large.", "Get the model again from a source you trust."
                )
            data = (self.path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.path / name} cannot be read: {error.strerror}.", "Get the model again.") from None
        if hashlib.sha256(data).hexdigest() != self.metadata["maesegment"]["files"].get(name):
            raise BundleError(
                f"{self.path / name} is not the file that was saved.", "The model is damaged: get it again."
            )
        return data


def open_bundle(path: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """Open the bundle in folder `path`. With `verify`, every file is hashed and any file too many refused."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        hint = "Import the zip first." if folder.suffix == ".zip" else "Choose one of the installed models."
        raise ModelNotFound(f"{folder} is not a model folder.", hint)
    file = folder / METADATA
    try:
        is_usual = stat.S_ISREG(file.lstat().st_mode)
        if not is_usual or file.stat().st_size > MAX_METADATA_BYTES:
            raise BundleError(
                f"{file} is not a regular file, or far too large.", "Get the model again from a source you trust."
            )
        data = file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder} is not a MAESegment model: {METADATA} cannot be read ({error.strerror}).",
            "A model folder holds configs/metadata.json and models/model.pt.",
        ) from None
    try:
        bundle = Bundle(folder.resolve(), parse_metadata(data))
    except BundleError as error:
        raise BundleError(f"{folder}: {error.message}", error.hint) from None
    if verify:
        verify_bundle(bundle)
    return bundle


def verify_bundle(bundle: Bundle | str | os.PathLike[str]) -> Bundle:
    """Raise `BundleError` unless the folder holds exactly the files its metadata names, byte for byte."""
    if not isinstance(bundle, Bundle):
        return open_bundle(bundle, verify=True)
    found = set(_list_files(bundle.path))
    expected = {METADATA, *bundle.metadata["maesegment"]["files"]}
    where = f"Model {bundle.name!r} ({bundle.path})"
    if expected - found:
        raise BundleError(
            f"{where} lacks {', '.join(sorted(expected - found))}.", "The model is damaged: get it again."
        )
    if found - expected:
        foreign = ", ".join(sorted(found - expected))
        raise BundleError(f"{where} holds files that are not part of it: {foreign}.", "Remove them.")
    for name in sorted(expected - {METADATA}):
        bundle._read(name)
    return bundle


def check_inference_config(bundle: Bundle) -> None:
    """Raise `BundleError` unless what `monai.bundle run` would evaluate is what MAESegment writes for this model.

    MAESegment itself never evaluates it, so that a model without this is safe to use here.
    """
    expected, is_there = inference_file(bundle.metadata), INFERENCE in bundle.metadata["maesegment"]["files"]
    if is_there != (expected is not None) or (is_there and bundle._read(INFERENCE) != expected):
        raise BundleError(
            f"{INFERENCE} of model {bundle.name} {bundle.version} is not what MAESegment writes: `monai.bundle run` "
            "would run whatever it says. MAESegment never does.",
            "Delete this version and import it again, which replaces that file.",
        )


def save_bundle(
    destination: str | os.PathLike[str],
    spec: ModelSpec,
    state_dict: Mapping[str, Tensor] | None,
    *,
    autoencoder_state: Mapping[str, Tensor] | None = None,
    card: str,
    licence_text: str,
    documents: Mapping[str, bytes] | None = None,
    dtype: torch.dtype | None = None,
) -> Bundle:
    """Write the folder `destination`, complete or not at all, and open it again; an existing version is never replaced.

    `documents` are further files for docs/ ({"curves.png": bytes}). `dtype` (float16 if None) is how floating
    weights are stored. An autoencoder's weights may be given either way.
    """
    target = Path(destination).expanduser().absolute()
    taken = BundleError(f"{target} exists already.", "A model version never changes: choose another folder.")
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise taken
    contents = _contents(spec, state_dict, autoencoder_state, card, licence_text, dtype)
    contents |= {f"docs/{name}": data for name, data in (documents or {}).items()}
    foreign = sorted(name for name in contents if not ALLOWED_FILES.fullmatch(name))
    if foreign:
        raise BundleError(f"A model may not hold {', '.join(foreign)}.", "docs/ takes .md, .png, .csv and .json files.")
    config = inference_file(build_metadata(spec, {}))
    if config is not None:
        contents[INFERENCE] = config
    files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    contents[METADATA] = serialise(build_metadata(spec, files))
    try:
        with writing(target, own_lock=True) as folder:
            for name, data in contents.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(data)
            try:
                open_bundle(folder).check_loads()
            except MAESegmentError as error:
                message = error.message.replace(str(folder.resolve()), spec.name)
                raise type(error)(f"The model was not saved: {message}", error.hint) from error
            publish(folder, target)
    except OSError as error:
        if isinstance(error, FileExistsError) and error.filename == str(target):
            raise taken from None
        raise refused(f"The model could not be saved to {target}", error) from error
    return open_bundle(target, verify=False)


def _contents(
    spec: ModelSpec,
    state_dict: Mapping[str, Tensor] | None,
    autoencoder_state: Mapping[str, Tensor] | None,
    card: str,
    licence_text: str,
    dtype: torch.dtype | None,
) -> dict[str, bytes]:
    import torch

    from .weights import pack_state

    dtype = dtype or torch.float16
    contents = {CARD: card.encode("utf-8"), LICENCE: licence_text.encode("utf-8")}
    if spec.kind == "autoencoder":
        state_dict, autoencoder_state = state_dict or autoencoder_state, None
    if state_dict is None:
        raise BundleError(f"Model {spec.name!r} cannot be saved without weights.")
    contents[WEIGHTS] = pack_state(state_dict, dtype)
    if autoencoder_state is not None:
        if spec.autoencoder is None:
            raise BundleError(f"Model {spec.name!r} has weights of an autoencoder that its description lacks.")
        contents[AUTOENCODER_WEIGHTS] = pack_state(autoencoder_state, dtype)
    return contents


def _list_files(folder: Path) -> list[str]:
    names = []
    for entry in folder.rglob("*"):
        name = entry.relative_to(folder).as_posix()
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):  # pipes and devices can be read for ever
            kind = "link" if entry.is_symlink() else "special file"
            raise BundleError(f"{folder} holds a {kind}: {name}.", "Get the model again from a source you trust.")
        if entry.is_file() and entry.name not in DROPPINGS:
            names.append(name)
    return names
