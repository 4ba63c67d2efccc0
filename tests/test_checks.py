"""Checks of arguments that several modules share."""

import numpy as np
import pytest

from keras_surrogate import checks


@pytest.mark.parametrize("number", [2, np.int64(2), np.uint8(2)])
def test_integers_of_every_kind(number):
    assert checks.integer(number, "every") == 2
    assert type(checks.integer(number, "every")) is int


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "2", None])
def test_what_is_no_integer_of_at_least_one(number):
    with pytest.raises(ValueError, match=r"every must be an integer of at least 1, but is"):
        checks.integer(number, "every")


def test_one_of():
    assert checks.one_of("raw", "kind", (None, "raw")) == "raw"
    with pytest.raises(
        ValueError, match=r"kind must be one of None, 'raw', but is 'rwa'. Did you mean 'raw'\?"
    ):
        checks.one_of("rwa", "kind", (None, "raw"))
    with pytest.raises(ValueError, match=r"but is 3\.$"):
        checks.one_of(3, "kind", (None, "raw"))
