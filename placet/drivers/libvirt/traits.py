"""The os-traits of a node: https://docs.openstack.org/os-traits. Pure."""

from __future__ import annotations

DRIVER_TRAITS = frozenset(
    {
        "COMPUTE_NODE",
        "COMPUTE_FIRMWARE_BIOS",
        "COMPUTE_GRAPHICS_MODEL_NONE",
        "COMPUTE_IMAGE_TYPE_QCOW2",
        "COMPUTE_IMAGE_TYPE_RAW",
        "COMPUTE_NET_VIF_MODEL_VIRTIO",
        "COMPUTE_STORAGE_BUS_VIRTIO",
    }
)
ARCH_TRAITS = {"x86_64": frozenset({"HW_ARCH_X86_64", "COMPUTE_ARCH_X86_64"})}

# Linux's names (arch/x86/include/asm/cpufeatures.h) to os-traits', where they are not the same word
OTHER_WORD = {
    "pni": "SSE3",
    "sse4_1": "SSE41",
    "sse4_2": "SSE42",
    "pclmulqdq": "CLMUL",
    "fma": "FMA3",
    "bmi1": "BMI",
    "aes": "AESNI",
    "sha_ni": "SHA",
    "rtm": "TSX",
    "avx512_vnni": "AVX512VNNI",
    "avx512_vbmi2": "AVX512VBMI2",
    "avx512_bitalg": "AVX512BITALG",
    "avx512_vpopcntdq": "AVX512VPOPCNTDQ",
    "vaes": "AVX512VAES",
    "gfni": "AVX512GFNI",
    "vpclmulqdq": "AVX512VPCLMULQDQ",
    "amx_bf16": "AMXBF16",
    "amx_int8": "AMXINT8",
    "amx_tile": "AMXTILE",
    "vmx": "VMX",
    "svm": "SVM",
}
SAME_WORD = (
    *(
        "mmx",
        "3dnow",
        "sse",
        "sse2",
        "ssse3",
        "sse4a",
        "avx",
        "avx2",
        "f16c",
        "fma4",
        "xop",
        "abm",
        "bmi2",
        "tbm",
        "mpx",
    ),
    *("pdpe1gb", "stibp", "avx512f", "avx512cd", "avx512pf", "avx512er", "avx512vl", "avx512bw", "avx512dq"),
    *("avx512vbmi", "avx512ifma"),
)
KNOWN_FLAGS = frozenset((*OTHER_WORD, *SAME_WORD))
# what QEMU's emulation has had for long, whatever the machine beneath (TCG_*_FEATURES in its target/i386/cpu.c)
EMULATED_FLAGS = frozenset(
    {
        *("mmx", "sse", "sse2", "pni", "ssse3", "sse4_1", "sse4_2", "sse4a", "pclmulqdq", "aes", "abm", "bmi1", "bmi2"),
        "pdpe1gb",
    }
)


def traits_of(arch: str, virt_type: str, cpu_flags: frozenset[str]) -> frozenset[str]:
    """What guests can count on: the CPU's features under kvm, the emulator's otherwise."""
    flags = cpu_flags if virt_type == "kvm" else EMULATED_FLAGS
    return DRIVER_TRAITS | ARCH_TRAITS.get(arch, frozenset()) | {_trait(flag) for flag in flags & KNOWN_FLAGS}


def _trait(flag: str) -> str:
    return f"HW_CPU_X86_{OTHER_WORD.get(flag, flag.upper())}"
