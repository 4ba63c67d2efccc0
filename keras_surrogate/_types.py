"""Types of arguments that several rooms share. Import them under `if TYPE_CHECKING:` only."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from keras_surrogate.functions.base import Function
    from keras_surrogate.surrogate import Surrogate

# Arguments of `functions.get`: a name, a configuration, an elementwise callable or a `Function`.
FunctionLike: TypeAlias = "str | dict[str, object] | Callable[..., object] | Function"
# Arguments of `keras_surrogate.get`: the same, the name of a preset or a `Surrogate`.
SurrogateLike: TypeAlias = "FunctionLike | Surrogate"
PathLike: TypeAlias = "str | os.PathLike[str]"
