"""What ``tensor`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
from harness.workloads.spec import ModelFigure, Row, Scalar, WorkloadSpec

PRECISIONS = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8")

_DEFAULTS: dict[str, Scalar] = {
    "framework": "tensorflow",
    "engine": "auto",
    "precisions": "auto",
    "size": 0,
    "blocks": 0,
    "seconds": 0.0,
    "rounds": 3,
    "tiles": 2,
    "check_every": 64,
    "duty": 1.0,
    "period": 2.0,
    "curve": "",
    "curve_seconds": 1.0,
    "seed": 1,
    "batch": 64,
    "width": 16,
    "hidden": 32,
    "steps": 20,
    "learning_rate": 0.5,
    # Twenty steps leave 3 to 9 % of the first loss for seeds 1 to 10; a run that does not learn leaves all.
    "max_loss_share": 0.25,
    "python": "",
    "library_dir": "",
}
"""``framework`` is tensorflow or torch, ``engine`` auto, cpu or gpu.

``precisions``: ``auto`` is all that framework and device offer, or names with commas, each demanded.
``size`` of the square matrices and ``blocks``, the pairs that recur: 0 chooses. The burn lasts
``seconds``, and at least ``rounds`` of all pairs in each precision; of each ``period`` it works the
share ``duty``. ``tiles`` of each proven product are compared with references; ``check_every`` so many
rounds come a fresh Freivalds check and a look at the inputs. ``curve`` lists sizes at which the cost
of checking is measured. ``batch`` to ``max_loss_share`` describe the training. ``python`` and
``library_dir`` say where the framework is, if not where the image has TensorFlow.
"""

SPEC = WorkloadSpec(
    name="tensor",
    title="matrix products in every precision, each one verified, and a training run",
    defaults=_DEFAULTS,
    row=Row(
        does="matrix products in every precision, and a training run",
        proves="each product compared bit for bit with one that Freivalds' check and exact tiles proved",
        engines=f"{loads.DRIVER_WORDS} or the processor, by TensorFlow or PyTorch",
        needs="a `pip --target` directory in `/opt/tf`, for the version of `/usr/bin/python3`",
        needs_with_gpus=f"there the build with {loads.DRIVER_WORDS} (below)",
    ),
    figures=tuple(
        ModelFigure(
            name=name, unit="TFLOP/s", measurements=(f"tensor.{name}.rate",), plausible=(0.05, 50_000.0)
        )
        for name in PRECISIONS
    ),
    mixed={},
    keeps_gpus_busy=True,
    extra_jobs=("worker",),
)
