"""Faults of replaced weights over an epoch, from the quantities "flips" and "levels"."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from keras_surrogate import thresholds
from keras_surrogate.records import Record

WeightKind: TypeAlias = Literal["frozen", "unstable", "one_level"]


class WeightFault(NamedTuple):
    """A fault of a layer's weights: its kind, the layer, the number and a sentence."""

    kind: WeightKind
    layer: str
    value: float
    what: str


class WeightFaults:
    """The faults of an epoch, each reported once until it ends."""

    def __init__(self) -> None:
        self._already: set[tuple[WeightKind, str]] = set()
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self._flips: list[np.ndarray] = []

    def see(self, record: Record) -> None:
        """Note the flips of recorded steps."""
        if "flips" in record.quantities:
            self._flips.extend(record["flips"])

    def found(self, newest: Record) -> list[WeightFault]:
        """The faults that are new at the end of an epoch, whose last recorded step is `newest`."""
        faults = [*self._of_flips(newest), *_of_levels(newest)]
        new = [fault for fault in faults if (fault.kind, fault.layer) not in self._already]
        self._already = {(fault.kind, fault.layer) for fault in faults}
        return new

    def _of_flips(self, newest: Record) -> list[WeightFault]:
        if not self._flips:
            return []
        flips = np.array(self._flips)
        faults = []
        for layer, shares in zip(newest.names("flips"), flips.T, strict=True):
            if np.all(shares == 0):
                what = f"no weight of {layer} changed its level in the recorded steps of the epoch"
                faults.append(WeightFault("frozen", layer, 0.0, what))
            elif np.all(shares > thresholds.FLIPPING):
                least = float(shares.min())
                what = (
                    f"{least:.0%} or more of the weights of {layer} changed their level in each "
                    "recorded step of the epoch"
                )
                faults.append(WeightFault("unstable", layer, least, what))
        return faults


def _of_levels(newest: Record) -> list[WeightFault]:
    if "largest_level" not in newest.quantities:
        return []
    return [
        WeightFault("one_level", layer, 1.0, f"all weights of a kernel of {layer} have one level")
        for layer, share in zip(
            newest.names("largest_level"), newest["largest_level"][0], strict=True
        )
        if share == 1
    ]
