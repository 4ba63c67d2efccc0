"""The frequency of vanishing gradients, before and after training, in thousands of small networks.

1. A common claim: the product of 50 random numbers between 0 and 1 is never above 1e-18. The exact
   distribution of the product is known: about one in nine is above.
2. A census of random networks with 50 layers of 8 units. The product of the slopes along a path is
   not the gradient. With tanh(2x) it has nearly always vanished, while the whole gradient, with
   weights and all paths, is healthy.
3. Training as a Markov chain of two states, [g >> 0] and [g ~ 0], which shows if vanished gradients
   recover. The comparison of its forecast to the training shows the quality of this model.
4. A map of the gradient after training for each initial (w, b), in chains of ten units that share a
   weight and a bias.

    python examples/12_gradient_paths.py       about a minute on two cores; needs matplotlib
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import simulation

TANHS = {f"tanh({n}x)": ks.Surrogate(ks.functions.ScaledTanh(n)) for n in (1, 2)}
# The surrogate and the weight variance of each network.
CENSUS = {
    **{name: (pair, 1) for name, pair in TANHS.items()},
    "relu": ("relu", 2),
    "sugar_bsilu": ("sugar_bsilu", 2),
}


def draw(
    axes: np.ndarray,
    products: np.ndarray,
    samples: dict[str, simulation.GradientSample],
    rates: simulation.VanishingRates,
    chains: dict[str, simulation.TwoStateChain],
    maps: dict[str, simulation.GradientMap],
) -> None:
    ks.plots.uniform_products(products, ax=axes[0, 0]).set_title("1. products of uniform numbers")
    norms = {name: sample.log10_norm for name, sample in samples.items()}
    ks.plots.gradient_distribution(norms, axes[0, 1]).set_title("2. gradients of random networks")
    ks.plots.vanishing_rates(rates, axes[0, 2]).set_title("2. product of slopes, tanh(2x)")
    for quantity, ax in zip(("x", "w"), axes[1], strict=False):
        histogram = simulation.joint_histogram(samples["tanh(2x)"], quantity)
        ks.plots.joint_histogram(histogram, ax).set_title(f"2. ({quantity}, g) of tanh(2x)")
    ax = ks.plots.two_state_chain(chains["tanh(2x)"], axes[1, 2])
    ax.set_title("3. training tanh(2x)\n" + ax.get_title())
    for (name, found), ax in zip(maps.items(), axes[2], strict=False):
        ks.plots.gradient_map(found, ax).set_title(f"4. chains of {name}")
    ks.plots.gradient_map(maps["tanh(2x)"], axes[2, 2], gradient="product").set_title(
        "4. product of slopes, tanh(2x)"
    )


def main(networks: int = 20_000, steps: int = 200, output: str | None = None) -> dict[str, Any]:
    """Prints the tables and draws.

    Returns:
        uniform: the sampled and the exact share above 1e-18. For each network of the census: the
        shares of vanished and exploded products of slopes, then those of whole gradients. For each
        "trained" network: the share of vanished gradients before and after training.
    """
    folder = Path(output or tempfile.mkdtemp(prefix="gradient-paths-"))
    products = simulation.uniform_products(50, networks)
    exact = simulation.uniform_product_probability(1e-18, 50)
    sampled = (products > -18).mean()
    print(f"Products of 50 uniform numbers above 1e-18: {sampled:.2%}; exactly {exact:.2%}")

    census = Table(
        "network",
        "product of slopes < 1e-3",
        "> 1e3",
        "whole gradient < 1e-3",
        "> 1e3",
        title="Census",
    )
    samples = {}
    results: dict[str, Any] = {"uniform": (float(sampled), float(exact))}
    for name, (pair, variance) in CENSUS.items():
        samples[name] = simulation.gradient_sample(
            pair, networks=networks, weight_variance=variance, verbose=1
        )
        product = simulation.shares(samples[name].log10_product)
        norm = simulation.shares(samples[name].log10_norm)
        ends = [product.vanished, product.exploded, norm.vanished, norm.exploded]
        census.add_row(name, *(f"{share:.1%}" for share in ends))
        results[name] = ends
    variances = [0.06 * number for number in range(1, 17)]
    rates = simulation.vanishing_rates("scaled_tanh", variances, networks=max(1, networks // 20))

    training = Table("network", "g", "recovery", title=f"Training, {steps} steps")
    chains = {}
    maps = {}
    for name, pair in TANHS.items():
        paths = simulation.training_paths(pair, 20, max(1, networks // 40), steps=steps, verbose=1)
        chains[name] = simulation.two_state_chain(paths.log10_norm, alive=1e-2)
        product = simulation.two_state_chain(paths.log10_product, alive=1e-2)
        training.add_row(name, "whole gradient", chains[name].verdict)
        training.add_row("", "product of slopes", product.verdict, end_section=True)
        results[f"trained {name}"] = [
            float(chains[name].observed[0]),
            float(chains[name].observed[-1]),
        ]
        maps[name] = simulation.gradient_map(pair, steps=steps, tied=True, verbose=1)
    Console().print(census, training)
    figure, axes = plt.subplots(3, 3, figsize=(17, 14), layout="constrained")
    draw(axes, products, samples, rates, chains, maps)
    ks.plots.save(axes, folder / "gradient_paths.png", dpi=110)
    plt.close(figure)
    print(f"Drawn: {folder / 'gradient_paths.png'}")
    return results


if __name__ == "__main__":
    main()
