"""Strips and films of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from coursekit.errors import ArgumentError
from coursekit.plots import save
from coursekit.rl import draw, filmstrip, save_animation

FRAMES = draw(np.linspace([-1, 0, -0.1, 0], [1, 0, 0.1, 0], 6), width=60)


def test_a_strip_shows_every_picture_with_its_label(tmp_path):
    figure = filmstrip(FRAMES, [f"{n} s" for n in range(6)], title="A pole", columns=4)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in shown] == [f"{n} s" for n in range(6)]
    for axes, frame in zip(shown, FRAMES, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), frame)
    assert save(figure, tmp_path, "film", alt="A pole on a cart.").png.stat().st_size > 1000


def test_an_animation_holds_every_picture(tmp_path):
    path = save_animation(FRAMES, tmp_path / "pole.gif", frames_per_second=20)
    with Image.open(path) as film:
        assert (film.format, film.n_frames, film.size, film.info["duration"]) == ("GIF", 6, (60, 30), 50)  # pyright: ignore
        film.seek(3)
        seen = np.asarray(film.convert("RGB"), float)
    assert np.abs(seen - FRAMES[3]).mean() < 3, "a palette of 256 colours is enough"


def test_what_is_no_film_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="a label for each"):
        filmstrip(FRAMES, ["one"], title="A pole")
    with pytest.raises(ArgumentError, match="pictures"):
        save_animation(FRAMES[:0], tmp_path / "none.gif")
