"""Reading safetensors: number formats, and files made to lie."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from data.errors import ModelInvalid
from export.safetensors import Safetensors


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(form: str = "F32", shape: object = (2,), begin: object = 0, end: object = 8) -> dict[str, object]:
    return {"dtype": form, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        ("F32", struct.pack("<2f", 1.5, -2)),
        ("F16", struct.pack("<2e", 1.5, -2)),
        ("BF16", b"\xc0\x3f\x00\xc0"),
        ("F64", struct.pack("<2d", 1.5, -2)),
    ],
)
def test_every_float_format_is_read_as_float32(tmp_path: Path, form: str, raw: bytes) -> None:
    found = Safetensors(write(tmp_path / "x", {"__metadata__": {"format": "pt"}, "a": entry(form, [2], 0, len(raw))}, raw))
    assert list(found) == ["a"]
    assert len(found) == 1
    assert found["a"].dtype == np.float32
    assert found["a"].tolist() == [1.5, -2]


def test_tensors_are_found_at_their_offsets_with_their_shapes(tmp_path: Path) -> None:
    data = np.arange(7, dtype="<f4").tobytes()
    header = {"b": entry(shape=[1], begin=24, end=28), "a": entry(shape=[2, 3], end=24), "none": entry(shape=[0, 4], end=0)}
    found = Safetensors(write(tmp_path / "x", header, data))
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].tolist() == [6]
    assert found["none"].shape == (0, 4)


def test_rows_are_read_without_the_rest(tmp_path: Path) -> None:
    data = np.array([1, 2, 3, np.nan], dtype="<f4").tobytes()
    found = Safetensors(write(tmp_path / "x", {"a": entry(shape=[2, 2], end=16)}, data))
    assert found.rows("a", 0, 1).tolist() == [[1, 2]]
    with pytest.raises(ModelInvalid, match="not finite"):
        found.rows("a", 1)


@pytest.mark.parametrize(
    "wrong",
    [
        entry(end=12),  # more bytes than the shape needs
        entry(begin=4, end=12),  # past the end
        entry(begin=-8, end=0),
        entry(begin=8, end=0),
        entry(shape=[-2]),
        entry(shape=[-1, -2]),
        entry(shape=[2.0]),
        entry(shape=[True, 2]),
        entry(shape=[2] * 9),
        entry(shape=[1 << 62, 1 << 62]),
        entry(shape="2"),
        entry(form="F4"),
        entry(form="F32\x1b[2J"),
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
        [],
        None,
    ],
)
def test_a_tensor_that_cannot_lie_there_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ModelInvalid, match="the place of the tensor 'a'"):
        Safetensors(write(tmp_path / "x", {"a": wrong}, bytes(8)))


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        (b"{}", 1 << 40),
        (b"{}", (1 << 64) - 1),
        (b"{}", 3),
        (b"{}", 0),
        (b"[]", None),
        (b"nope", None),
        (b"\xff\xff", None),
        (b'{"a": 1, "a": 2}', None),
        (b"[" * 200_000, None),
    ],
)
def test_an_impossible_header_is_refused(tmp_path: Path, raw: bytes, length: int | None) -> None:
    with pytest.raises(ModelInvalid, match="its header"):
        Safetensors(write(tmp_path / "x", raw, bytes(64) if length is None else b"", length))


def test_a_file_shorter_than_its_length_field_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with pytest.raises(ModelInvalid, match="impossible length"):
        Safetensors(tmp_path / "x")
    with pytest.raises(ModelInvalid, match="No such file"):
        Safetensors(tmp_path / "missing")


def test_integers_and_numbers_that_are_none_are_refused_when_asked_for(tmp_path: Path) -> None:
    header = {"ids": entry("I64", [1]), "nan": entry("F32", [1], 8, 12)}
    found = Safetensors(write(tmp_path / "x", header, bytes(8) + struct.pack("<f", float("nan"))))
    with pytest.raises(ModelInvalid, match="ids holds I64 numbers"):
        found["ids"]
    with pytest.raises(ModelInvalid, match="nan holds values that are not finite"):
        found["nan"]
    with pytest.raises(KeyError):
        found["other"]
