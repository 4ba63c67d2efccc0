"""Base class of this package's callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import keras


class Callback(keras.callbacks.Callback):
    """A callback that can be copied and pickled after a fit, as tuners do it.

    The copy does not contain the model. A subclass names in `_of_the_fit` the attributes that
    belong to one fit, with their values before a fit; the copy has these values.
    """

    _of_the_fit: ClassVar[Mapping[str, object]] = MappingProxyType({})

    def __getstate__(self) -> dict[str, Any]:
        kept = {
            name: value for name, value in vars(self).items() if not isinstance(value, keras.Model)
        }
        without_model = dict.fromkeys(vars(self).keys() - kept.keys())
        return {**kept, **without_model, **self._of_the_fit}
