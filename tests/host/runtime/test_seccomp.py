"""The filter of system calls does what its list says: it is run here as the kernel runs it."""

from __future__ import annotations

import errno
import struct

import pytest

from wellhead.host.runtime import seccomp

X86, ARM = 0xC000003E, 0xC00000B7
ALLOWED = 0x7FFF0000


def answer(machine: str, architecture: int, number: int, *arguments: int) -> int:
    """What the filter says to a call: ALLOWED, or an errno."""
    facts = struct.pack("IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    program = seccomp.program(machine)
    lines = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    at, word = 0, 0
    while True:
        code, if_so, if_not, value = lines[at]
        at += 1
        if code == 0x20:
            word = struct.unpack_from("I", facts, value)[0]
        elif code == 0x15:
            at += if_so if word == value else if_not
        elif code == 0x45:
            at += if_so if word & value else if_not
        else:
            assert code == 0x06
            return int(value if value == ALLOWED else value & 0xFFFF)


@pytest.mark.parametrize(("machine", "architecture", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_calls_into_the_kernel_are_refused_and_ordinary_ones_pass(
    machine: str, architecture: int, column: int
) -> None:
    refused = {"mount": (165, 40), "bpf": (321, 280), "io_uring_setup": (425, 425), "setns": (308, 268)}
    passed = {
        "read": (0, 63),
        "execve": (59, 221),
        "ptrace": (101, 117),
        "mknodat": (259, 33),
        "futex": (202, 98),
    }
    for name, numbers in refused.items():
        assert answer(machine, architecture, numbers[column]) == errno.EPERM, name
    for name, numbers in passed.items():
        assert answer(machine, architecture, numbers[column]) == ALLOWED, name


@pytest.mark.parametrize(("machine", "architecture", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_processes_and_threads_can_be_made_and_namespaces_cannot(
    machine: str, architecture: int, column: int
) -> None:
    clone, unshare, clone3 = (56, 220)[column], (272, 97)[column], 435
    assert answer(machine, architecture, clone, 0x003D0F00) == ALLOWED  # a thread of the C library
    assert answer(machine, architecture, clone, 17) == ALLOWED  # a process
    assert answer(machine, architecture, unshare, 0x400) == ALLOWED  # descriptors of its own
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine, architecture, clone, flag | 17) == errno.EPERM
        assert answer(machine, architecture, unshare, flag) == errno.EPERM
    assert answer(machine, architecture, clone3) == errno.ENOSYS  # so that clone is used instead


@pytest.mark.parametrize(("machine", "architecture", "number"), [("x86_64", X86, 41), ("aarch64", ARM, 198)])
def test_sockets_of_dangerous_families_are_refused(machine: str, architecture: int, number: int) -> None:
    assert answer(machine, architecture, number, 2, 1, 0) == ALLOWED
    assert answer(machine, architecture, number, 10, 1, 0) == ALLOWED
    assert answer(machine, architecture, number, 40, 1, 0) == errno.EAFNOSUPPORT
    assert answer(machine, architecture, number, 38, 5, 0) == errno.EAFNOSUPPORT


@pytest.mark.parametrize(("machine", "architecture", "number"), [("x86_64", X86, 302), ("aarch64", ARM, 261)])
def test_limits_of_the_first_process_are_nobodys_to_set(machine: str, architecture: int, number: int) -> None:
    assert answer(machine, architecture, number, 1) == errno.EPERM
    assert answer(machine, architecture, number, 0) == ALLOWED  # one's own
    assert answer(machine, architecture, number, 2) == ALLOWED


def test_calls_of_another_architecture_do_not_exist() -> None:
    assert answer("x86_64", 0x40000003, 11) == errno.ENOSYS  # 32 bits
    assert answer("x86_64", X86, 0x40000000 | 1) == errno.ENOSYS  # x32
    assert answer("aarch64", X86, 0) == errno.ENOSYS


def test_a_machine_whose_numbers_are_unknown_has_no_filter() -> None:
    assert seccomp.program("riscv64") == b""
