"""Reading and writing video."""

from __future__ import annotations

import logging
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mvai.io import video_file
from mvai.io.video import natural_order, open_video, write_video
from mvai.types import MvaiError


def clip(
    path: Path,
    frames: int = 10,
    size: tuple[int, int] = (64, 48),
    pts: list[int] | None = None,
    rotation: int | None = None,
    hflip: bool = False,
) -> Path:
    """A clip whose frame i has a red top and the gray level 20 i below; pts in 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "bf": "0"}
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a display matrix")
            stream.set_display_rotation(rotation, hflip=hflip)
        for i in range(frames):
            image = np.full((size[1], size[0], 3), 20 * i % 240, np.uint8)
            image[: size[1] // 4] = (255, 0, 0)
            image[:, : size[0] // 8] = (0, 255, 0)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[i], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def level(image: np.ndarray) -> int:
    """Which frame of `clip` this is."""
    return round(float(image[-8:, -8:].mean()) / 20)


def test_reads_every_frame_in_order(tmp_path: Path) -> None:
    video = open_video(clip(tmp_path / "a.mp4"))
    assert (video.fps, video.frames, video.width, video.height) == (30.0, 10, 64, 48)
    assert [level(f) for f in video.iterate()] == list(range(10))
    assert [level(f) for f in video.iterate(start=4, step=3)] == [4, 7]
    assert [level(f) for f in video.read([7, 2, 7])] == [7, 2, 7]
    with pytest.raises(MvaiError, match="no frame 10"):
        video.read([10])


def test_scales_to_a_height_or_a_longer_side(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4")
    assert next(open_video(path, max_height_px=24).iterate()).shape == (24, 32, 3)
    assert next(open_video(path).fitted(32).iterate()).shape == (24, 32, 3)
    assert next(open_video(path, max_height_px=500).iterate()).shape == (48, 64, 3)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_honoured(tmp_path: Path, rotation: int, turns: int) -> None:
    plain = next(open_video(clip(tmp_path / "a.mp4")).iterate())
    turned = next(open_video(clip(tmp_path / "b.mp4", rotation=rotation)).iterate())
    difference = np.abs(np.rot90(plain, turns).astype(int) - turned)
    assert difference.mean() < 4


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1)])
def test_mirroring_is_honoured(tmp_path: Path, rotation: int, turns: int) -> None:
    plain = next(open_video(clip(tmp_path / "a.mp4")).iterate())
    path = clip(tmp_path / "b.mp4", rotation=rotation, hflip=True)
    turned = next(open_video(path).iterate())
    mirrored = np.rot90(plain, turns)[:, ::-1]
    assert np.abs(mirrored.astype(int) - turned).mean() < 4


def test_variable_rate_is_resampled_to_the_nearest_frame(tmp_path: Path) -> None:
    # 25 frames a second with a pause of 200 ms after frame 3.
    pts = [0, 40, 80, 120, 320, 360, 400, 440]
    video = open_video(clip(tmp_path / "a.mp4", frames=8, pts=pts))
    assert video.fps == pytest.approx(25.0)
    got = [level(f) for f in video.iterate()]
    assert got == [0, 1, 2, 3, 3, 3, 4, 4, 4, 5, 6, 7] or got == [
        0, 1, 2, 3, 3, 3, 3, 4, 4, 5, 6, 7,
    ]  # fmt: skip
    assert video.frames == len(got)
    assert [level(f) for f in video.iterate(start=3, step=4)] == got[3::4]


def test_jitter_is_not_a_variable_rate(tmp_path: Path) -> None:
    pts = [0, 33, 67, 104, 133, 163, 200, 233, 265, 300]
    video = open_video(clip(tmp_path / "a.mp4", pts=pts))
    assert video.fps == pytest.approx(30, rel=0.01)
    assert [level(f) for f in video.iterate()] == list(range(10))


def test_gif_and_odd_sizes(tmp_path: Path) -> None:
    images = [Image.fromarray(np.full((31, 45, 3), 20 * i, np.uint8)) for i in range(6)]
    path = tmp_path / "a.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    video = open_video(path)
    assert (video.width, video.height) == (45, 31)
    assert video.fps == pytest.approx(10)
    assert [level(f) for f in video.iterate()] == list(range(6))


def test_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    for i in (10, 2, 1):
        Image.fromarray(np.full((30, 40, 3), 20 * i, np.uint8)).save(tmp_path / f"f{i}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    video = open_video(tmp_path, folder_fps=12)
    assert (video.fps, video.frames, video.width, video.height) == (12, 3, 40, 30)
    assert [level(f) for f in video.iterate()] == [1, 2, 10]
    assert next(video.fitted(20).iterate()).shape == (15, 20, 3)
    Image.fromarray(np.zeros((31, 40, 3), np.uint8)).save(tmp_path / "f3.png")
    with pytest.raises(MvaiError, match=r"f3\.png.*40x31"):
        list(open_video(tmp_path).iterate())


def test_natural_order() -> None:
    names = ["a10b1", "a2b10", "a2b9", "b1", "1"]
    assert sorted(map(Path, names), key=natural_order) == [
        Path(n) for n in ("1", "a2b9", "a2b10", "a10b1", "b1")
    ]


def test_a_part_is_a_video_of_its_own(tmp_path: Path) -> None:
    video = open_video(clip(tmp_path / "a.mp4"))
    part = video.between(0.1, 0.3)
    assert (part.frames, part.first, part.fps) == (6, 3, video.fps) and part.whole is video
    assert [level(f) for f in part.iterate()] == [3, 4, 5, 6, 7, 8]
    assert [level(f) for f in part.iterate(1, 2)] == [4, 6, 8]
    assert [level(f) for f in part.fitted(32).read([5, 0])] == [8, 3]
    assert list(part.iterate(6)) == []
    inner = part.between(None, 0.1)
    assert [level(f) for f in inner.iterate()] == [3, 4, 5] and inner.whole is video
    assert part.between(0.1, 9.0).first == 6
    assert video.between(None, None) is video


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every frame that is decoded."""
    seen: list[int] = []
    decode = video_file.decoded_frames

    def counting(*args):
        for frame in decode(*args):
            seen.append(1)
            yield frame

    monkeypatch.setattr(video_file, "decoded_frames", counting)
    return seen


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
@pytest.mark.parametrize("uneven", [False, True])
def test_what_comes_before_a_part_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, uneven: bool
) -> None:
    rng = np.random.default_rng(0)
    pts = None
    if uneven:
        if name == "a.avi":
            pytest.skip("AVI has a constant rate")
        pts = np.cumsum(rng.choice([20, 40, 40, 40, 120], 60)).tolist()
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4" if name == "a.avi" else "libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size = 10
        stream.max_b_frames = 0 if name == "a.avi" else 3
        if pts:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(60):
            image = rng.integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts:
                frame.pts, frame.time_base = pts[i], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    video = open_video(path)
    whole = list(video.iterate())
    assert len(whole) == video.frames
    seen = counted(monkeypatch)
    for start in (1, 9, 10, 11, 33, 50, len(whole) - 1):
        seen.clear()
        part = list(video.part(start, len(whole)).iterate())
        assert len(part) == len(whole) - start
        assert all(np.array_equal(a, b) for a, b in zip(part, whole[start:], strict=True))
    # The last frame alone is at most two groups of pictures away.
    assert len(seen) <= (60 if name == "a.ts" else 20)


@pytest.mark.parametrize(("start", "end"), [(0.34, None), (0.2, 0.2), (0.2, 0.1), (-1.0, 0.2)])
def test_a_part_that_is_nothing_is_refused(tmp_path: Path, start, end) -> None:
    video = open_video(clip(tmp_path / "a.mp4"))
    with pytest.raises(MvaiError, match=r"a\.mp4: nothing is shown from .* lasts 0\.33 s"):
        video.between(start, end)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    video = open_video(clip(tmp_path / "a.mp4", frames=60, size=(320, 240)))
    one = 320 * 240 * 3
    tracemalloc.start()
    for _ in video.iterate():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * one


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        samples = np.zeros((1, 44100), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return path


def no_frames(path: Path) -> Path:
    clip(path, frames=1)
    with av.open(str(path)) as source, av.open(str(path.with_name("zero.mkv")), "w") as out:
        out.add_stream_from_template(source.streams.video[0])
        out.start_encoding()
    return path.with_name("zero.mkv")


def test_bad_input_is_named_in_one_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "notes.txt"
    text.write_text("This is a text.\n" * 50)
    fake = tmp_path / "fake.mp4"
    fake.write_text("This is a text.\n" * 50)
    headless = tmp_path / "cut.mp4"
    whole = clip(tmp_path / "whole.mp4").read_bytes()
    headless.write_bytes(whole[: len(whole) // 2])
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n")
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "1.png").write_bytes(b"\x89PNG\r\n")
    cases = {
        tmp_path / "missing.mp4": "no such file",
        empty: "empty",
        text: "not a video",
        fake: "not a video",
        headless: "cut off",
        playlist: "not a video",
        hollow: "no images",
        broken: "cannot be read",
        sound_only(tmp_path / "sound.m4a"): "only sound",
        no_frames(tmp_path / "one.mp4"): "no frame|not a video",
    }
    for path, what in cases.items():
        with pytest.raises(MvaiError, match=what) as error:
            open_video(path)
        assert path.name in str(error.value)
        assert str(error.value).count("\n") == 0


def test_cut_off_video_gives_what_it_has(tmp_path: Path, caplog) -> None:
    whole = clip(tmp_path / "a.mkv", frames=60, size=(320, 240)).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: int(0.6 * len(whole))])
    with caplog.at_level(logging.WARNING):
        video = open_video(path)
        got = [level(f) for f in video.iterate()]
    assert 10 < len(got) < 60
    assert abs(video.frames - len(got)) <= 1


def test_damaged_index_promises_more_than_there_is(tmp_path: Path, caplog) -> None:
    whole = clip(tmp_path / "a.mp4", frames=60, size=(320, 240))
    fast = tmp_path / "fast.mp4"
    with av.open(str(whole)) as source:
        out = av.open(str(fast), "w", options={"movflags": "faststart"})
        with out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    data = fast.read_bytes()
    fast.write_bytes(data[: int(0.7 * len(data))])
    with caplog.at_level(logging.WARNING):
        video = open_video(fast)
        count = sum(1 for _ in video.iterate())
    assert 5 < count < 60
    assert "fast.mp4" in caplog.text and "60" in caplog.text


def test_written_video_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with write_video(path, 24.0, 41, 31) as writer:
        for i in range(12):
            writer.write(np.full((31, 41, 3), 20 * i, np.uint8))
    video = open_video(path)
    assert (video.fps, video.width, video.height) == (24.0, 42, 32)
    assert [level(f) for f in video.iterate()] == list(range(12))


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt), write_video(path, 24.0, 40, 30) as writer:
        writer.write(np.zeros((30, 40, 3), np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(MvaiError, match="nowhere"),
        write_video(tmp_path / "nowhere" / "out.mp4", 24.0, 40, 30),
    ):
        pass
