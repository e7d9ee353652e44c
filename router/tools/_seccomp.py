"""The system calls that sandboxed Python may not make, as a seccomp filter program for `bwrap --seccomp`.

No new processes (threads are fine), no sockets, nothing that mounts, traces, loads or reaches other namespaces, and no memory that
the limit on address space does not count. A process limit alone would not do: it does not hold for root. Numbers:
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux 6.12; format: linux/filter.h, linux/seccomp.h.
"""

import errno
import platform
import struct
import sys
from dataclasses import dataclass

from data.errors import ToolError

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; the low half on little-endian machines
_CLONE_THREAD = 0x00010000
_CLONE3 = 435
_NEW = (
    *range(425, 434),
    438,
    442,
    447,
)  # io_uring, the new mount calls, pidfd_getfd, mount_setattr, memfd_secret: the same everywhere


@dataclass(frozen=True, slots=True)
class _Architecture:
    """Its number in linux/audit.h, `clone`, and the calls that are denied; x32 says whether a second call table must be closed."""

    number: int
    clone: int
    denied: tuple[int, ...]
    x32: bool = False


# fork vfork socket ptrace mount umount2 pivot_root chroot unshare setns bpf perf_event_open add_key request_key keyctl
# userfaultfd init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff name_to_handle_at
# open_by_handle_at process_vm_readv process_vm_writev kcmp memfd_create shmget msgget semget mq_open syslog
_X86_64 = (
    *(57, 58, 41, 101, 165, 166, 155, 161, 272, 308, 321, 298, 248, 249, 250),
    *(323, 175, 313, 176, 246, 320, 169, 167, 168, 303),
    *(304, 310, 311, 312, 319, 29, 68, 64, 240, 103),
)
_GENERIC = (  # has neither fork nor vfork
    *(198, 117, 40, 39, 41, 51, 97, 268, 280, 241, 217, 218, 219),
    *(282, 105, 273, 106, 104, 294, 142, 224, 225, 264),
    *(265, 270, 271, 272, 279, 194, 186, 190, 180, 116),
)
_ARCHITECTURES = {
    "x86_64": _Architecture(0xC000003E, 56, _X86_64, x32=True),
    "aarch64": _Architecture(0xC00000B7, 220, _GENERIC),
    "riscv64": _Architecture(0xC00000F3, 220, _GENERIC),
    "loongarch64": _Architecture(0xC0000102, 220, _GENERIC),
}


def program() -> bytes:
    """The filter for this machine's processor. Raises ToolError where its call numbers are not known here."""
    found = _ARCHITECTURES.get(platform.machine())
    if found is None or sys.byteorder != "little":
        raise ToolError(
            f"the sandbox knows no filter for the processor {platform.machine()}", f"known: {', '.join(_ARCHITECTURES)}"
        )
    lines = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUAL, found.number, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
    ]
    if found.x32:
        lines += [_line(_AT_LEAST, 0x40000000, 0, 1), _line(_RETURN, _ERRNO | errno.EPERM)]
    for call in (*found.denied, *_NEW):
        lines += [_line(_EQUAL, call, 0, 1), _line(_RETURN, _ERRNO | errno.EPERM)]
    lines += [_line(_EQUAL, _CLONE3, 0, 1), _line(_RETURN, _ERRNO | errno.ENOSYS)]  # the C library then uses clone
    lines += [
        _line(_EQUAL, found.clone, 0, 3),
        _line(_LOAD, _FIRST_ARGUMENT),
        _line(_ANY_BIT, _CLONE_THREAD, 1, 0),
        _line(_RETURN, _ERRNO | errno.EPERM),
        _line(_RETURN, _ALLOW),
    ]
    return b"".join(lines)


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
