"""The system calls that are refused inside a sandbox, as a program for the kernel's filter.

A list of what is refused, not of what is allowed: programs of all kinds run inside, and what is refused is
what reaches the kernel's own insides or would make namespaces of its own, where root has powers that it
lost outside.

Source: seccomp(2), bpf(4) of the BSDs, linux/filter.h.
"""

from __future__ import annotations

import errno
import struct

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = (
    0,
    4,
    16,
)  # offsets in struct seccomp_data; the low word of the argument
_X32 = 0x40000000
_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_FAMILIES = (38, 40)  # AF_ALG: of a bad past; AF_VSOCK: to whoever runs this machine as a virtual one

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name -> its number on x86_64, on aarch64
_REFUSED = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "open_by_handle_at": (304, 265), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "quotactl": (179, 60), "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "lookup_dcookie": (212, 18), "vhangup": (153, 58),
    "move_pages": (279, 239), "fanotify_init": (300, 262),
}  # fmt: skip
_X86_ONLY = {"iopl": 172, "ioperm": 173, "uselib": 134, "sysfs": 139, "modify_ldt": 154}
_CLONE, _UNSHARE, _CLONE3, _SOCKET = (56, 220), (272, 97), (435, 435), (41, 198)
_PRLIMIT = (302, 261)


def program(machine: str) -> bytes:
    """The filter for ``x86_64`` or ``aarch64``; empty for a machine whose numbers are not known here."""
    if machine not in _ARCHITECTURES:
        return b""
    column = list(_ARCHITECTURES).index(machine)
    numbers = [each[column] for each in _REFUSED.values()]
    if machine == "x86_64":
        numbers += _X86_ONLY.values()
    refuse, unknown = _give(_ERROR | errno.EPERM), _give(_ERROR | errno.ENOSYS)
    lines = [_load(_ARCHITECTURE), _unless(_EQUAL, _ARCHITECTURES[machine], 1, 0), unknown, _load(_NUMBER)]
    if machine == "x86_64":
        lines += [_unless(_ANY_BIT, _X32, 0, 1), unknown]
    # The flags of clone3 are in memory, where a filter cannot look; the C library then takes clone.
    lines += [_unless(_EQUAL, _CLONE3[column], 0, 1), unknown]
    for number in numbers:
        lines += [_unless(_EQUAL, number, 0, 1), refuse]
    for number in (_CLONE[column], _UNSHARE[column]):
        lines += [
            _unless(_EQUAL, number, 0, 4), _load(_FIRST_ARGUMENT),
            _unless(_ANY_BIT, _NAMESPACES, 0, 1), refuse, _give(_ALLOW),
        ]  # fmt: skip
    # Root inside has the guest's own number, and could leave it without a descriptor.
    lines += [
        _unless(_EQUAL, _PRLIMIT[column], 0, 4), _load(_FIRST_ARGUMENT),
        _unless(_EQUAL, 1, 0, 1), refuse, _give(_ALLOW),
    ]  # fmt: skip
    lines += [_unless(_EQUAL, _SOCKET[column], 0, 1 + 2 * len(_FAMILIES)), _load(_FIRST_ARGUMENT)]
    for family in _FAMILIES:
        lines += [_unless(_EQUAL, family, 0, 1), _give(_ERROR | errno.EAFNOSUPPORT)]
    return b"".join([*lines, _give(_ALLOW)])


def _load(offset: int) -> bytes:
    return struct.pack("HBBI", _LOAD, 0, 0, offset)


def _unless(test: int, value: int, if_so: int, if_not: int) -> bytes:
    """Go on after so many more instructions where the loaded word passes the test, or does not."""
    return struct.pack("HBBI", test, if_so, if_not, value)


def _give(answer: int) -> bytes:
    return struct.pack("HBBI", _RETURN, 0, 0, answer)
