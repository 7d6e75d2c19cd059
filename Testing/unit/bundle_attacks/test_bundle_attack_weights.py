"""A stranger's weights are tensors and nothing else, and fit the network."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from MAESegmentLib.bundle import Bundle
from MAESegmentLib.bundle.weights import read_state
from MAESegmentLib.errors import BundleError
from Testing.hostile_bundles import (
    Refused,
    pickled_differently,
    repacked,
    saved,
)

WEIGHTS = "models/model.pt"
ESC = "\x1b[2J"


CANARY = "evil"
NUMBERS = torch.arange(100, dtype=torch.float32)
BASE = NUMBERS.clone()


class _Bomb:
    """Asks for 100 GB by a call that `torch.load(weights_only=True)` allows."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (10**11,)


class _Evil:
    """Unpickles into a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def damaged_weights() -> dict[str, bytes]:
    plain = saved({"w": NUMBERS})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will go
        quantised = torch.quantize_per_tensor(NUMBERS, 0.1, 0, torch.qint8)
    nested: Any = ()
    for _ in range(200):
        nested = (nested,)
    return {
        "more elements than numbers": pickled_differently(plain, b"Kd", b"M\xe8\x03"),
        "huge storage offset": pickled_differently(plain, b"QK\x00", b"Q\x8a\x08" + b"\xff" * 7 + b"\x7f"),
        "negative offset": pickled_differently(plain, b"QK\x00", b"QJ\xff\xff\xff\xff"),
        "negative stride": pickled_differently(plain, b"\x85q\x08K\x01\x85", b"\x85q\x08J\xff\xff\xff\xff\x85"),
        "negative size": pickled_differently(plain, b"QK\x00Kd", b"QK\x00J\xff\xff\xff\xff"),
        "size of a string": pickled_differently(plain, b"QK\x00Kd", b"QK\x00X\x01\x00\x00\x00a"),
        "missing numbers": repacked(plain, lambda records: records.pop("archive/data/0")),
        "fewer numbers": repacked(plain, lambda records: records.update({"archive/data/0": bytes(8)})),
        "big-endian": repacked(plain, lambda records: records.update({"archive/byteorder": b"big"})),
        "numbers outside": repacked(plain, lambda records: records.update({"other/data/0": bytes(8)})),
        "no list": repacked(plain, lambda records: records.pop("archive/data.pkl")),
        "empty list": repacked(plain, lambda records: records.update({"archive/data.pkl": b""})),
        "huge list": repacked(plain, lambda records: records.update({"archive/data.pkl": b"N" * 5 * 2**20})),
        "endless memo": pickled_differently(plain, b"q\x08", b"j\xff\xff\xff\x7f"),
        "shared storage": saved({"w": BASE, "v": BASE}),
        "shared views": saved({"w": BASE[:50], "v": BASE[50:]}),
        "transposed": saved({"w": torch.zeros(3, 4).T}),
        "every second": saved({"w": BASE[::2]}),
        "expanded": saved({"w": torch.zeros(1).expand(10**12)}),
        "sparse": saved({"w": torch.zeros(4, 4).to_sparse()}),
        "quantised": saved({"w": quantised}),
        "meta": saved({"w": torch.empty(10**12, device="meta")}),
        "parameter": saved({"w": torch.nn.Parameter(NUMBERS)}),
        "complex": saved({"w": torch.zeros(3, dtype=torch.complex64)}),
        "memory bomb": saved({"w": NUMBERS, "x": _Bomb()}),
        "nested tuples": saved({"w": nested}),
        "legacy format": _legacy({"w": NUMBERS}),
        "bare pickle": pickle.dumps(_Evil()),
        "pickle in a zip": saved(_Evil()),
        "object beside a tensor": saved({"w": NUMBERS, "x": _Evil()}),
        "nested": saved({"w": {"nested": NUMBERS}}),
        "number as key": saved({1: NUMBERS}),
        "list of tensors": saved([NUMBERS]),
        "one tensor": saved(NUMBERS),
        "empty dict": saved({}),
        "compressed": repacked(saved({"w": torch.zeros(2**20)}), lambda _records: None, zipfile.ZIP_DEFLATED),
        "empty file": b"",
        "broken zip": b"PK\x03\x04 not a zip",
        "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\n",
    }


def _legacy(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*damaged_weights()])
def test_weights_with_a_trick_are_one_clear_error(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="not a plain file of tensors") as caught:
        read_state(damaged_weights()[kind], "m/models/model.pt")
    assert caught.value.hint
    assert not Path(CANARY).exists()


def test_weights_cut_anywhere_or_with_a_flipped_byte_never_crash() -> None:
    data = saved({f"w{n}": torch.full((10,), float(n)) for n in range(5)})
    for position in range(0, len(data), 7):
        for bad in (data[:position], data[:position] + bytes([data[position] ^ 0x24]) + data[position + 1 :]):
            try:
                state = read_state(bad, "m")
            except BundleError:
                continue
            # A byte that means nothing, e.g. a date.
            assert all(torch.equal(state[f"w{n}"], torch.full((10,), float(n))) for n in range(5))


def test_plain_weights_of_every_kind_are_read_as_torch_reads_them() -> None:
    state = {
        f"{dtype}": torch.arange(-3, 9).reshape(3, 4).to(dtype)
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
    } | {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "one": torch.zeros(1, 1, 5)}
    read = read_state(saved(state), "m")
    for key, tensor in torch.load(io.BytesIO(saved(state)), weights_only=True).items():
        expected = tensor.float() if tensor.is_floating_point() else tensor
        assert torch.equal(read[key], expected)
        assert read[key].dtype == expected.dtype


def _changed_state(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Bundle], bytes]:
    def make(bundle: Bundle) -> bytes:
        state = {key: tensor.clone() for key, tensor in bundle.load_network().state_dict().items()}
        change(state)
        return saved(state)

    return make


KEY = "encoder.norms.0.weight"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (_changed_state(lambda s: s.update({KEY: s[KEY].long()})), "int64"),
        (_changed_state(lambda s: s.update({KEY: s[KEY] * float("nan")})), "NaN"),
        (_changed_state(lambda s: s.update({KEY: torch.zeros(0)})), r"is \(0,\)"),
        (_changed_state(lambda s: s.pop(KEY)), "missing"),
        (_changed_state(lambda s: s.update({ESC: torch.zeros(2)})), "not part"),
        (_changed_state(lambda s: s.update({"x" * 10**5: torch.zeros(2)})), "not part"),
        (_changed_state(lambda s: s.update({f"{n}": torch.zeros(2) for n in range(3000)})), "and 2997 more"),
        (_changed_state(lambda s: s.update({KEY: (s[KEY].double() * 1e300)})), "infinity"),
    ],
)
def test_weights_that_do_not_fit_are_one_clear_error(
    refused: Refused, bundle: Bundle, make: Callable[[Bundle], bytes], match: str
) -> None:
    refused(match, {WEIGHTS: make(bundle)})
