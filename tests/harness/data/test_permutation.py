import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.data.permutation import mix, permute


def test_mix_is_the_finaliser_of_splitmix64():
    # First outputs of splitmix64 from state 0, as published with the reference implementation.
    states = np.asarray([0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A, 0xDAA66D2C7DDF743F], dtype=np.uint64)
    assert [hex(value) for value in mix(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


@given(st.integers(1, 3000), st.integers(-(2**63), 2**63 - 1))
def test_every_key_gives_a_bijection(size, key):
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


@given(st.integers(2, 2**40), st.integers(0, 2**40), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_large_domains_stay_inside_and_injective(size, key, values):
    index = np.unique(np.asarray(values) % size)
    image = permute(index, size, key)
    assert ((image >= 0) & (image < size)).all()
    assert len(np.unique(image)) == len(index)


@given(st.integers(1, 2**40), st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(0, 2**40), min_size=1))
def test_the_inverse_finds_the_index_of_every_image(size, key, values):
    index = np.asarray(values) % size
    assert (permute(permute(index, size, key), size, key, inverse=True) == index).all()


def test_a_key_an_index_equals_one_key_for_all():
    index, keys = np.arange(50), np.arange(50) % 3
    together = permute(index, 50, keys)
    for key in range(3):
        assert (together[keys == key] == permute(index, 50, key)[keys == key]).all()


def test_over_keys_every_image_is_equally_likely():
    for size in (5, 16, 37):
        keys = np.arange(20_000)
        for index in (0, size - 1):
            counts = np.bincount(permute(np.full(len(keys), index), size, keys), minlength=size)
            assert stats.chisquare(counts).pvalue > 1e-4


def test_pairs_of_images_are_independent_over_keys():
    size, keys = 6, np.arange(30_000)
    first, second = (permute(np.full(len(keys), index), size, keys) for index in (2, 3))
    counts = np.bincount(first * size + second, minlength=size * size).reshape(size, size)
    assert (np.diag(counts) == 0).all()
    assert stats.chisquare(counts[~np.eye(size, dtype=bool)]).pvalue > 1e-4
