"""A second opinion on any model: one batch, a number for everything that commonly goes wrong, and what to change.

    result = diagnosis.diagnose(model, x, y)        or diagnose(model, dataset)
    result.print()          the table with its legend, then the findings, the gravest first
    result.rows             the same as objects; result.findings, result.to_dict(), plots.diagnosis(result)

Nothing is trained. `Row` says what is measured, `keras_surrogate.thresholds` from where on it is a
finding and why, `advice` what then helps and where that is known from.
"""

from keras_surrogate.diagnosis.batches import Batch
from keras_surrogate.diagnosis.cases import Finding
from keras_surrogate.diagnosis.diagnose import diagnose
from keras_surrogate.diagnosis.layer_table import Row
from keras_surrogate.diagnosis.report import Diagnosis

__all__ = ["Batch", "Diagnosis", "Finding", "Row", "diagnose"]
