"""How often do gradients vanish, do they come back, and from which start? Thousands of small networks answer.

1. The folklore: "multiply 50 random numbers from 0 to 1; never above 1e-18". The exact distribution
   of the product is known, and about one in nine is above.
2. A census of random networks, 50 layers of 8 units. The product of the slopes along a path is not
   the gradient: with tanh(2x) it has nearly always vanished where the whole gradient, weights and
   all paths included, is healthy.
3. Training, with a Markov chain of two states, [g >> 0] and [g ~ 0]: a one-way street? Its forecast
   beside what happened tells how good a model it is.
4. A map: chains of ten units that share a weight and a bias, from each (w, b) to the gradient after
   training.

    python examples/12_gradient_paths.py       about a minute on two cores; needs matplotlib
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import simulation

TANHS = {f"tanh({n}x)": ks.Surrogate(ks.functions.ScaledTanh(n)) for n in (1, 2)}
# Name: surrogate, weight variance.
CENSUS = {
    **{name: (pair, 1) for name, pair in TANHS.items()},
    "relu": ("relu", 2),
    "sugar_bsilu": ("sugar_bsilu", 2),
}


def draw(axes, products, samples, rates, chains, maps):
    ks.plots.uniform_products(products, ax=axes[0, 0]).set_title("1. products of uniform numbers")
    norms = {name: sample.log10_norm for name, sample in samples.items()}
    ks.plots.gradient_distribution(norms, axes[0, 1]).set_title("2. gradients of random networks")
    ks.plots.vanishing_rates(rates, axes[0, 2]).set_title("2. product of slopes, tanh(2x)")
    for quantity, ax in zip("xw", axes[1], strict=False):
        histogram = simulation.joint_histogram(samples["tanh(2x)"], quantity)
        ks.plots.joint_histogram(histogram, ax).set_title(f"2. ({quantity}, g) of tanh(2x)")
    ax = ks.plots.two_state_chain(chains["tanh(2x)"], axes[1, 2])
    ax.set_title("3. training tanh(2x)\n" + ax.get_title())
    for (name, found), ax in zip(maps.items(), axes[2], strict=False):
        ks.plots.gradient_map(found, ax).set_title(f"4. chains of {name}")
    ks.plots.gradient_map(maps["tanh(2x)"], axes[2, 2], gradient="product").set_title(
        "4. product of slopes, tanh(2x)"
    )


def main(networks=20_000, steps=200, output=None):
    """Prints the tables and draws; returns the shares that vanished, by part and name."""
    folder = Path(output or tempfile.mkdtemp(prefix="gradient-paths-"))
    products = simulation.uniform_products(50, networks)
    exact = simulation.uniform_product_probability(1e-18, 50)
    print(
        f"Products of 50 uniform numbers above 1e-18: {(products > -18).mean():.2%}; exactly {exact:.2%}"
    )

    census = Table(
        "network",
        "product of slopes < 1e-3",
        "> 1e3",
        "whole gradient < 1e-3",
        "> 1e3",
        title="Census",
    )
    samples, results = {}, {"uniform": (float((products > -18).mean()), float(exact))}
    for name, (pair, variance) in CENSUS.items():
        samples[name] = simulation.gradient_sample(
            pair, networks=networks, weight_variance=variance, verbose=1
        )
        shares = [
            simulation.shares(part)
            for part in (samples[name].log10_product, samples[name].log10_norm)
        ]
        results[name] = [share for part in shares for share in (part.vanished, part.exploded)]
        census.add_row(name, *(f"{share:.1%}" for share in results[name]))
    variances = [0.06 * number for number in range(1, 17)]
    rates = simulation.vanishing_rates("scaled_tanh", variances, networks=max(1, networks // 20))

    training, chains, maps = (
        Table("network", "g", "one-way street?", title=f"Training, {steps} steps"),
        {},
        {},
    )
    for name, pair in TANHS.items():
        paths = simulation.training_paths(pair, 20, max(1, networks // 40), steps=steps, verbose=1)
        both = paths.log10_norm, paths.log10_product
        chains[name], product = (simulation.two_state_chain(g, alive=1e-2) for g in both)
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
