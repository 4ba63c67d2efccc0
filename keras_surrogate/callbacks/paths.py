"""Names of files that are made up when `fit` begins."""

import itertools
from pathlib import Path

from keras_surrogate.files import check_writable

_TRIAL = "{trial}"


def check_path(path):
    """Raises a ValueError if a path cannot be written; a function is asked only when `fit` begins."""
    if not callable(path):
        check_writable(str(path).replace(_TRIAL, "0"))


def resolved(path, model):
    """The path to write to.

    Args:
        path: a path, in which "{trial}" stands for the first number from 0 on of which there is no
            file yet; or a function from the model to a path.
        model: the model that is fitted.
    """
    path = str(path(model) if callable(path) else path)
    if _TRIAL not in path:
        return Path(path)
    candidates = (Path(path.replace(_TRIAL, str(number))) for number in itertools.count())
    return next(candidate for candidate in candidates if not candidate.exists())
