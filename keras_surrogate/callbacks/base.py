"""What all callbacks of this package have in common."""

from types import MappingProxyType

import keras


class Callback(keras.callbacks.Callback):
    """A callback that can be copied and pickled after a fit, as tuners do it: without the model it was used with.

    A subclass names in `_of_the_fit` the attributes that belong to a fit, with the value that they
    have before one.
    """

    _of_the_fit = MappingProxyType({})

    def __getstate__(self):
        kept = {
            name: value for name, value in vars(self).items() if not isinstance(value, keras.Model)
        }
        without_model = dict.fromkeys(vars(self).keys() - kept.keys())
        return {**kept, **without_model, **self._of_the_fit}
