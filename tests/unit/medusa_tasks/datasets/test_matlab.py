"""The reader of MATLAB files: agrees with SciPy's on whole files, survives damaged ones."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import loadmat, savemat

from medusa_core.errors import DataError
from medusa_tasks.datasets import matlab
from medusa_tasks.datasets.matlab import read_variable

NUMBERS = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def stored(variables: dict[str, Any], packed: bool = False) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=packed)
    return file.getvalue()


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(kind: int, shape: tuple[int, ...], *content: bytes, order: str = "<") -> bytes:
    """An unnamed array of a class, down to the bytes."""
    flags = element(6, struct.pack(f"{order}II", kind, 0), order)
    dims = element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, flags + dims + element(1, b"", order) + b"".join(content), order)


def file_of(*content: bytes, order: str = "<", kind: int = 2) -> bytes:
    """A file with the variable `x` of a class, its content given as elements."""
    mark = b"IM" if order == "<" else b"MI"
    head = b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}H", 0x100) + mark
    flags = element(6, struct.pack(f"{order}II", kind, 0), order)
    dims = element(5, struct.pack(f"{order}ii", 1, 1), order)
    return head + element(14, flags + dims + element(1, b"x", order) + b"".join(content), order)


def sized(shape: bytes) -> bytes:
    """A file with six numbers, the element of their shape given."""
    body = element(6, struct.pack("<II", 6, 0)) + shape + element(1, b"x")
    head = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x100) + b"IM"
    return head + element(14, body + element(9, bytes(48)))


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_bytes(data: bytes, name: str = "x") -> Any:
        (tmp_path / "a.mat").write_bytes(data)
        return read_variable(tmp_path / "a.mat", name)

    return read_bytes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.sampled_from(NUMBERS).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=3, max_side=5))
    ),
    packed=st.booleans(),
)
def test_numbers_agree_with_scipy(read: Any, value: np.ndarray, packed: bool) -> None:
    data = stored({"other": np.ones(3), "x": value}, packed)
    ours, scipys = read(data), loadmat(io.BytesIO(data))["x"]
    np.testing.assert_array_equal(ours, value)
    np.testing.assert_array_equal(ours, scipys)
    assert ours.dtype == scipys.dtype


@pytest.mark.parametrize("packed", [False, True])
def test_structs_and_text_agree_with_scipy(read: Any, packed: bool) -> None:
    inner = np.empty((1, 2), [("part_name", object), ("mask", object)])
    inner[0, 0] = ("head", np.eye(3))
    inner[0, 1] = ("ein längerer Name", np.arange(6.0).reshape(2, 3))
    data = stored({"x": {"name": "cat", "parts": inner, "none": np.zeros((0, 0))}}, packed)
    (ours,) = read(data)
    scipys = loadmat(io.BytesIO(data))["x"][0, 0]
    assert ours["name"] == scipys["name"].item() == "cat"
    assert ours["none"].shape == (0, 0)
    for index, part in enumerate(ours["parts"]):
        expected = scipys["parts"][0, index]
        assert part["part_name"] == expected["part_name"].item()
        np.testing.assert_array_equal(part["mask"], expected["mask"])
    assert len(ours["parts"]) == 2


def test_doubles_stored_as_bytes_as_matlab_does(read: Any) -> None:
    value = read(file_of(element(2, b"\x07"), kind=6))
    assert value.dtype == np.float64
    assert value.tolist() == [[7.0]]


def test_the_other_byte_order(read: Any) -> None:
    value = read(file_of(element(3, struct.pack(">h", -300), ">"), order=">", kind=10))
    assert value.tolist() == [[-300]]


def test_what_other_variables_hold_does_not_matter(read: Any) -> None:
    cells = np.empty((1, 1), object)
    cells[0, 0] = "text"
    assert read(stored({"a": cells, "x": np.ones((2, 2))})).shape == (2, 2)


def nested(depth: int) -> bytes:
    content = array(6, (1, 1), element(9, struct.pack("<d", 1.0)))
    for _ in range(depth):
        content = array(2, (1, 1), element(5, struct.pack("<i", 2)), element(1, b"f\0"), content)
    return file_of(element(5, struct.pack("<i", 2)), element(1, b"f\0"), content)


def test_structs_nest_as_deep_as_annotations_do(read: Any) -> None:
    value = read(nested(3))
    for _ in range(4):
        (value,) = value
        value = value["f"]
    assert value.tolist() == [[1.0]]


WHOLE = stored({"x": np.arange(12.0).reshape(3, 4)})
PACKED = stored({"x": np.arange(12.0).reshape(3, 4)}, packed=True)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a MATLAB file"),
        (b"\x89PNG" * 100, "not a MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(600), "7.3"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n", "7.3"),
        (WHOLE[:-1], "longer than what holds it"),
        (WHOLE[:-20], "longer than what holds it"),
        (WHOLE[:133], "ends within an element"),
        (PACKED[:-9], "longer than what holds it"),
        (PACKED[:132] + struct.pack("<I", 8) + PACKED[136:144], "incomplete"),
        (PACKED[:150] + b"\xff\xff" + PACKED[152:], "Error|invalid|incorrect|incomplete"),
        (stored({"y": np.ones(2)}), "no variable 'x'"),
        (file_of(kind=1), "class 1: only"),
        (file_of(kind=16), "class 16: only"),
        (file_of(element(9, bytes(16)), kind=6), "2 numbers in an array of the shape"),
        (file_of(element(64, bytes(8)), kind=6), "numbers of type 64"),
        (file_of(kind=2), "without field names"),
        (file_of(element(5, bytes(4)), element(1, b"f\0"), kind=2), "field names do not fit"),
        (nested(5000), "nested more than 16"),
        (sized(element(9, struct.pack("<2d", 2, 3))), "sizes of the type float64"),
        (sized(element(13, struct.pack("<2Q", 2**64 - 1, 0))), "sizes of the type uint64"),
        (
            file_of(element(9, struct.pack("<d", np.inf)), element(1, b"ab"), kind=2),
            "sizes of the type float64",
        ),
    ],
)
def test_what_cannot_be_read_is_said(read: Any, data: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read(data)
    assert "a.mat" in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.mat: no such file"):
        read_variable(tmp_path / "none.mat", "x")


def test_what_unpacks_to_more_than_the_limit_is_refused(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = zlib.compress(bytes(1 << 20))
    bomb = WHOLE[:128] + struct.pack("<II", 15, len(body)) + body
    monkeypatch.setattr(matlab, "MAX_BYTES", 1 << 19)
    with pytest.raises(DataError, match="unpacks to more than"):
        read(bomb)
    with pytest.raises(DataError, match="larger than"):
        read(bytes(1 << 20))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
@given(st.data())
def test_damaged_files_give_a_value_or_an_error(read: Any, data: st.DataObject) -> None:
    inner = np.empty((1, 2), [("part_name", object), ("mask", object)])
    inner[0, 0], inner[0, 1] = ("head", np.eye(3)), ("torso", np.eye(2))
    file = bytearray(stored({"x": {"class": "cat", "parts": inner}}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(128, len(file) - 1))
        file[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        read(bytes(file))
