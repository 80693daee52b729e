"""The kernel's words about the machine itself: processor, memory, storage, network, and its own failures.

Sources of the words: arch/x86/kernel/{nmi,traps,tsc}.c, arch/x86/kernel/cpu/mce, drivers/thermal/intel,
drivers/edac, mm/memory-failure.c, mm/oom_kill.c, kernel/hung_task.c, kernel/watchdog*.c,
kernel/rcu/tree_stall.h, kernel/panic.c, kernel/time/clocksource.c, kernel/irq/spurious.c, block/blk-core.c,
drivers/nvme/host/pci.c, net/sched/sch_generic.c, drivers/usb/host/xhci*.c, drivers/net/ethernet/mellanox.
"""

from __future__ import annotations

from harness.model.outcome import Action
from harness.model.telemetry import Family, Ruling
from harness.telemetry.kernel.form import Form, form

_STOP = (Ruling.STOP, Action.CONTACT_VENDOR)
_RETEST = (Ruling.RETEST, Action.CONTACT_VENDOR)
_CONFIG = (Ruling.CONFIG, Action.FIX_CONFIG)
_POISON = r"(?:Memory failure: |MCE )0x[0-9a-f]+: "
_DISKS = r"(?!fd\d|sr\d|loop\d)\w+"
"""Not drives without a medium, which say so when they are looked at."""

MEMORY: tuple[Form, ...] = (
    form(
        "machine check",
        Family.MCE,
        _RETEST,
        "the host corrected a memory or bus error",
        r"EDAC (?:\w+ )?\S+: (?:\d+ )?CE\b",
        r"EDAC DEVICE\d+: CE:|EDAC PCI\d*: CE\b",
        r"RAS: Soft-offlining pfn|Soft offlining pfn|soft[ _]offline: ",
    ),
    form(
        "machine check",
        Family.MCE,
        _STOP,
        "memory of the host is bad: a page had wrong data, and the process that used it was ended",
        _POISON + r"(?:Killing|Sending SIGBUS|forcibly killing|.*\b(?:Killing|Killed)\b)",
        r"(?:MCE: )?Killing \S+ due to hardware memory corruption",
        _POISON + r"(?:recovery action for|\S.* page recovery:) ?.*(?:Failed|Ignored)",
        _POISON + r"(?:unhandlable|unknown page state|failed to unmap)",
        r"mce: Uncorrected hardware memory error",
        r"EDAC (?:\w+ )?\S+: (?:\d+ )?UE\b|EDAC DEVICE\d+: UE:",
        r"(?:kvm|KVM)\S*: .*hardware memory (?:corruption|error)",
    ),
    form(
        "machine check",
        Family.MCE,
        _RETEST,
        "memory of the host is bad: a page was taken out of use",
        _POISON + r"",
    ),
    form(
        "machine check",
        Family.MCE,
        _STOP,
        "the processor or its memory reported a hardware error",
        r"HARDWARE ERROR\. This is \*?NOT\*? a software problem",
        r"(?:CPU ?\d+: )?Machine check exception\b|Machine Check (?:Exception|Error)\b",
        r"mce: .*\bCPU \d+: Machine Check",
        r"MCE: CPU\d+: machine check \((?:Severe|Fatal)\)|MCE: CPU\d+: machine check .*\[Not recovered\]",
        r"(?:CPU ?\d+: )?SError Interrupt on CPU|SError detected",
        r"(?:Internal error|Unhandled fault): synchronous (?:external abort|parity)",
    ),
    form(
        "machine check",
        Family.MCE,
        _RETEST,
        "the processor logged a hardware error without saying which",
        r"(?:mce: )?Machine check events logged",
    ),
    form(
        "machine check",
        Family.MCE,
        _RETEST,
        "the processor was too hot and slowed down",
        r"(?:mce: )?CPU ?\d+: (?:(?:Core|Package) )?temperature (?:is )?above threshold",
        r"(?:thermal \S+: )?(?:\S+: )?critical temperature reached",
    ),
    form(
        "machine check",
        Family.MCE,
        _RETEST,
        "the board signalled an error by a non-maskable interrupt (NMI)",
        r"NMI: (?:PCI system error|IOCK error|memory parity error|Not enabling)",
        r"Uhhuh\. NMI received for unknown reason|Dazed and confused, but trying to continue",
    ),
)

FAILURES: tuple[Form, ...] = (
    form(
        "kernel fault",
        Family.HUNG_TASK,
        (Ruling.RETEST, Action.RESTART_HOST),
        "a task hung in the kernel",
        r"(?:INFO: )?task \S.{0,80}:\d+ blocked (?:[\w/]+ ){0,4}for more than \d+",
    ),
    form(
        "kernel fault",
        Family.OOM,
        _CONFIG,
        "memory ran out, and the kernel looked for a process to kill",
        r"(?:Memory cgroup )?Out of memory: Kill(?:ed)?\b",
        r"\S.{0,40} invoked oom-killer\b",
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        _RETEST,
        "the kernel itself failed",
        r"(?:(?:NMI )?watchdog: )?BUG: ",
        r"kernel BUG at\b",
        r"(?:invalid opcode|stack segment|double fault|divide error|general protection fault)(?:, |: )",
        r"traps: PANIC: ",
        r"(?:\w+ )?Oops(?:: |\[#| - )",
        r"(?:---\[ end )?Kernel panic - not syncing",
        r"list_(?:add|del) corruption\b",
        r"Internal error: ",
        r"Unable to handle kernel ",
        r"PANIC: ",
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        (Ruling.RETEST, Action.RESTART_HOST),
        "a processor of the machine stalled",
        r"(?:rcu: )?INFO: \w+ (?:self-)?detected (?:expedited )?stalls?\b",
        r"(?:rcu: )?(?:INFO: )?\w+ kthread (?:timer wakeup didn't happen|starved) for ",
        r"(?:rcu: )?(?:INFO: )?\w+ detected stalls? on CPU",
        r"(?:NMI )?watchdog: (?:CPU ?\d+: )?(?:Watchdog detected hard LOCKUP|self-detected hard LOCKUP)",
        r"(?:NMI )?watchdog: CPU ?\d+ (?:(?:self-)?detected )?hard LOCKUP",
        r"Watchdog (?:detected hard LOCKUP|CPU:\d+ Hard LOCKUP)|NMI watchdog: .*hard LOCKUP",
        r"clocksource: .*Marking clocksource .* as unstable|Clocksource tsc unstable",
        r"tsc: Marking TSC unstable due to clocksource watchdog|TSC found unstable after boot",
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        (Ruling.NOTE, Action.RETEST),
        "an interrupt handler took too long and delayed others",
        r"hrtimer: interrupt took \d+ ns",
        r"INFO: NMI handler \([^)]{1,60}\) took too long to run",
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        _RETEST,
        "an interrupt came that no driver handled, and was switched off",
        r"irq \d+: nobody cared|Disabling IRQ #\d+",
    ),
    form(
        "kernel fault",
        Family.KERNEL,
        _RETEST,
        "the kernel detected an impossible state (WARNING)",
        r"WARNING: (?:CPU: ?\d+ PID: ?\d+|\S+:\d+) at ",
    ),
    form(
        "device trouble",
        Family.KERNEL,
        _RETEST,
        "a drive did not answer, or could not read or write",
        r"nvme nvme\d+: (?:I/O .*\btimeout|controller is down|Device not ready|Removing after probe failure"
        r"|Disabling device after reset failure|failed to set APST|Identify Controller failed)",
        rf"(?:blk_update_request: |print_req_error: |end_request: )?(?:I/O|critical \w+) error, dev {_DISKS}",
        rf"Buffer I/O error on dev(?:ice)? {_DISKS}",
        r"(?:EXT4-fs error|BTRFS: error|BTRFS error|XFS \(\S+\): .*(?:I/O error|corruption))",
        r"ata\d+(?:\.\d+)?: (?:exception Emask|failed command)",
        r"nvme\S*: I/O .*\btimeout|I/O (?:tag )?\d+ .*QID \d+ timeout",
        r"nvme nvme\d+: (?:Abort status: |\w+ state error detected)|nvme\d+\w*: I/O Cmd\(.*\bI/O Error\b",
        r"EXT4-fs \(\S+\): Remounting filesystem read-only|Aborting journal on device|JBD2: Error -\d",
        r"s[dr] \S+: \[\w+\] tag#\d+ FAILED Result|scsi \S+: Device offlined",
    ),
    form(
        "device trouble",
        Family.KERNEL,
        _RETEST,
        "a controller or network card stopped answering",
        r"NETDEV WATCHDOG: |TX timeout (?:detected|on queue)",
        r"(?:xhci\S* )?(?:HC died; cleaning up|xHCI host (?:controller )?not responding)",
        r"(?:wait_func|poll_health|cmd_work_handler|mlx5_\w+)\b.*(?:timeout|miss count|compromised)",
        r"firmware version: 65535\.65535\.65535|.{0,40}Firmware over \d+ MS in (?:pre-)?initializing state",
        r"(?:\w+:\d+:\(pid \d+\): )?(?:PCI slot is unavailable|Detected insufficient power on the PCIe slot)",
        r"(?:\w+:\d+:\(pid \d+\): )?(?:.{0,40}recovery flow aborted|Health issue observed"
        r"|handling bad device here)",
    ),
)
