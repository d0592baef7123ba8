import contextlib
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from medusa_core.engine import cache_folder, row_file
from medusa_core.engine.cache_folder import partial_files, partial_prefix, remove_leftovers
from medusa_core.engine.row_file import RowWriter, read_rows
from medusa_core.errors import StoreError

needs_locks = pytest.mark.skipif(not cache_folder.this_boot(), reason="nothing can be gone on with")
DTYPES = [np.float16, np.float32, np.uint8, np.int16, np.int64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 5)])
def test_rows_come_back_and_the_library_reads_them_too(tmp_path, dtype, shape):
    rows = (np.random.RandomState(0).uniform(0, 100, (4, *shape))).astype(dtype)
    path = tmp_path / "rows.safetensors"
    with RowWriter(path, 4, shape, np.dtype(dtype), {"made_by": "tést"}) as writer:
        for row in rows:
            assert not path.exists()
            writer.write(row)
    read, metadata = read_rows(path)
    assert metadata == {"made_by": "tést"}
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, rows)
    np.testing.assert_array_equal(load_file(path)["rows"], rows)
    assert not read.flags.writeable


def test_an_unfinished_file_never_appears(tmp_path):
    path = tmp_path / "rows.safetensors"
    with RowWriter(path, 2, (3,), np.dtype(np.uint8), {}) as writer:
        writer.write(np.zeros(3, np.uint8))
    assert not path.exists()
    [left] = partial_files(path)
    left.unlink()
    with (
        contextlib.suppress(KeyboardInterrupt),
        RowWriter(path, 1, (3,), np.dtype(np.uint8), {}),
    ):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


ROWS = np.arange(15, dtype=np.float32).reshape(5, 3)


def _writer(path, made_by="x"):
    return RowWriter(path, 5, (3,), np.dtype(np.float32), {"made_by": made_by})


def _write(path, stop=5, **metadata):
    """Rows up to one at which it is interrupted; how many were there already."""
    with contextlib.suppress(KeyboardInterrupt), _writer(path, **metadata) as writer:
        there = writer.written
        for row in ROWS[there:stop]:
            writer.write(row)
        if stop < 5:
            raise KeyboardInterrupt
    return there


@needs_locks
@pytest.mark.parametrize("stop", range(1, 5))
def test_an_interrupted_file_is_gone_on_with(tmp_path, stop):
    _write(tmp_path / "whole")
    path = tmp_path / "rows"
    assert _write(path, stop) == 0
    assert not path.exists()
    assert _write(path) == stop
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@needs_locks
def test_a_file_of_a_killed_process_is_gone_on_with_wherever_it_ends(tmp_path):
    _write(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    start = len(data) - ROWS.nbytes
    for length in range(len(data) + 1):
        path = tmp_path / f"{length}"
        (tmp_path / f"{partial_prefix(path)}a").write_bytes(data[:length])
        assert _write(path) == max(0, length - start) // 12
        assert path.read_bytes() == data
    (tmp_path / f"{partial_prefix(tmp_path / 'more')}a").write_bytes(data + b"more")
    _write(tmp_path / "more")
    assert (tmp_path / "more").read_bytes() == data


@needs_locks
def test_rows_are_kept_up_to_where_it_is_rewound_to(tmp_path):
    path = tmp_path / "rows"
    _write(path, 4)
    with _writer(path) as writer:
        writer.rewind(2)
        for row in -ROWS[2:]:
            writer.write(row)
    np.testing.assert_array_equal(read_rows(path)[0], np.concatenate([ROWS[:2], -ROWS[2:]]))


@needs_locks
def test_rows_of_something_else_are_not_gone_on_with(tmp_path):
    path = tmp_path / "rows"
    _write(path, 3)
    assert _write(path, made_by="somebody else") == 0
    assert read_rows(path)[1] == {"made_by": "somebody else"}


@needs_locks
def test_what_is_being_written_is_not_gone_on_with(tmp_path):
    path = tmp_path / "rows"
    _write(path, 3)
    with _writer(path) as first:
        assert first.written == 3
        assert _write(path) == 0
        np.testing.assert_array_equal(read_rows(path)[0], ROWS)
        for row in ROWS[3:]:
            first.write(row)
    np.testing.assert_array_equal(read_rows(path)[0], ROWS)
    assert list(tmp_path.iterdir()) == [path]


@needs_locks
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_is_interrupted_at_its_very_end_is_gone_on_with(tmp_path, monkeypatch, step):
    path = tmp_path / "rows"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(row_file.os, step, interrupt)
        _write(path)
    assert not path.exists()
    assert _write(path) == 5
    np.testing.assert_array_equal(read_rows(path)[0], ROWS)


@needs_locks
def test_a_finished_file_leaves_no_other_beginnings(tmp_path):
    path = tmp_path / "rows"
    _write(path, 3)
    with _writer(path) as first:
        _write(path, 2)
        assert len(partial_files(path)) == 2
        for row in ROWS[3:]:
            first.write(row)
    assert list(tmp_path.iterdir()) == [path]


@needs_locks
def test_a_file_that_is_deleted_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    lock, deleted = row_file.files.lock, []

    def late(file, **options):
        if not deleted:
            deleted.extend(partial_files(tmp_path / "rows"))
            deleted[0].unlink()
        return lock(file, **options)

    monkeypatch.setattr(row_file.files, "lock", late)
    assert _write(tmp_path / "rows") == 0
    assert deleted
    np.testing.assert_array_equal(read_rows(tmp_path / "rows")[0], ROWS)


@needs_locks
def test_links_and_folders_are_not_gone_on_with(tmp_path):
    path, other = tmp_path / "rows", tmp_path / "other"
    _write(path, 3)
    [left] = partial_files(path)
    left.rename(other)
    left.symlink_to(other)
    (tmp_path / f"{partial_prefix(path)}b").mkdir()
    os.mkfifo(tmp_path / f"{partial_prefix(path)}c")
    before = other.read_bytes()
    assert _write(path) == 0
    assert other.read_bytes() == before


@needs_locks
def test_what_cannot_be_gone_on_with_is_deleted_soon(tmp_path, monkeypatch):
    path = tmp_path / "rows"
    _write(path, 3)
    [left] = partial_files(path)
    hour_ago = left.stat().st_mtime - 3600
    os.utime(left, (hour_ago, hour_ago))
    remove_leftovers(tmp_path)
    assert left.exists()
    monkeypatch.setattr(cache_folder, "this_boot", lambda: "later")
    remove_leftovers(tmp_path)
    assert not left.exists()


@needs_locks
def test_what_a_power_cut_left_is_not_gone_on_with(tmp_path, monkeypatch):
    _write(tmp_path / "rows", 3)
    monkeypatch.setattr(cache_folder, "this_boot", lambda: "later")
    assert _write(tmp_path / "rows") == 0


def test_without_locks_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(row_file, "this_boot", lambda: "")
    _write(tmp_path / "rows", 3)
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_another_shape_is_a_bug_of_the_caller(tmp_path):
    with (
        pytest.raises(ValueError, match="expected"),
        RowWriter(tmp_path / "x", 1, (3,), np.dtype(np.uint8), {}) as writer,
    ):
        writer.write(np.zeros(4, np.uint8))


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_file.os, "fsync", full)
    with (
        pytest.raises(StoreError, match="cannot be written: No space left") as caught,
        RowWriter(tmp_path / "x", 1, (1,), np.dtype(np.uint8), {}) as writer,
    ):
        writer.write(np.zeros(1, np.uint8))
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(row_file.tempfile, "mkstemp", denied)
    with pytest.raises(StoreError, match=r"x: cannot be written: Permission denied"):
        RowWriter(tmp_path / "x", 1, (1,), np.dtype(np.uint8), {})


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "huge header"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "rows"
    with RowWriter(path, 4, (100,), np.dtype(np.float32), {}) as writer:
        for _ in range(4):
            writer.write(np.zeros(100, np.float32))
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[:-1], "empty": b"", "text": b"hello, world", "huge header": b"\xff" * 20}[
            damage
        ]
    )
    with pytest.raises(StoreError, match="not a file of rows") as caught:
        read_rows(path)
    assert str(path) in caught.value.message
    assert "Delete it" in caught.value.hint


def _opened(folder):
    """Files below a folder that this process has open; it may close others at any time."""
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    files = [os.readlink(link) for link in links if os.path.islink(link)]
    return [file for file in files if file.startswith(str(folder))]


@pytest.mark.skipif(not row_file.Path("/proc/self/fd").exists(), reason="Linux only")
def test_no_descriptor_is_left_open(tmp_path):
    for i in range(5):
        with RowWriter(tmp_path / str(i), 1, (), np.dtype(np.uint8), {}) as writer:
            assert _opened(tmp_path)
            writer.write(np.zeros((), np.uint8))
    del writer  # and its rows
    assert not _opened(tmp_path)


def test_what_killed_processes_left_is_deleted_and_what_is_being_written_is_not(tmp_path):
    old, new, other = (tmp_path / name for name in (".partial-old", ".partial-new", "rows"))
    for path in (old, new, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (0, 0))
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-new", "rows"]


@needs_locks
def test_rows_are_in_use_as_soon_as_they_appear(tmp_path):
    """Whoever makes room between the writing of a file and its first reading spares it."""
    path = tmp_path / "x"
    with RowWriter(path, 1, (2,), np.dtype(np.uint8), {}) as writer:
        writer.write(np.arange(2, dtype=np.uint8))
    assert not cache_folder.remove_unused(path)
    assert writer.rows.tolist() == [[0, 1]]
    del writer
    assert cache_folder.remove_unused(path)


@needs_locks
def test_a_file_that_is_still_written_is_never_a_leftover(tmp_path):
    with RowWriter(tmp_path / "x", 1, (), np.dtype(np.uint8), {}) as writer:
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        remove_leftovers(tmp_path)
        writer.write(np.ones((), np.uint8))
    assert read_rows(tmp_path / "x")[0][0] == 1
