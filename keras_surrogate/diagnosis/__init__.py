"""A diagnosis of any model from one batch: numbers for each layer, faults, and advice.

    result = diagnosis.diagnose(model, x, y)        or diagnose(model, dataset)
    result.print()          the table with its legend, then the findings, the gravest first
    result.rows             the same as objects; also result.findings, result.to_dict()
    plots.diagnosis(result) the picture

Nothing is trained. The files, in the order in which a batch passes through them:
`sources` takes it from the data, `batches` checks and measures it, `passes` runs the model,
`flow` finds the graph of the layers, `measuring` computes numbers, `endings` finds where a gradient
ends, `layer_table` makes the rows, `plain_stack` recognises the networks that the theory is about,
`objectives` joins losses, outputs and targets,
`signal_rules`, `gradient_rules`, `data_rules` and `loss_rules` compare with
`keras_surrogate.thresholds`,
`advice` says what helps, `findings` orders them, `report` prints them.
"""

from keras_surrogate.diagnosis.batches import Batch
from keras_surrogate.diagnosis.cases import Finding
from keras_surrogate.diagnosis.diagnose import diagnose
from keras_surrogate.diagnosis.layer_table import Row
from keras_surrogate.diagnosis.report import Diagnosis

__all__ = ["Batch", "Diagnosis", "Finding", "Row", "diagnose"]
