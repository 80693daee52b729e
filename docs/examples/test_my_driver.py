"""Tests of one's own against passed-through guests: run with ``--candidate``, on the lab or on a rack."""


def test_my_driver(guest):
    """Each GPU that was handed to the guest is there, and no driver of the host's came with it."""
    for gpu in guest.gpus:
        device = guest.infra.file(f"/sys/bus/pci/devices/{gpu.guest}")
        assert device.exists, f"{gpu.host} of the host is not in {guest.name}"
    assert guest.run("uname", "-r").status == 0


def test_config_space(gpu, guest):
    """One test for each GPU: its configuration space can be read, and is not all ones."""
    header = guest.run("head", "-c", "4", f"/sys/bus/pci/devices/{gpu.guest}/config").stdout
    assert header != b"\xff\xff\xff\xff"


def test_passwords_are_found(load):
    """One test for each load, after it ran: what it measured can be judged again, by rules of one's own."""
    for result in load.results:
        assert result.status == "done"
        assert all(answer.ok for answer in result.answers)


def test_two_tenants(guests):
    """The guests of a group live at the same time, on GPUs of their own."""
    handed_out = [gpu.host for guest in guests for gpu in guest.gpus]
    assert len(guests) == 2
    assert len(set(handed_out)) == len(handed_out)


def test_the_host(candidate):
    """Questions to the host itself, through testinfra."""
    assert candidate.infra.file("/dev/vfio").is_directory
