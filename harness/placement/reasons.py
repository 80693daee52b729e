"""Every reason why there is no plan, or why a domain's XML is wrong: stable codes for scripts."""

from __future__ import annotations

from enum import StrEnum

from harness.model.placement import Reason


class Code(StrEnum):
    """Codes of ``Reason``. They are a contract: add, never rename."""

    BAD_REQUEST = "bad_request"
    BAD_POLICY = "bad_policy"
    ARCHITECTURE_UNSUPPORTED = "architecture_unsupported"
    TOO_FEW_GPUS = "too_few_gpus"
    GPU_LISTED_MISSING = "gpu_listed_missing"
    ALREADY_PLACED = "already_placed"
    IN_USE = "in_use"
    VANISHED = "vanished"
    CONFIG_UNREADABLE = "config_unreadable"
    SRIOV_IN_USE = "sriov_in_use"
    VIRTUAL_FUNCTIONS_IN_USE = "virtual_functions_in_use"
    NO_IOMMU_GROUP = "no_iommu_group"
    GROUP_SHARED = "group_shared"
    GROUP_FOREIGN = "group_foreign"
    GROUP_BLOCKED = "group_blocked"
    NUMA_UNKNOWN = "numa_unknown"
    NODE_MISSING = "node_missing"
    NODE_WITHOUT_CPUS = "node_without_cpus"
    NODE_WITHOUT_MEMORY = "node_without_memory"
    MEMORY_UNKNOWN = "memory_unknown"
    TOPOLOGY_UNKNOWN = "topology_unknown"
    TOO_FEW_CORES = "too_few_cores"
    CORES_TAKEN = "cores_taken"
    NO_EMULATOR_CORE = "no_emulator_core"
    VCPUS_EXCEED_SHARE = "vcpus_exceed_share"
    MEMORY_EXCEEDS_SHARE = "memory_exceeds_share"
    TOO_LITTLE_MEMORY = "too_little_memory"
    HUGEPAGES_SHORT = "hugepages_short"
    MEMORY_SHORT = "memory_short"
    NO_COMMON_PAGE_SIZE = "no_common_page_size"
    TOO_MANY_BUSES = "too_many_buses"
    SEARCH_TOO_LARGE = "search_too_large"
    GIVEN_MISMATCH = "given_mismatch"
    GIVEN_CONFLICT = "given_conflict"
    NAME_TAKEN = "name_taken"
    # Only of domain XML (harness.placement.domain.check).
    XML_INVALID = "xml_invalid"
    BUS_OVERLAP = "bus_overlap"
    BUS_OUT_OF_RANGE = "bus_out_of_range"
    CPU_SHARED = "cpu_shared"
    CORE_SHARED = "core_shared"
    CPU_MISSING = "cpu_missing"
    CPU_OFFLINE = "cpu_offline"
    VCPU_UNPINNED = "vcpu_unpinned"
    VCPU_NOT_DEDICATED = "vcpu_not_dedicated"
    VCPU_IN_NO_CELL = "vcpu_in_no_cell"
    VCPU_FAR = "vcpu_far"
    EMULATOR_UNPINNED = "emulator_unpinned"
    EMULATOR_ON_VCPU = "emulator_on_vcpu"
    MEMORY_MISMATCH = "memory_mismatch"
    MEMORY_UNBOUND = "memory_unbound"
    PAGE_SIZE_MISSING = "page_size_missing"
    DEVICE_SHARED = "device_shared"
    DEVICE_MISSING = "device_missing"
    DEVICE_FAR = "device_far"
    GROUP_SPLIT = "group_split"
    CELLS_SHARE_NODE = "cells_share_node"


def reason(code: Code, message: str) -> Reason:
    """A Reason; ``message`` is one sentence without a full stop."""
    return Reason(code=code.value, message=message)


def unique(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """The reasons in order, each once."""
    return tuple(dict.fromkeys(reasons))
