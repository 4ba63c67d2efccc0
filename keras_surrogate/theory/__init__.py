"""Prediction of a derivative's behaviour over depth before training, and its calibration.

    predict("sugar_bsilu", depth=50, weight_variance="he_normal", width=128).verdict
    balance("sugar_bsilu", weight_variance=2)        the same pair, its slope scaled so that chi = 1
    critical_weight_variance("tanh")                 weights that keep signal and gradient
    effect(prediction, true)                         its effect on training
    recommend("relu", 50, "he_normal")               all slopes ranked, each with a reason
    equivalent_straight_through("dge_fp4")           the learning rate that makes slope 1 the same

The files, in the order in which a prediction passes through them:

    weights         from an initializer to the variance of the weights
    stacks          plain, residual and normalised layers, one class each
    moments         averages over Gaussian pre-activations; staircases: those of functions that jump
    interpolation   the averages of thousands of layers from those at some dozens of variances
    mean_field      infinitely wide networks; finite_width: sampled networks of one width
    prediction      `predict`; criticality: `balance` and others; verdicts: sentences and `effect`
    recommendation  `recommend`; tanh_nx: thresholds of tanh(n x); straight_through: of quantisers
    spiking         `predict_spiking`: firing and gradients over time, with a text of its own

The network: layers h = W x + b, x = f(h), with weights N(0, sw2 / N) and biases N(0, sb2), at its
random start. f is the value of the forward and f' its slope. g is the slope that the backward pass
uses instead, with its scale. z is N(0, 1).

1. The signal. Given its input x a pre-activation is a sum of many independent terms, so Gaussian,
   with variance q = sw2 |x|^2 / N + sb2. All units are alike, and |x|^2 / N is the mean of f^2 over
   them (Poole et al. 2016):

       q_{l+1} = sw2 E[f(sqrt(q_l) z)^2] + sb2,        q_1 = sw2 * input_variance + sb2

2. Two inputs. (u, v) are Gaussian with variance q and correlation c, and (Poole et al. 2016)

       c_{l+1} = (sw2 E[f(u) f(v)] + sb2) / q_{l+1}

   At c = 1 the network's output no longer depends on its input. The backward pass does not change
   this.

3. The gradient. Let u be the gradient of a layer's output. The gradient of its pre-activation is
   d = g(h) u, elementwise, and that of the output below is W^T d. If this is like a fresh Gaussian
   vector of variance sw2 |d|^2 / N, independent of h,

       |d|^2 = |u|^2 E[g(sqrt(q) z)^2],    so that    chi_l = sw2 E[g(sqrt(q_l) z)^2]

   multiplies the mean square in each layer. With g = f' this is known (Schoenholz et al. 2017). No
   step of it requires g = f'.

4. The direction. Two gradients go back through the same weights, d_a by a = g and d_b by b = f'. W
   keeps angles on average, d_a . d_b = sum(a b u_a u_b). So each layer multiplies the cosine, 1 at
   the top, by

       align_l = E[g f'] / sqrt(E[g^2] E[f'^2])

   Where f' is 0, as of a step, there is no true gradient, and the alignment is undefined.

5. Finite width. Forward and backward share W, so W^T d is not fresh: W x = h - b is known. Given
   that,

       W = (sw2 / (N q)) h x^T + fresh weights, independent of h,

   and W^T d has a part (sw2 / (N q)) (h . d) x along the layer's own input, at first of the order
   1 / sqrt(N). For g = f' it grows as the rest does. For another slope it may decay more slowly,
   until only this part is left, decades above chi's prediction. And |x|^2, |d|^2, d_a . d_b and
   h . d are sums over N units, not their limits. Their fluctuations add up over the depth: norms
   become log-normal with a variance of the order depth / N, and the typical norm lies below the
   mean. `predict(..., width=N)` samples exactly that law, from sums and without matrices; see
   `finite_width`. Steps 3 to 5 for g other than f' are this package's own.

Other stacks, in the limit of width only:

* Residual layers x + f(W x + b). The mean square p of x becomes p + E[f^2] + 2 m E[f], its mean m
  becomes m + E[f], with q = sw2 p + sb2, and 1 + sw2 E[a b] replaces sw2 E[a b] (Yang and
  Schoenholz 2017). Step 5 is left out. This matters where the slope is far from f': B-SiLU's on
  ReLU, at width 400, explodes by 4.0 decades in 30 layers instead of 2.9. Ordinary activations,
  flat_spot, ste_sign and leaky_backward came within 0.05 decades in 12 to 30 layers.
* Layers f(BatchNorm(W x)), for large batches of unlike inputs. q = 1, and 1 / Var[f(z)] replaces
  sw2 (Yang et al. 2019). At depth 30 within 0.2 decades of networks of width 256 and 512 with
  batches of 128 and 256.

Sources: Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; Pennington
et al. 2017, arXiv:1711.04735; Hayou et al. 2019, arXiv:1902.06853; Xiao et al. 2018,
arXiv:1806.05393 (convolutions); Yang and Schoenholz 2017, arXiv:1712.08969; Yang et al. 2019,
arXiv:1902.08129; Hanin and Nica 2018, arXiv:1812.05994 (depth / width).
"""

from keras_surrogate.theory.criticality import balance, critical_weight_variance, fixed_point, gain
from keras_surrogate.theory.prediction import DepthScales, Prediction, predict
from keras_surrogate.theory.recommendation import Recommendation, Recommendations, recommend
from keras_surrogate.theory.spiking import (
    SpikingPrediction,
    predict_spiking,
    step_factor,
    sustaining_weight_variance,
    white_noise_factor,
)
from keras_surrogate.theory.straight_through import StraightThrough, equivalent_straight_through
from keras_surrogate.theory.tanh_nx import TanhOptimum, tanh_optimum, tanh_threshold
from keras_surrogate.theory.verdicts import effect

__all__ = [
    "DepthScales",
    "Prediction",
    "Recommendation",
    "Recommendations",
    "SpikingPrediction",
    "StraightThrough",
    "TanhOptimum",
    "balance",
    "critical_weight_variance",
    "effect",
    "equivalent_straight_through",
    "fixed_point",
    "gain",
    "predict",
    "predict_spiking",
    "recommend",
    "step_factor",
    "sustaining_weight_variance",
    "tanh_optimum",
    "tanh_threshold",
    "white_noise_factor",
]
