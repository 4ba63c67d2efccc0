"""Pictures that commands write: checked before the work, drawn after it. Only here do commands import matplotlib."""


def check(path):
    """Raises if no picture can be written to `path`, so that a command fails before it works. None is no picture.

    Raises:
        ValueError: matplotlib cannot write such a suffix, or the folder does not exist or cannot be
            written to.
        ImportError: matplotlib is missing.
    """
    if path is not None:
        from keras_surrogate.plots import saving

        saving.check(path)


def write(drawn, path, dpi=160, quiet=False):
    """Saves what a function of `plots` returned, and says so on standard output, unless something reads that."""
    from keras_surrogate import plots

    plots.save(drawn, path, dpi)
    if not quiet:
        print(f"Written to {path}.")
