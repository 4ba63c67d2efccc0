"""A diagnosis of any model from one batch: numbers for each layer, faults, and advice.

    result = diagnosis.diagnose(model, x, y)        or diagnose(model, dataset)
    result.print()          the table with its legend, then the findings, the gravest first
    result.rows             the same as objects; also result.findings, result.to_dict()
    plots.diagnosis(result) the picture

    calibrated = diagnosis.calibrate(model, x, y)       slopes scaled to keep the gradient's size

Nothing is trained. The files, in the order in which a batch passes through them:
`sources` takes it from the data, `batches` checks and measures it, `passes` runs the model,
`flow` finds the graph of the layers, `measuring` computes numbers, `endings` finds where a gradient
ends, `layer_table` makes the rows, `plain_stack` recognises the networks that the theory is about,
`objectives` joins losses, outputs and targets,
`signal_rules`, `gradient_rules`, `data_rules` and `loss_rules` compare with
`keras_surrogate.thresholds`,
`advice` says what helps, `findings` orders them, `report` prints them.

    alignment(model, x, y)      the cosine of each layer's gradient with a reference

    first_order(model, x, y)    what one step gains, over what the gradient promises

    recommend(model, x, y)      slopes and their rivals, measured and ranked, and a verdict

`preparing` makes model and batch ready for all, `alignment` compares with one of the `references`;
`noise` is the network that fires by chance. `printing` is shared by the results.

`surrogate_sites` finds the surrogates, `balancing` measures and scales them, for `calibration`;
`units` finds the weights of each unit.

For `recommend`: `slope_places` chooses what to change, `candidates` what to try, `workbench`
measures it on a copy, `rivals` are the other remedies, `ranking` orders and judges, `recommended`
is the result.
"""

from keras_surrogate.diagnosis import references
from keras_surrogate.diagnosis.alignment import AlignedLayer, Alignment, alignment
from keras_surrogate.diagnosis.batches import Batch
from keras_surrogate.diagnosis.calibration import Calibrated, calibrate, calibration_report
from keras_surrogate.diagnosis.candidates import default_candidates
from keras_surrogate.diagnosis.cases import Finding
from keras_surrogate.diagnosis.diagnose import diagnose
from keras_surrogate.diagnosis.first_order import FirstOrder, OneStep, first_order
from keras_surrogate.diagnosis.layer_table import Row
from keras_surrogate.diagnosis.recommend import recommend
from keras_surrogate.diagnosis.recommended import Option, Recommended
from keras_surrogate.diagnosis.report import Diagnosis

__all__ = [
    "AlignedLayer",
    "Alignment",
    "Batch",
    "Calibrated",
    "Diagnosis",
    "Finding",
    "FirstOrder",
    "OneStep",
    "Option",
    "Recommended",
    "Row",
    "alignment",
    "calibrate",
    "calibration_report",
    "default_candidates",
    "diagnose",
    "first_order",
    "recommend",
    "references",
]
