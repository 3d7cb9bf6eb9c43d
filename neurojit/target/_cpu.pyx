"""The raw facts that csrc/cpu.h gathers, as plain Python values."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "cpu.h" nogil:
    ctypedef struct nj_cpuid "struct nj_cpuid":
        uint32_t leaf
        uint32_t subleaf
        uint32_t eax
        uint32_t ebx
        uint32_t ecx
        uint32_t edx

    ctypedef struct nj_hwprobe "struct nj_hwprobe":
        int64_t key
        uint64_t value

    ctypedef struct nj_sysctl "struct nj_sysctl":
        const char *name
        uint64_t value

    ctypedef struct nj_word "struct nj_word":
        bint known
        uint64_t value

    ctypedef struct nj_cpu_raw "struct nj_cpu_raw":
        const char *architecture
        size_t cpuid_count
        nj_cpuid cpuid[64]
        nj_word xcr0
        nj_word hwcap
        nj_word hwcap2
        nj_word sve_vl
        nj_word midr
        size_t sysctl_count
        nj_sysctl sysctl[32]
        char brand[64]
        size_t hwprobe_count
        nj_hwprobe hwprobe[16]
        nj_word vector_control
        nj_word vlenb

    void nj_cpu_gather(nj_cpu_raw *raw)


cdef object optional(nj_word word):
    return word.value if word.known else None


def gather():
    """What this machine says: {"architecture", "cpuid", "xcr0", ...}, decoded by neurojit.target."""
    cdef nj_cpu_raw raw
    cdef size_t i
    nj_cpu_gather(&raw)
    return {
        "architecture": raw.architecture.decode("ascii"),
        "cpuid": [
            (row.leaf, row.subleaf, row.eax, row.ebx, row.ecx, row.edx)
            for row in raw.cpuid[:raw.cpuid_count]
        ],
        "xcr0": optional(raw.xcr0),
        "hwcap": optional(raw.hwcap),
        "hwcap2": optional(raw.hwcap2),
        "sve_vl": optional(raw.sve_vl),
        "midr": optional(raw.midr),
        "sysctl": {
            raw.sysctl[i].name.decode("ascii"): raw.sysctl[i].value for i in range(raw.sysctl_count)
        },
        "brand": (<bytes>raw.brand).decode("ascii", "replace"),
        "hwprobe": [(raw.hwprobe[i].key, raw.hwprobe[i].value) for i in range(raw.hwprobe_count)],
        "vector_control": optional(raw.vector_control),
        "vlenb": optional(raw.vlenb),
    }
