"""Faults of spiking layers over an epoch, from the quantity "spikes"."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from keras_surrogate.records import Record

SpikeKind: TypeAlias = Literal["silent", "always_firing"]

_QUANTITIES: dict[SpikeKind, str] = {
    "silent": "silent_units",
    "always_firing": "always_firing_units",
}
_WHAT: dict[SpikeKind, str] = {
    "silent": "did not fire",
    "always_firing": "fired in every time step",
}


class SpikeFault(NamedTuple):
    """A fault of a spiking layer: its kind, the layer, the number and a sentence."""

    kind: SpikeKind
    layer: str
    value: float
    what: str


class SpikeFaults:
    """The faults of an epoch, each reported once until it ends.

    Args:
        limits: for each kind the share of units above which it is a fault, or None.
    """

    def __init__(self, limits: dict[SpikeKind, float | None]) -> None:
        self._limits = limits
        self._already: set[tuple[SpikeKind, str]] = set()
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self._shares: dict[SpikeKind, list[np.ndarray]] = {kind: [] for kind in _QUANTITIES}

    def see(self, record: Record) -> None:
        """Note the shares of recorded steps."""
        for kind, quantity in _QUANTITIES.items():
            if quantity in record.quantities:
                self._shares[kind].extend(record[quantity])

    def found(self, newest: Record) -> list[SpikeFault]:
        """The faults that are new at the end of an epoch, whose last recorded step is `newest`."""
        faults = [fault for kind in _QUANTITIES for fault in self._of(kind, newest)]
        new = [fault for fault in faults if (fault.kind, fault.layer) not in self._already]
        self._already = {(fault.kind, fault.layer) for fault in faults}
        return new

    def _of(self, kind: SpikeKind, newest: Record) -> list[SpikeFault]:
        limit = self._limits[kind]
        if limit is None or not self._shares[kind]:
            return []
        # The smallest share of all steps; a fault holds in each of them.
        least = np.min(self._shares[kind], axis=0)
        return [
            SpikeFault(
                kind,
                layer,
                float(share),
                f"{share:.0%} or more of the units of {layer} {_WHAT[kind]} in each recorded step "
                "of the epoch",
            )
            for layer, share in zip(newest.names(_QUANTITIES[kind]), least, strict=True)
            if share > limit
        ]
