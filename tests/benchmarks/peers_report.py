"""Tables in Markdown that also read well in a terminal, and the machine they were measured on."""

import datetime
import importlib.metadata
import os
import pathlib
import platform

LIBRARIES = ("keras_surrogate", "tensorflow", "keras", "numpy", "torch", "snntorch", "spikingjelly")


def table(title, headers, rows):
    """A title, and cells that stand under each other."""
    widths = [max(len(line[column]) for line in (headers, *rows)) for column in range(len(headers))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        [f"### {title}", "", *(_line(cells, widths) for cells in (headers, rule, *rows)), ""]
    )


def _line(cells, widths):
    first, *others = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    padded = [first.strip().ljust(widths[0]), *others]
    return f"| {' | '.join(padded)} |"


def machine(threads):
    """Processor, memory, system and versions, one a line."""
    now = datetime.datetime.now(datetime.timezone.utc)
    facts = {
        "processor": f"{_processor()}, {threads} cores usable, {threads} threads for each framework",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB",
        "system": f"{_of('/etc/os-release', 'PRETTY_NAME', platform.system(), '=')}, Linux {platform.release()}",
        "Python": f"{platform.python_version()}, {', '.join(map(_version, LIBRARIES))}",
        "when": f"{now:%Y-%m-%d %H:%M} UTC, with a load of {os.getloadavg()[0]:.1f} before it began",
    }
    return "\n".join(f"* {name}: {fact}" for name, fact in facts.items()) + "\n"


def _processor():
    return _of("/proc/cpuinfo", "model name", platform.machine())


def _of(path, name, default, separator=":"):
    """What a file says after a name, without quotes; `default` where it does not."""
    file = pathlib.Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    found = (
        line.split(separator, 1)[1].strip().strip('"') for line in lines if line.startswith(name)
    )
    return next(found, default)


def _version(library):
    try:
        return f"{library} {importlib.metadata.version(library)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{library} not installed"
