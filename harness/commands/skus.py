"""``shakedown inventory skus``: what is known of each GPU model, and what is not."""

from __future__ import annotations

from harness.config import files as config
from harness.errors import ConfigError
from harness.model.sku import Figure, Sku
from harness.serial import to_data
from harness.shown import say, say_json


def show(name: str = "", *, as_json: bool = False) -> int:
    """Print one model with the source of each number, or several in a line each; returns 0.

    ``name`` is a model, or what some models' names begin with (``h200``); empty for all. Raises ConfigError
    for a name that does not exist, and for files that are wrong.
    """
    skus = {sku.name: sku for sku in config.load_skus()}
    whole = name in skus
    chosen = {each: sku for each, sku in skus.items() if (each == name if whole else _begins(each, name))}
    if not chosen:
        config.find("skus", name)  # says the nearest name
        raise ConfigError(
            f"{name!r} is a file; give the name of a model", remedy=f"one of: {', '.join(skus)}"
        )
    if as_json:
        data = to_data(skus[name]) if whole else {each: to_data(sku) for each, sku in chosen.items()}
        say_json(data, indent=2)
    elif whole:
        say(*_whole(skus[name]))
    else:
        say(*(_line(sku) for sku in chosen.values()))
    return 0


def _begins(model: str, name: str) -> bool:
    """Whether a model is one of those that people call ``name`` for short."""
    return not name or model.startswith(f"{name.lower()}-")


def _line(sku: Sku) -> str:
    unknown = [name for name, figure in sku.figures.items() if figure.value is None]
    said = f"{len(sku.figures) - len(unknown)} figures, {len(sku.floors)} thresholds"
    rest = f", unknown: {', '.join(unknown)}" if unknown else ""
    return f"{sku.name:16} {sku.title:32} {said}{rest}"


def _whole(sku: Sku) -> list[str]:
    lines = [f"{sku.title} ({sku.name}, family {sku.family})", f"PCI: {', '.join(sku.pci_ids)}", ""]
    lines += [f"{name:18} {_said(figure):24} {_from(figure)}" for name, figure in sku.figures.items()]
    lines += ["", *(f"{name:26} {_floor(sku, name)}" for name in sku.floors)] if sku.floors else []
    engines = ", ".join(f"{n} {'unknown' if c is None else c}" for n, c in sku.engines.items())
    lines += ["", f"engines: {engines or 'none'}", f"precisions: {', '.join(sku.precisions) or 'none'}"]
    return [*lines, f"encodes: {', '.join(sku.codecs) or 'nothing'}"]


def _said(figure: Figure) -> str:
    if figure.value is None:
        return "unknown"
    unit = "" if figure.unit == "1" else f" {figure.unit}"
    return (f"{figure.value:.0f}" if figure.value > 1e6 else f"{figure.value:g}") + unit


def _from(figure: Figure) -> str:
    source = "" if figure.value is None else figure.source
    return "; ".join(text for text in (source, figure.note) if text)


def _floor(sku: Sku, name: str) -> str:
    floor = sku.floors[name]
    figure = sku.figures[floor.of]
    least = (
        "?"
        if figure.value is None
        else _said(Figure(value=figure.value * floor.share, unit=figure.unit, source=""))
    )
    return f"at least {least} ({floor.share:g} of {floor.of}): {floor.reason}"
