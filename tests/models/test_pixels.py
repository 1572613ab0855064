"""The pixel path, number by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sharegptvideo._io import write_json
from sharegptvideo.errors import UserError
from sharegptvideo.models import VideoPixels


def test_a_pixel_is_rescaled_and_normalised() -> None:
    """With mean (0.5, 0.25, 0) and std (0.5, 0.25, 1): 255 gives 1, 3 and 1; 0 gives -1, -1, 0."""
    pixels = VideoPixels(2, 2, 2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    frames = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    frames[0, 0, 1] = 255
    values = pixels(frames)
    assert values.shape == (1, 3, 2, 2)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values[0, :, 0, 1], torch.tensor([1.0, 3.0, 1.0]))
    torch.testing.assert_close(values[0, :, 1, 0], torch.tensor([-1.0, -1.0, 0.0]))


def test_an_edge_is_resized_as_by_hand() -> None:
    """Keys' cubic (a = -1/2), stretched by the factor 2, halves a 16-wide edge between 7 and 8.

    At distances 1/4, 3/4, 5/4, 7/4 the kernel is 0.8671875, 0.2265625, -0.0703125, -0.0234375;
    the eight taps sum to 2. The output just left of the edge has the bright taps at 3/4, 5/4 and
    7/4: 255 · (0.2265625 - 0.0703125 - 0.0234375) / 2 = 16.93. Its left neighbour has one, at
    7/4: 255 · -0.0234375 / 2 = -2.99, which uint8 cuts to 0. The right side is the mirror image.
    """
    frames = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    frames[:, :, 8:] = 255
    small = VideoPixels(8, 8, 8).resize_and_crop(frames)
    expected = torch.tensor([0, 0, 0, 17, 238, 255, 255, 255], dtype=torch.uint8)
    assert torch.equal(small, expected.expand(1, 3, 8, 8))


def test_the_middle_is_cropped_after_the_short_side_is_resized() -> None:
    frames = np.zeros((2, 4, 10, 3), dtype=np.uint8)
    frames[:] = np.arange(10, dtype=np.uint8)[None, None, :, None]
    cropped = VideoPixels(4, 4, 4).resize_and_crop(frames)
    # 4 is the short side already; (10 - 4) / 2 = 3 columns go on either side.
    assert cropped.shape == (2, 3, 4, 4)
    assert cropped[0, 0, 0].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(100, 75, (298, 224)), (75, 100, (224, 298)), (50, 50, (224, 224))],
)
def test_the_long_side_is_rounded_down(height: int, width: int, size: tuple[int, int]) -> None:
    """224 · 100 / 75 = 298.67, of which 298 stays."""
    frames = np.zeros((1, height, width, 3), dtype=np.uint8)
    wide = VideoPixels(224, *size).resize_and_crop(frames)
    assert wide.shape[-2:] == size


def test_a_crop_larger_than_the_picture_is_padded_with_black() -> None:
    frames = np.full((1, 2, 2, 3), 9, dtype=np.uint8)
    padded = VideoPixels(2, 4, 4).resize_and_crop(frames)
    assert padded[0, 0].tolist() == [[0, 0, 0, 0], [0, 9, 9, 0], [0, 9, 9, 0], [0, 0, 0, 0]]


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        VideoPixels()(np.zeros((8, 4, 4, 3), dtype=np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n×H×W×3"):
        VideoPixels()(np.zeros((4, 4, 3), dtype=np.uint8))


def test_the_saved_processor_is_read(tiny: Path, tmp_path: Path) -> None:
    pixels = VideoPixels.from_pretrained(str(tiny))
    assert (pixels.shortest_edge, pixels.crop_height, pixels.crop_width) == (16, 16, 16)
    # Older repositories keep the image processor's file only.
    old = {"size": {"shortest_edge": 224}, "crop_size": {"height": 200, "width": 210}}
    write_json(tmp_path / "preprocessor_config.json", old)
    pixels = VideoPixels.from_pretrained(str(tmp_path))
    assert (pixels.shortest_edge, pixels.crop_height, pixels.crop_width) == (224, 200, 210)


def test_a_processor_with_other_steps_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "preprocessor_config.json", {"do_center_crop": False})
    with pytest.raises(UserError, match="off: do_center_crop"):
        VideoPixels.from_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="no checkpoint there"):
        VideoPixels.from_pretrained(str(tmp_path / "nothing"))
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="is it a whole model"):
        VideoPixels.from_pretrained(str(tmp_path))


def test_an_image_of_the_authors_is_squared_and_resized_as_by_hand() -> None:
    """Keys' cubic with a = -3/4 on the four nearest pixels, not stretched, halves the same edge.

    Half a pixel from a tap it is 0.59375, one and a half -0.09375. Left of the edge the one bright
    tap is at 3/2: 255 · -0.09375 = -23.90625; right of it the one dark tap: 255 · 1.09375. Nothing
    is cut to 0..255. Above and below stand four rows of the mean (0.5, 0.25, 0).
    """
    frames = np.zeros((1, 8, 16, 3), dtype=np.uint8)
    frames[:, :, 8:] = 255
    mean = (0.5, 0.25, 0.0)
    pixels = VideoPixels(8, 8, 8, mean, antialias=False, pad=True)
    small = pixels.resize_and_crop(frames)
    assert small.shape == (1, 3, 8, 8)
    edge = torch.tensor([0, 0, 0, -23.90625, 278.90625, 255, 255, 255])
    whole = np.concatenate([frames, frames], 1)  # a square already
    torch.testing.assert_close(pixels.resize_and_crop(whole), edge.expand(1, 3, 8, 8))
    # The picture is rows 4 to 11 of 16; output rows 3 and 4 read rows 5 to 10.
    torch.testing.assert_close(small[:, :, 3:5], edge.expand(1, 3, 2, 8))
    above = small[0, :, 0]  # three rows from the picture: mean alone
    torch.testing.assert_close(above, torch.tensor([[127.0], [63.0], [0.0]]).expand(3, 8))


def test_images_have_settings_of_their_own(tmp_path: Path) -> None:
    from sharegptvideo.models.pixels import authors_processor

    write_json(tmp_path / "processor_config.json", authors_processor(28, 14))
    clip = VideoPixels.from_pretrained(str(tmp_path))
    image = VideoPixels.from_pretrained(str(tmp_path), "image")
    assert (clip.bilinear, clip.antialias, clip.pad) == (True, False, False)
    assert (image.bilinear, image.antialias, image.pad) == (False, False, True)
    write_json(tmp_path / "processor_config.json", {"video_processor": {"resample": 3}})
    same = VideoPixels.from_pretrained(str(tmp_path), "image")
    assert same == VideoPixels.from_pretrained(str(tmp_path))
