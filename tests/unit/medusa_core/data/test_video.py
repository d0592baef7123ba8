"""Frames of video files: order, orientation, and files that are damaged or pretend."""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from medusa_core.data import video
from medusa_core.errors import DataError, UsageError

WriteVideo = Callable[..., Path]


def test_frames_come_in_order_with_numbers_and_times(write_video: WriteVideo) -> None:
    for name in ("a.mp4", "a.mkv", "a.avi"):
        frames = list(video.read_frames(write_video(name, 12)))
        assert [frame.number for frame in frames] == list(range(12))
        seconds = [frame.seconds for frame in frames]
        assert seconds == pytest.approx([index / 10 for index in range(12)], abs=0.01)
        levels = [float(np.asarray(frame.image)[-8:].mean()) for frame in frames]
        assert levels == pytest.approx([20 * index for index in range(12)], abs=6)


def test_frames_are_counted_without_decoding(write_video: WriteVideo) -> None:
    for name in ("a.mp4", "a.mkv", "a.avi"):
        assert video.count_frames(write_video(name, 12)) == 12


MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)]
MATRICES += [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize(("degrees", "corner"), [(0, 0), (90, 1), (180, 2), (270, 3)])
def test_frames_are_turned_upright(write_video: WriteVideo, degrees: int, corner: int) -> None:
    """The display is turned counter-clockwise: the bright corner goes top left → bottom left …"""
    path = write_video("a.mp4", 2, rotation=degrees)
    image = next(iter(video.read_frames(path))).image
    assert isinstance(image, np.ndarray)
    assert image.shape == ((64, 48, 3) if degrees % 180 else (48, 64, 3))
    corners = [image[0, 0], image[-1, 0], image[-1, -1], image[0, -1]]
    assert int(np.argmax([pixel[0] for pixel in corners])) == corner


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_frames_are_shown_as_the_display_matrix_says(
    write_video: WriteVideo, matrix: tuple[int, int, int, int]
) -> None:
    """(x, y) → (ax + cy, bx + dy), also where that mirrors the picture."""
    path = write_video("a.mp4", 2)
    raw = bytearray(path.read_bytes())
    [start] = places(raw, b"tkhd")
    a, b, c, d = (sign * 65536 for sign in matrix)
    raw[start + 44 : start + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    plain = next(iter(video.read_frames(path))).image
    path.write_bytes(raw)
    shown = next(iter(video.read_frames(path))).image
    assert isinstance(plain, np.ndarray)
    assert isinstance(shown, np.ndarray)
    height, width = plain.shape[:2]
    expected = np.zeros((width, height, 3) if matrix[0] == 0 else (height, width, 3), np.uint8)
    for y, x in itertools.product(range(height), range(width)):
        across, down = a * x + c * y, b * x + d * y
        expected[down // 65536, across // 65536] = plain[y, x]  # negative ones count from the end
    if matrix[0] == 0:
        expected = np.roll(expected, (-(b < 0), -(c < 0)), (0, 1))
    else:
        expected = np.roll(expected, (-(d < 0), -(a < 0)), (0, 1))
    assert np.array_equal(shown, expected)


def test_a_damaged_frame_is_named_and_others_are_there(write_video: WriteVideo) -> None:
    path = write_video("a.avi", 12)
    raw = bytearray(path.read_bytes())
    chunks = places(raw, b"00dc")
    for place in range(chunks[5] + 8, chunks[6]):
        raw[place] = 0xA5
    path.write_bytes(raw)
    frames = list(video.read_frames(path))
    damaged = [frame for frame in frames if isinstance(frame.image, DataError)]
    assert damaged
    assert "a.avi, frame" in str(damaged[0].image)
    assert len(frames) - len(damaged) > 5


def test_a_video_that_ends_early_says_so(write_video: WriteVideo) -> None:
    path = write_video("a.avi", 12)
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"00dc", len(raw) * 3 // 4)])
    frames = []
    with pytest.raises(DataError, match=r"a\.avi: ends after \d+ of 12 frames"):
        frames.extend(video.read_frames(path))


@pytest.mark.parametrize("times", [range(20), [0, 1, 15, 16, 19]])
def test_a_video_that_counts_no_frames_and_ends_early_says_so(
    tmp_path: Path, times: list[int]
) -> None:
    path = with_gaps(tmp_path / "a.mkv", "mjpeg", list(times))
    assert len(list(video.read_frames(path))) == len(times)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=r"a\.mkv: ends after \d\.\d of 2\.0 seconds"):
        list(video.read_frames(path))


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_frames_that_were_left_out_are_not_missing(tmp_path: Path, codec: str, name: str) -> None:
    """AVI has empty places there, and counts them as frames."""
    path = with_gaps(tmp_path / name, codec, [0, 1, 5, 6, 9])
    frames = list(video.read_frames(path))
    assert [frame.number for frame in frames] == list(range(5))
    seconds = [frame.seconds for frame in frames]
    assert seconds == pytest.approx([0, 0.1, 0.5, 0.6, 0.9], abs=0.01)


@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_a_video_with_frames_left_out_that_ends_early_says_so(tmp_path: Path, left: int) -> None:
    path = with_gaps(tmp_path / "a.avi", "mjpeg", [0, 1, 5, 6, 9])
    raw = path.read_bytes()
    chunks = [place for place in places(raw, b"00dc") if raw[place + 5]]  # of 256 bytes or more
    path.write_bytes(raw[: chunks[left]])
    with pytest.raises(DataError, match=rf"a\.avi: ends after {left} of \d+ frames"):
        list(video.read_frames(path))


def with_gaps(path: Path, codec: str, times: list[int]) -> Path:
    """A video with frames at these tenths of a second."""
    av = video.require_av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 12 * time, np.uint8))
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def places(raw: bytes | bytearray, name: bytes) -> list[int]:
    return [index for index in range(len(raw)) if raw[index : index + 4] == name]


@pytest.mark.parametrize(("first", "shown"), [(0, 12), (5, 7), (3, 4), (0, 6), (11, 1)])
def test_frames_that_an_edit_list_hides_are_not_missing(
    write_video: WriteVideo, first: int, shown: int
) -> None:
    """What is trimmed without encoding it again is still in the file, but never played."""
    path = trimmed(write_video("a.mp4", 12), first, shown)
    assert video.count_frames(path) == shown
    frames = list(video.read_frames(path))
    assert [frame.number for frame in frames] == list(range(shown))
    assert [frame.seconds for frame in frames] == pytest.approx([i / 10 for i in range(shown)])
    levels = [float(np.asarray(frame.image)[-8:].mean()) for frame in frames]
    assert levels == pytest.approx([20 * (first + index) for index in range(shown)], abs=6)


def test_a_trimmed_video_that_ends_early_says_so(write_video: WriteVideo) -> None:
    path = trimmed(write_video("a.mp4", 12, faststart=True), 3, 9)
    path.write_bytes(path.read_bytes()[:-150])
    with pytest.raises(DataError, match=r"a\.mp4: ends after \d of 9 frames"):
        list(video.read_frames(path))


def trimmed(path: Path, first: int, shown: int) -> Path:
    """Have the edit list of an MP4 file with 10 frames a second show these frames only."""
    with video.require_av().open(str(path)) as container:
        step = round(1 / (10 * container.streams.video[0].time_base))
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"elst") + 12  # after name, version and number of entries
    struct.pack_into(">II", raw, entry, shown * 100, first * step)  # milliseconds, ticks
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mp4"):
        list(video.read_frames(path))
    assert video.count_frames(path) == 1  # a picture that fails


def test_a_file_that_is_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "a.mp4", "no such file"), (tmp_path, "not a plain file")):
        with pytest.raises(DataError, match=said):
            list(video.read_frames(path))


def test_huge_frames_are_refused(write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video("a.mp4", 2)
    monkeypatch.setattr(video, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(DataError, match="64×48 is more than"):
        list(video.read_frames(path))


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError) as caught:
        video.require_av()
    assert "medusa-heads[video]" in str(caught.value.hint)


def test_any_bytes_give_frames_or_a_named_error(write_video: WriteVideo, tmp_path: Path) -> None:
    whole = write_video("a.mp4", 6).read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "b.mp4"
    for _ in range(60):
        raw = np.frombuffer(whole, np.uint8).copy()
        raw[random.integers(0, len(raw), 30)] = random.integers(0, 256, 30)
        path.write_bytes(raw.tobytes())
        with suppress(DataError):
            for frame in video.read_frames(path):
                assert isinstance(frame.image, (np.ndarray, DataError))
