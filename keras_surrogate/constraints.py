"""Constraints of latent weights."""

from __future__ import annotations

from typing import Any

import keras

from keras_surrogate import functions


@keras.saving.register_keras_serializable(package="keras_surrogate")
class WeightClip(keras.constraints.Constraint):
    """Clips weights to [-limit, limit] after each update: clip(w, -limit, limit).

        Dense(64, kernel_constraint=WeightClip(1.0))

    It suits the latent weights of a clipped straight-through estimator ("ste_sign"): beyond 1 its
    slope is 0, so that a weight there would never change again.

    Args:
        limit: a positive number, default 1.

    Raises:
        ValueError: `limit` is not a positive number.

    Source: Courbariaux et al. 2015, arXiv:1511.00363.
    """

    limit: float

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = functions.real_number(
            limit, "WeightClip", "limit", "positive", lambda limit: limit > 0
        )

    def __call__(self, w: Any) -> Any:
        return keras.ops.clip(w, -self.limit, self.limit)

    def get_config(self) -> dict[str, Any]:
        return {"limit": self.limit}
