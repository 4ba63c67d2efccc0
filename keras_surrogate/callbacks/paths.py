"""Paths of files that are chosen when `fit` begins."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from keras_surrogate.files import check_writable

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike

_TRIAL = "{trial}"


def check_path(path: PathLike | Callable[[keras.Model], PathLike]) -> None:
    """Check that a path can be written. A function is not checked: it needs the model.

    Raises:
        ValueError: the path cannot be written.
    """
    if not callable(path):
        check_writable(str(path).replace(_TRIAL, "0"))


def resolved(path: PathLike | Callable[[keras.Model], PathLike], model: keras.Model) -> Path:
    """The path to write to.

    Args:
        path: a path, in which "{trial}" stands for the first number, counted from 0, for which no
            file exists yet; or a function from the model to such a path.
        model: the model that is fitted.
    """
    if callable(path):
        path = path(model)
    path = str(path)
    if _TRIAL not in path:
        return Path(path)
    candidates = (Path(path.replace(_TRIAL, str(number))) for number in itertools.count())
    return next(candidate for candidate in candidates if not candidate.exists())
