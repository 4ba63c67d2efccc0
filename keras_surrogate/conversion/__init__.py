"""Put surrogates into an existing model, take them out, and export a model for serving.

    swapped = conversion.swap(model, {"relu": "leaky_backward"})    same outputs, other gradients
    print(conversion.report(swapped))                               what was changed
    swapped.fit(...)
    conversion.strip(swapped).save("served.keras")                  plain Keras, trained weights

The files, in the order of a conversion: `choosing` selects layers, `layer_tree` lists the layers of
a model and their activations, `activation_sites` translates activations to functions and back,
`swap` and `strip` decide the changes, `rebuilding` makes the copy, `reports` says what was done.
`export` writes a SavedModel. `quantizing` makes a model with weights and activations of few bits,
with `weight_bits` for the choice of bits, `quantized_graph` for the copy, `range_places` for the
places of the ranges and `folding` for batch normalisation, and `litert` writes it as a file of
integers. `weight_report` counts bits, memory and multiply-adds.
`nir_export` and `nir_import` write and read spiking models in NIR, the format of neuromorphic
tools, with `nir_neurons` for the equations.
"""

from keras_surrogate.conversion.export import export
from keras_surrogate.conversion.litert import export_litert
from keras_surrogate.conversion.nir_export import to_nir
from keras_surrogate.conversion.nir_import import from_nir
from keras_surrogate.conversion.quantizing import quantize
from keras_surrogate.conversion.reports import Change, Report, Unreached, report
from keras_surrogate.conversion.strip import strip
from keras_surrogate.conversion.swap import swap
from keras_surrogate.conversion.weight_report import LayerWeights, WeightReport, weight_report

__all__ = [
    "Change",
    "LayerWeights",
    "Report",
    "Unreached",
    "WeightReport",
    "export",
    "export_litert",
    "from_nir",
    "quantize",
    "report",
    "strip",
    "swap",
    "to_nir",
    "weight_report",
]
