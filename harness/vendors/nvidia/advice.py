"""What a person does about an NVIDIA GPU, in the words of its driver, library and tools."""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.vendor import Advice, Commands

ADVICE = Advice(
    library="NVML",
    code="XID",
    lost="XID 79",
    hung="XID 119 or 120 (the GPU's firmware does not answer)",
    start="RmInitAdapter, BAR, firmware",
    reset_required="ResetRequired",
    sram="NVIDIA's RMA",
    # What nvmlDeviceGpuRecoveryAction_t asks for (nvml.h). Xid 154 tells of a change of it.
    recovery={
        1: ("a reset of the GPU", Action.RESET_GPU),
        2: ("a restart of the machine", Action.RESTART_HOST),
        3: ("its peers to stop using it", Action.RESET_GPU),
        4: ("its peers to stop using it, and a reset", Action.RESET_GPU),
    },
    commands=Commands(
        show="nvidia-smi -q",
        show_clocks="nvidia-smi -q -d CLOCK",
        default_clocks="nvidia-smi -i {gpu} -rac; -rgc",
        power_limit="nvidia-smi -i {gpu} -pl {value:g}",
        ecc_on="nvidia-smi -i {gpu} -e 1",
        clear_memory="gpu-admin-tools --reset-with-sbr --clear-memory",
    ),
)
