"""Opening media: whatever the file holds, a model gets RGB or mono float32; what does not open says which file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import soundfile
from PIL import Image

from harness.errors import SampleError
from harness.media import FORMATS, in_parallel, open_audio, open_image, remembered, threads
from harness.records import Media


def image_media(image: Image.Image, tmp_path: Path, name: str = "picture.png", **options) -> Media:
    path = tmp_path / name
    image.save(path, **options)
    return Media("image", name, path, where="data.jsonl, line 7")


def sound_bytes(sound: np.ndarray, rate: int, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    floats = form == "FLOAT"
    soundfile.write(file, sound, rate, format="WAV" if floats else form, subtype="FLOAT" if floats else None)
    return file.getvalue()


def pixel(media: Media, x: int = 0, y: int = 0) -> tuple[int, int, int]:
    image = open_image(media)
    assert image.mode == "RGB"
    return image.getpixel((x, y))  # pyright: ignore[reportReturnType]


def test_exif_rotation_is_applied(tmp_path):
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    opened = open_image(image_media(picture, tmp_path, "photo.jpg", exif=exif))
    assert opened.size == (20, 40)
    assert opened.getpixel((10, 5)) == (255, 255, 255)
    assert opened.getpixel((10, 35)) == (0, 0, 0)


def test_transparent_parts_become_white_and_half_transparent_ones_are_mixed(tmp_path):
    assert pixel(image_media(Image.new("RGBA", (4, 4), (200, 0, 0, 0)), tmp_path)) == (255, 255, 255)
    assert pixel(image_media(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), tmp_path)) == (127, 127, 127)
    assert pixel(image_media(Image.new("LA", (4, 4), (0, 0)), tmp_path)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # shares of white
        ([0.0, np.nan, 0.2], [0, 0, 51]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([0.0, 1.5, 200.0], [0, 2, 200]),  # numbers of a byte
        ([-1.0, 0.5, 1.0], [0, 0, 1]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
    ],
)
def test_floats_within_0_and_1_are_shares_of_white_and_others_stay_as_they_were(tmp_path, values, grey):
    picture = image_media(Image.fromarray(np.array([values], np.float32)), tmp_path, "floats.tiff")
    assert [pixel(picture, x)[0] for x in range(3)] == grey


def test_a_picture_of_zeros_and_ones_in_bytes_stays_dark(tmp_path):
    assert pixel(image_media(Image.fromarray(np.ones((2, 2), np.uint8)), tmp_path)) == (1, 1, 1)


def test_a_palette_gives_its_colours_and_its_transparent_entry_white(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    assert pixel(image_media(picture, tmp_path)) == (40, 50, 60)
    assert pixel(image_media(picture, tmp_path, "t.png", transparency=1)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    shades = np.array([[0, 257, 32896, 65535]], np.uint16)
    media = image_media(Image.fromarray(shades), tmp_path)
    assert [pixel(media, x)[0] for x in range(4)] == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("mode", "colour", "seen"), [("L", 77, (77,) * 3), ("1", 1, (255,) * 3), ("F", 90.0, (90,) * 3)]
)
def test_grey_bilevel_and_floating_point_images_open(tmp_path, mode, colour, seen):
    assert pixel(image_media(Image.new(mode, (4, 4), colour), tmp_path, "x.tiff")) == seen


def test_cmyk_is_converted(tmp_path):
    red = pixel(image_media(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path, "x.tiff"))
    assert red[0] > 200
    assert max(red[1:]) < 60


def test_bytes_and_arrays_open_as_files_do(tmp_path):
    media = image_media(Image.new("RGB", (4, 4), (1, 2, 3)), tmp_path)
    assert pixel(Media("image", "b", media.source.read_bytes())) == (1, 2, 3)
    assert pixel(Media("image", "a", np.full((4, 4, 3), 9, np.uint8))) == (9, 9, 9)


def broken_images(tmp_path: Path) -> dict[str, bytes | None]:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = image_media(Image.fromarray(noise), tmp_path).source.read_bytes()
    return {"absent": None, "empty": b"", "cut short": whole[: len(whole) // 2], "text": b"this is no picture"}


@pytest.mark.parametrize("fault", ["absent", "empty", "cut short", "text"])
def test_an_image_that_does_not_open_names_file_and_row(tmp_path, fault):
    content = broken_images(tmp_path)[fault]
    path = tmp_path / "坏 (1).png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SampleError, match=r"坏 \(1\).png \(data.jsonl, line 7\) does not open"):
        open_image(Media("image", "k", path, where="data.jsonl, line 7"))


@pytest.mark.parametrize("name", ["drawing.eps", "drawing.png"])
def test_a_file_that_another_program_would_have_to_read_is_no_image(tmp_path, name):
    media = image_media(Image.new("RGB", (8, 8), "red"), tmp_path, name, format="EPS")
    with pytest.raises(
        SampleError, match=rf"{name} \(data.jsonl, line 7\) does not open: this is not an image in a known"
    ):
        open_image(media)


def test_a_medium_whose_source_is_of_another_type_says_which_types_there_are():
    for open_one in (open_image, lambda media: open_audio(media, 16_000)):
        with pytest.raises(SampleError, match="its source is of type int, not a path, bytes or an array"):
            open_one(Media("image", "k", 7, where="row 1"))


@pytest.mark.parametrize("form", FORMATS)
def test_pictures_that_pillow_decodes_itself_open_whatever_they_are_called(tmp_path, form):
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {form}")
    red = pixel(image_media(Image.new("RGB", (16, 16), (255, 0, 0)), tmp_path, "picture", format=form), 8, 8)
    assert red[0] > 245
    assert max(red[1:]) < 10


@pytest.mark.parametrize("form", ["GIF", "MPO", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_seen(tmp_path, form):
    first, *others = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime"))
    red = pixel(image_media(first, tmp_path, f"x.{form.lower()}", format=form, save_all=True, append_images=others))
    assert red[0] > 245
    assert max(red[1:]) < 10


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(SampleError, match="bomb"):
        open_image(Media("image", "k", path))


def test_sound_comes_mono_at_the_rate_asked_for():
    time = np.arange(44_100) / 44_100
    left = np.sin(2 * np.pi * 440 * time).astype(np.float32) * 0.5
    stereo = np.stack([left, np.zeros_like(left)], axis=1)
    sound = open_audio(Media("audio", "s", sound_bytes(stereo, 44_100)), 16_000)
    assert sound.dtype == np.float32
    assert sound.shape == (16_000,)
    assert np.abs(np.fft.rfft(sound)).argmax() == 440
    assert np.abs(sound[2000:14_000]).max() == pytest.approx(0.25, abs=0.01)


def test_an_array_is_resampled_from_its_own_rate():
    media = Media("audio", "s", np.zeros(8_000, np.float32), rate=8_000)
    assert len(open_audio(media, 16_000)) == 16_000
    assert len(open_audio(media, 8_000)) == 8_000


@pytest.mark.parametrize("form", ["WAV", "OGG", "FLAC"])
def test_whole_sounds_open_and_cut_ones_are_refused(tmp_path, form):
    noise = np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32)
    whole = sound_bytes(noise, 16_000, form)
    path = tmp_path / f"sound.{form.lower()}"
    path.write_bytes(whole)
    assert len(open_audio(Media("audio", "s", path), 16_000)) == 30_000
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SampleError, match=r"sound.* \(row 3\) does not open"):
        open_audio(Media("audio", "s", path, where="row 3"), 16_000)


@pytest.mark.parametrize("content", [b"", b"no sound at all", b"RIFF", b"OggS"])
def test_what_is_no_sound_is_refused(content):
    with pytest.raises(SampleError, match="does not open"):
        open_audio(Media("audio", "s", content), 16_000)


def test_a_sound_without_samples_or_with_numbers_that_are_none_is_refused():
    with pytest.raises(SampleError, match="no sound"):
        open_audio(Media("audio", "s", sound_bytes(np.zeros(0, np.float32), 8_000)), 8_000)
    with pytest.raises(SampleError, match="finite"):
        open_audio(Media("audio", "s", np.array([0.0, np.nan], np.float32), rate=8_000), 8_000)


def test_a_medium_opened_again_is_not_decoded_again_while_media_are_remembered(tmp_path):
    media = image_media(Image.new("RGB", (4, 4), "red"), tmp_path)
    sound = Media("audio", "tone", sound_bytes(np.zeros(800), 8_000))
    with remembered():
        assert pixel(media) == (255, 0, 0)
        assert len(open_audio(sound, 8_000)) == 800
        media.source.unlink()
        assert pixel(media) == (255, 0, 0)
        assert len(open_audio(Media("audio", "tone", b""), 8_000)) == 800
        with pytest.raises(SampleError):  # at another rate it is another sound
            open_audio(Media("audio", "tone", b""), 16_000)
    with pytest.raises(SampleError, match="no such file"):
        open_image(media)


def test_whoever_changes_a_remembered_picture_changes_it_for_nobody_else(tmp_path):
    media = image_media(Image.new("RGB", (4, 4), "red"), tmp_path)
    with remembered():
        for _ in range(3):
            image = open_image(media)
            assert image.getpixel((0, 0)) == (255, 0, 0)
            image.putpixel((0, 0), (0, 0, 0))


def test_the_media_asked_for_longest_ago_are_forgotten_when_room_runs_out(tmp_path):
    a, b, c = (image_media(Image.new("RGB", (4, 4), "red"), tmp_path, f"{name}.png") for name in "abc")
    with remembered(room=2 * 4 * 4 * 4):
        for media in (a, b, a, c):
            open_image(media)
        for media in (a, b, c):
            media.source.unlink()
        open_image(a)
        open_image(c)
        with pytest.raises(SampleError):
            open_image(b)


@pytest.mark.parametrize("threads", [1, 3])
def test_media_prepared_side_by_side_come_in_order_and_an_error_is_raised(threads, monkeypatch):
    monkeypatch.setattr("harness.media.threads", lambda: threads)
    together = Barrier(threads)

    def work(item: int) -> int:
        together.wait(timeout=60)  # passes only where so many work at a time
        return 10 // item

    assert in_parallel(work, [1, 2, 5, 10, 3, 4]) == [10, 5, 2, 1, 3, 2]
    with pytest.raises(ZeroDivisionError):
        in_parallel(work, [1, 2, 0])


def test_a_core_is_left_to_the_device(monkeypatch):
    for cores, wanted in ((1, 1), (2, 1), (4, 3), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert threads() == wanted


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "the system's own"])
def test_what_is_not_a_file_of_data_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "the system's own": "/proc/cpuinfo"}[kind])
    with pytest.raises(SampleError, match="not a file of data"):
        open_image(Media("image", "x", path))
    with pytest.raises(SampleError, match="not a file of data"):
        open_audio(Media("audio", "x", path), 16_000)


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (sound_bytes(np.zeros(16, np.float32), 8_000)[:24] + (2**31 - 1).to_bytes(4, "little"), "samples a second"),
        (sound_bytes(np.full(100, 3e38, np.float32), 8_000, "FLOAT"), "which are no sound"),
    ],
)
def test_a_sound_that_cannot_be_one_is_refused_with_the_reason(sound, said):
    whole = sound if said != "samples a second" else sound + sound_bytes(np.zeros(16, np.float32), 8_000)[28:]
    with pytest.raises(SampleError, match=said):
        open_audio(Media("audio", "x", whole), 16_000)
