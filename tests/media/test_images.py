"""Still images: found by their paths, and read as RGB whatever they are in the file."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sharegptvideo.errors import MediaError, UserError
from sharegptvideo.media import ImageFolder, read_image
from sharegptvideo.media.images import MAX_IMAGE_PIXELS

# Two rows of three pixels: colours that tell rows, columns and channels apart.
PIXELS = np.array(
    [[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[9, 9, 9], [120, 120, 120], [250, 250, 0]]],
    np.uint8,
)


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@pytest.fixture
def png(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


# Where an image lies.


def test_an_image_lies_at_its_path(tmp_path: Path) -> None:
    put(tmp_path, "coco/train/1.jpg", "2.PNG")
    folder = ImageFolder(tmp_path)
    assert folder.resolve("coco/train/1.jpg") == tmp_path / "coco/train/1.jpg"
    assert folder.locate("./coco//train/1.jpg") == "coco/train/1.jpg"
    assert folder.locate("2.PNG") == "2.PNG"
    for absent in ("train/1.jpg", "1.jpg", "coco/1.jpg", "x/coco/train/1.jpg", "coco/train/1.png"):
        assert folder.resolve(absent) is None
    put(tmp_path, "coco/1.jpg")
    assert folder.locate("coco/1.jpg") == "coco/1.jpg", "added later"


def test_the_root_may_be_one_of_the_folders_that_the_path_names(tmp_path: Path) -> None:
    put(tmp_path, "allava_laion/images/1.jpeg")
    for root in ("allava_laion", "allava_laion/images"):
        folder = ImageFolder(tmp_path / root)
        expected = tmp_path / "allava_laion/images/1.jpeg"
        assert folder.resolve("allava_laion/images/1.jpeg") == expected
        assert folder.resolve("allava_vflan/images/1.jpeg") is None, "another set's image"


@pytest.mark.parametrize(
    "place",
    [
        "allava_laion/images/1.jpeg",
        "allava_laion/images/images_3/1.jpeg",
        "allava_laion/image_chunks/images_3/1.jpeg",
        "allava_laion/image_chunks/images_3/deep/er/1.jpeg",
        "image_chunks/images_3/1.jpeg",
    ],
)
def test_archives_of_allava_however_they_were_unpacked(tmp_path: Path, place: str) -> None:
    put(tmp_path, place, "allava_laion/image_chunks/images_4/2.jpeg")
    assert ImageFolder(tmp_path).locate("allava_laion/images/1.jpeg") == place


@pytest.mark.parametrize(
    "place",
    [
        "allava_vflan/images/images_191task_1k/q.png",
        "allava_vflan/images/image_191-task_1k/images_191task_1k/q.png",
        "allava_vflan/images_191task_1k/q.png",
        "image_191-task_1k/images_191task_1k/q.png",
        "images_191task_1k/q.png",
    ],
)
def test_archive_of_vision_flan_however_it_was_unpacked(tmp_path: Path, place: str) -> None:
    put(tmp_path, place)
    folder = pickle.loads(pickle.dumps(ImageFolder(tmp_path)))
    assert folder.locate("allava_vflan/images/images_191task_1k/q.png") == place


def test_two_that_fit_are_an_error_unless_one_is_at_the_path(tmp_path: Path) -> None:
    put(tmp_path, *(f"allava_laion/image_chunks/images_{n}/1.jpeg" for n in (1, 2)))
    with pytest.raises(MediaError, match=r"1.jpeg' fits .*images_1/1.jpeg and .*images_2/1.jpeg;"):
        ImageFolder(tmp_path).resolve("allava_laion/images/1.jpeg")
    put(tmp_path, "allava_laion/images/1.jpeg")
    path = ImageFolder(tmp_path).locate("allava_laion/images/1.jpeg")
    assert path == "allava_laion/images/1.jpeg"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x.jpg", "a/../../x.jpg", "a\0b", "."])
def test_what_is_no_path_below_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="is not the path of an image"):
        ImageFolder(tmp_path).resolve(name)


def test_names_that_no_disk_has(tmp_path: Path) -> None:
    assert ImageFolder(tmp_path).resolve("x" * 5000 + ".jpg") is None
    with pytest.raises(UserError, match="no such folder of media"):
        ImageFolder(tmp_path / "nowhere")


# What is read of it.


def test_rgb_as_it_is(png: Path) -> None:
    Image.fromarray(PIXELS).save(png)
    read = read_image(png)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, PIXELS)
    np.testing.assert_array_equal(read_image(str(png)), PIXELS)


def test_transparency_is_dropped(png: Path) -> None:
    alpha = np.array([[[0], [128], [255]]] * 2, np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], 2)).save(png)
    np.testing.assert_array_equal(read_image(png), PIXELS)
    grey = Image.merge("LA", [Image.new("L", (3, 2), 77), Image.new("L", (3, 2), 5)])
    grey.save(png)
    np.testing.assert_array_equal(read_image(png), np.full((2, 3, 3), 77))


@pytest.mark.parametrize("transparent", [None, 0, b"\x00\x80\xff"])
def test_a_palette(png: Path, transparent: int | bytes | None) -> None:
    image = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), "P")
    image.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    image.save(png, **({} if transparent is None else {"transparency": transparent}))
    expected = PIXELS[0][[0, 1, 2, 2, 1, 0]].reshape(2, 3, 3)
    np.testing.assert_array_equal(read_image(png), expected)


def test_grey_and_one_bit(png: Path) -> None:
    Image.fromarray(PIXELS[:, :, 0]).save(png)
    np.testing.assert_array_equal(read_image(png), np.repeat(PIXELS[:, :, :1], 3, 2))
    Image.fromarray(PIXELS[:, :, 0] > 100).save(png)
    expected = np.where(PIXELS[:, :, :1] > 100, 255, 0).repeat(3, 2)
    np.testing.assert_array_equal(read_image(png), expected)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_by_their_upper_eight(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 255, 256], [32_768, 65_280, 65_535]], np.uint16)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(levels).save(path)
    np.testing.assert_array_equal(read_image(path), (levels >> 8)[:, :, None].repeat(3, 2))


def test_cmyk(tmp_path: Path) -> None:
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    flat.save(tmp_path / "a.jpg", quality=100)
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == (16, 16, 3)
    assert np.abs(read.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, PIXELS),
        (2, PIXELS[:, ::-1]),
        (3, PIXELS[::-1, ::-1]),
        (6, np.rot90(PIXELS, -1)),
        (8, np.rot90(PIXELS)),
    ],
)
def test_upright_as_exif_says(png: Path, orientation: int, turned: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(png, exif=exif)
    np.testing.assert_array_equal(read_image(png), turned)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif")[0, 0], [255, 0, 0])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff"])
def test_truncated_and_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.1):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MediaError) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: cannot be read (")
    path.write_bytes(b"")
    with pytest.raises(MediaError, match=r"cannot be read \(no image, or of an unknown format\)"):
        read_image(path)


@pytest.mark.parametrize(
    "content", [b"404: Not Found", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_no_image(png: Path, content: bytes) -> None:
    png.write_bytes(content)
    with pytest.raises(MediaError, match=r"a.png: cannot be read \(no image, or of an unknown"):
        read_image(png)


def test_floating_point_has_no_white(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match="floating-point pixels, whose white is not known"):
        read_image(tmp_path / "a.tiff")


def test_decompression_bomb(png: Path) -> None:
    """A header of more pixels than the limit is enough: nothing is decoded."""
    Image.new("1", (20_000, 10_000)).save(png)
    assert png.stat().st_size < 50_000
    assert MAX_IMAGE_PIXELS < 20_000 * 10_000
    with pytest.raises(MediaError, match=r"cannot be read \(.*pixels"):
        read_image(png)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone.jpg: cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(MediaError, match="Is a directory"):
        read_image(tmp_path)


def _encoded(form: str) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(noise).save(out, form)
    return out.getvalue()


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_any_bytes_are_an_image_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, form: str, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(_encoded(form))
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("image") / "a.img"
    path.write_bytes(content)
    try:
        read = read_image(path)
    except MediaError as error:
        message = str(error)
    else:
        message = ""
        assert (read.ndim, read.shape[2], read.dtype) == (3, 3, np.uint8)
    assert "\n" not in message
