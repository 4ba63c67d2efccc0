"""Callbacks for `model.fit`: when to measure, where to write, and when to warn.

logger         `GradientNormLogger` measures with `recording`, and writes to Keras's logs and to
paths          a CSV file (`csv_file.CsvFile`), whose path is chosen when `fit` begins,
summaries      TensorBoard, and
listening      callbacks that receive its rows:
alerts         `GradientAlerts` warns, also of `weight_alerts` and `loss_alerts`,
table          `GradientTable` prints
progress_bar   keeps all but the global norm out of Keras's progress bar
annealing      `SurrogateAnnealing` changes the slope of the activations
calibration    `Calibration` lets the scales of slopes follow the gradient
recycling      `RecycleUnits` lets dormant units begin anew
base           makes all of them picklable
"""

from keras_surrogate.callbacks.alerts import Alert, GradientAlerts
from keras_surrogate.callbacks.annealing import SurrogateAnnealing
from keras_surrogate.callbacks.calibration import Calibration
from keras_surrogate.callbacks.logger import GradientNormLogger
from keras_surrogate.callbacks.recycling import Recycled, RecycleUnits
from keras_surrogate.callbacks.table import GradientTable

__all__ = [
    "Alert",
    "Calibration",
    "GradientAlerts",
    "GradientNormLogger",
    "GradientTable",
    "RecycleUnits",
    "Recycled",
    "SurrogateAnnealing",
]
