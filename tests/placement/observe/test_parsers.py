"""The readers of host, guest and QMP transcripts: what they understand, and what they refuse."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.placement.observe import qmp as q
from harness.placement.observe import scripts
from harness.placement.observe.guest import parse_guest
from harness.placement.observe.host import parse_host
from harness.placement.observe.qmp import parse_qmp
from tests.fakes.scripts import really
from tests.placement.observe import transcripts as made

EDU = PciAddress.parse("0000:82:00.0")


def test_a_host_transcript_names_threads_cgroups_memory_and_devices() -> None:
    read = parse_host(made.host(), made.NONCE)
    assert read.pid == 70
    assert read.target == "shakedown-r-g1"
    assert read.options[:2] == ("-name", "guest=shakedown-r-g1,debug-threads=on")
    assert [(t.tid, t.name, t.cpus, t.last_cpu) for t in read.tasks] == [
        (70, "qemu-system-x86", (0,), 0),
        (72, "CPU 0/KVM", (1,), 1),
    ]
    assert read.tasks[1].cgroup == f"{made.SCOPE}/vcpu0"
    assert read.cgroups[2, f"{made.SCOPE}/vcpu0"] == (1,)
    assert [(t.tid, t.cpus) for t in read.kernel_tasks] == [(75, tuple(range(8)))]
    assert read.locked_bytes_limit == 2550136832
    assert read.devices[EDU].driver == "vfio-pci"
    assert read.devices[EDU].iommu_group == 11
    assert read.vfio_nodes == ("/dev/vfio/11",)
    block = next(m for m in read.mappings if m.start == 0x7F0010000000)
    assert (block.policy, block.pages, block.page_kib) == ("bind:1", {1: 64}, 2048)


def test_a_cgroup_v1_host_is_bound_by_its_cpuset_hierarchy() -> None:
    lines = made.task(70, 70, "qemu", "0-3", "5:cpuset,cpu:/machine/g1/emulator")
    lines += "/proc/70/task/70/cgroup:0::/init.scope\n"
    groups = "/sys/fs/cgroup/cpuset/machine/g1/emulator/cpuset.effective_cpus:0-1\n"
    read = parse_host(made.host(tasks=lines, tasks_again=lines, cgroups=groups))
    assert (read.tasks[0].cgroup_version, read.tasks[0].cgroup) == (1, "/machine/g1/emulator")
    assert read.cgroups == {(1, "/machine/g1/emulator"): (0, 1)}


def test_a_v2_cgroup_called_cpuset_is_no_v1_hierarchy() -> None:
    groups = "/sys/fs/cgroup/cpuset/x/cpuset.cpus.effective:5\n/sys/fs/cgroup//cpuset.cpus.effective:0-7\n"
    read = parse_host(made.host(cgroups=groups))
    assert read.cgroups == {(2, "/cpuset/x"): (5,), (2, "/"): tuple(range(8))}


def test_a_thread_that_ended_half_read_is_dropped_and_one_fully_seen_is_kept() -> None:
    half = "/proc/70/task/90/status:Name:\tworker\n"
    whole = made.task(70, 91, "worker", "0-7", f"0::{made.SCOPE}/emulator")
    read = parse_host(made.host(tasks=made.TASKS + half + whole))
    assert {task.tid for task in read.tasks} == {70, 72, 91}
    still = parse_host(made.host(tasks_again=made.TASKS + half))
    assert next(t for t in still.tasks if t.tid == 90).cpus is None


@pytest.mark.parametrize(
    ("line", "policy", "pages"),
    [
        ("7f00 bind:0-1 anon=5 N0=2 N1=3 kernelpagesize_kB=4", "bind:0-1", {0: 2, 1: 3}),
        ("7f00 prefer (many):0-1 anon=1 N1=1 kernelpagesize_kB=4", "prefer (many):0-1", {1: 1}),
        ("7f00 default file=/x\\040N0=9 N1=1 kernelpagesize_kB=4", "default", {1: 1}),
        ("7f00 default", "default", {}),
    ],
)
def test_a_mapping_is_read_by_words(line: str, policy: str, pages: dict[int, int]) -> None:
    mapping = parse_host(made.host(numa_maps=line + "\n")).mappings[0]
    assert (mapping.policy, mapping.pages) == (policy, pages)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pid": "0\n"}, "no QEMU process"),
        ({"pid": "\n"}, "no QEMU process"),
        ({"tasks_again": ""}, "ended while it was being observed"),
    ],
)
def test_a_host_without_the_process_is_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(ParseError, match=words):
        parse_host(made.host(**changes))


@pytest.mark.parametrize(
    "lost", [part for part in made.host_parts() if not part.startswith(("device", "uptime"))]
)
def test_no_part_of_a_host_transcript_may_be_absent(lost: str) -> None:
    parts = {title: text for title, text in made.host_parts().items() if title != lost}
    with pytest.raises(ParseError, match="lacks its part"):
        parse_host(made.frame("host", parts))


def test_a_truncated_transcript_is_refused_wherever_it_breaks() -> None:
    raw = made.host()
    for cut in range(len(raw) - 1):
        with pytest.raises(ParseError):
            parse_host(raw[:cut])


def test_content_cannot_forge_a_part_without_the_nonce() -> None:
    other = "f" * 32
    hostile = f"x\n{other} exit 0 9\n\nshakedown 1 placement-host {other}\n\n{other} pid\n1\n"
    read = parse_host(made.host(limits=hostile), made.NONCE)
    assert read.pid == 70
    with pytest.raises(ParseError, match="another request"):
        parse_host(made.host(), other)


def test_a_part_that_comes_twice_is_refused() -> None:
    raw = made.host().replace(f"\n{made.NONCE} fds\n".encode(), f"\n{made.NONCE} pid\n".encode())
    with pytest.raises(ParseError, match="twice"):
        parse_host(raw)


def test_a_thread_line_of_another_process_is_not_taken_for_the_guests() -> None:
    foreign = made.task(71, 999, "CPU 1/KVM", "0-7", "0::/")
    assert {t.tid for t in parse_host(made.host(tasks_again=made.TASKS + foreign)).tasks} == {70, 72}


def test_a_user_process_with_a_kernel_threads_name_is_not_one() -> None:
    line = (
        "/proc/75/status:Name:\tvhost-70\n/proc/75/status:PPid:\t1\n/proc/75/status:Cpus_allowed_list:\t0-7\n"
    )
    assert parse_host(made.host(kthreads=line)).kernel_tasks == ()


def test_a_guest_transcript_names_nodes_and_where_each_device_hangs() -> None:
    read = parse_guest(made.guest(), made.NONCE)
    edu = read.functions[PciAddress.parse("0000:ff:00.0")]
    assert (edu.vendor_device, edu.class_code) == ("1234:11e8", "00ff00")
    assert (edu.numa_node, edu.local_cpus) == (1, (1,))
    assert edu.port == PciAddress.parse("0000:fe:00.0")
    bridge = read.functions[PciAddress.parse("0000:00:00.0")]
    assert (bridge.numa_node, bridge.local_cpus, bridge.port) == (None, None, None)
    assert [(n.id, n.cpus, n.memory_bytes, n.distances) for n in read.nodes] == [
        (0, (0,), 100000 * 1024, (10, 21)),
        (1, (1,), 120000 * 1024, (21, 10)),
    ]


def test_a_transcript_from_a_serial_console_has_other_line_ends() -> None:
    assert parse_guest(made.guest().replace(b"\n", b"\r\n")) == parse_guest(made.guest())


def test_a_guest_without_numa_cannot_prove_anything() -> None:
    with pytest.raises(ParseError, match="no NUMA node"):
        parse_guest(made.guest(nodes=""))


def test_qemus_answers_lead_from_the_host_device_to_the_guests_root_port() -> None:
    read = parse_qmp(made.answers())
    assert read.hostdevs == {"ua-gpu0": EDU}
    edu = next(f for f in read.functions if f.id == "ua-gpu0")
    assert edu.address == PciAddress.parse("0000:ff:00.0")
    assert (edu.port_id, edu.port_address) == ("pci.4", PciAddress.parse("0000:fe:00.0"))
    assert edu.vendor_device == "1234:11e8"
    assert [(v.index, v.tid, v.cell) for v in read.vcpus] == [(0, 72, 0)]
    assert [(m.id, m.host_nodes, m.address) for m in read.memdevs] == [
        ("ram-node0", (0,), 0x7F0000000000),
        ("ram-node1", (1,), 0x7F0010000000),
    ]


def test_second_questions_follow_from_the_first_answers() -> None:
    known = made.answers()
    asked: list[str] = []

    def qmp(query: str) -> str:
        asked.append(query)
        return str(known[query])

    assert q.ask(qmp) == known
    assert asked[: len(q.QUERIES)] == list(q.QUERIES)
    assert len(asked) == len(q.QUERIES) + 3


def test_a_block_whose_address_qemu_gives_for_another_region_stays_without_one() -> None:
    read = parse_qmp(made.answers(node1="Host virtual address for 0x8000000 (pc.bios) is 0x7f0010000000\r\n"))
    assert [m.address for m in read.memdevs] == [0x7F0000000000, None]
    none = parse_qmp(made.answers(node1="Memory at address 0x8000000 is not RAM\r\n"))
    assert none.memdevs[1].address is None


def test_a_refusal_of_qemu_is_told_in_its_words() -> None:
    refused = {**made.answers(), q.PCI: json.dumps({"error": {"class": "X", "desc": "no such command"}})}
    with pytest.raises(ParseError, match="no such command"):
        parse_qmp(refused)


@pytest.mark.parametrize("query", [q.CPUS, q.MEMDEVS, q.PCI, q.DEVICES])
@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"return": 5}', '{"return": [5]}', '{"return": [{}]}'])
def test_a_misshapen_answer_is_refused_and_leads_to_no_question(query: str, answer: str) -> None:
    given_answers = {**made.answers(), query: answer}
    q.follow_ups(given_answers)
    with pytest.raises(ParseError, match="QEMU"):
        parse_qmp(given_answers)


def test_a_misshapen_answer_is_told_with_the_field_and_its_place() -> None:
    cpus = [{"cpu-index": 0, "thread-id": 72}, {"cpu-index": 1, "thread-id": "73"}]
    with pytest.raises(ParseError, match=r"query-cpus-fast.*: 1\.thread-id: .*integer"):
        parse_qmp(made.answers(cpus=cpus))


def test_a_pci_tree_without_end_is_refused() -> None:
    device = made.pci_device("d", 1, 0, 1, 1)
    for _ in range(40):
        device = made.pci_device("p", 1, 0, 1, 1, pci_bridge={"devices": [device]})
    with pytest.raises(ParseError, match="deeper"):
        parse_qmp(made.answers(pci=[{"devices": [device]}]))


TEXT = st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1"))
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "return",
                    "id",
                    "devices",
                    "pci_bridge",
                    "qdev_id",
                    "bus",
                    "slot",
                    "props",
                    "thread-id",
                    "size",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.binary(max_size=400))
def test_any_bytes_are_understood_or_refused(raw: bytes) -> None:
    for reader in (parse_host, parse_guest):
        with contextlib.suppress(ParseError):
            reader(raw)


@given(st.sampled_from([*made.host_parts()]), TEXT)
def test_any_text_in_a_host_part_is_understood_or_refused(title: str, text: str) -> None:
    parts = made.host_parts()
    with contextlib.suppress(ParseError):
        parse_host(made.frame("host", {**parts, title: text.encode("utf-8", "surrogatepass")}))


@given(st.sampled_from([*made.GUEST_PARTS]), TEXT)
def test_any_text_in_a_guest_part_is_understood_or_refused(title: str, text: str) -> None:
    with contextlib.suppress(ParseError):
        parse_guest(made.frame("guest", {**made.GUEST_PARTS, title: text.encode("utf-8", "surrogatepass")}))


@given(st.data())
def test_lines_in_any_order_with_any_loss_are_understood_or_refused(data: st.DataObject) -> None:
    title = data.draw(st.sampled_from(["tasks.again", "kthreads", "cgroups", "numa_maps", "options"]))
    lines = made.host_parts()[title].split("\n")
    kept = data.draw(st.lists(st.sampled_from(lines), max_size=len(lines)))
    with contextlib.suppress(ParseError):
        parse_host(made.frame("host", {**made.host_parts(), title: "\n".join(kept)}))


@given(st.sampled_from([*made.answers()]), JSONS)
def test_any_answer_of_qemu_is_understood_or_refused(query: str, value: object) -> None:
    for answer in (json.dumps(value), json.dumps({"return": value}), str(value)):
        changed = {**made.answers(), query: answer}
        q.follow_ups(changed)
        with contextlib.suppress(ParseError):
            parse_qmp(changed)


def test_a_ten_megabyte_line_is_only_a_long_line() -> None:
    read = parse_host(made.host(numa_maps="7f00 default file=/" + "x" * 10_000_000 + "\n"))
    assert read.mappings[0].file is not None
    assert len(read.mappings[0].file) == 10_000_001


def test_the_host_script_reads_a_process_and_none_of_its_secrets() -> None:
    """The script itself, with the shell that is here, on a process that this test starts."""
    argv = [
        "sh",
        "-c",
        "read x",
        "sh",
        "-name",
        "guest=g1",
        "-fw_cfg",
        "string=KEY\n-name",
        "-numa",
        "node\nx",
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        answer = really(scripts.HOST, str(process.pid), "ffff:ff:1f.7")
        process.kill()
    read = parse_host(answer.raw)
    assert b"KEY" not in answer.raw
    assert read.options == ("-name", "guest=g1", "-numa", "node?x")
    assert [(task.tid, task.name) for task in read.tasks] == [(process.pid, "sh")]
    assert read.tasks[0].cpus
    assert read.tasks[0].last_cpu is not None
    assert read.devices[PciAddress.parse("ffff:ff:1f.7")].driver is None


def test_the_host_script_says_that_a_domain_is_not_there() -> None:
    answer = really(scripts.HOST, "no-such-domain; touch x")
    with pytest.raises(ParseError, match="no QEMU process"):
        parse_host(answer.raw)


def test_the_guest_script_reads_this_machine() -> None:
    answer = really(scripts.GUEST)
    assert set(answer.contents()) == {"pci.paths", "pci.files", "nodes"}
    if Path("/sys/devices/system/node/node0").exists():
        assert parse_guest(answer.raw).nodes[0].id == 0
