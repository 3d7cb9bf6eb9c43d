/* x86-64: the CPUID leaves neurojit decodes, and XCR0.
 *
 * CPUID says what the CPU can do, XCR0 which register state the OS saves on a context switch; an
 * instruction is usable only where both agree (Intel SDM vol. 1, 13.1 and 14.3; AMD APM vol. 3, E). */
#include "cpu.h"

#if defined(__linux__) && defined(__x86_64__)

#include <cpuid.h>

static void ask(struct nj_cpu_raw *raw, uint32_t leaf, uint32_t subleaf)
{
    if (raw->cpuid_count == NJ_CPUID_MAX) return;
    struct nj_cpuid *row = &raw->cpuid[raw->cpuid_count++];
    row->leaf = leaf;
    row->subleaf = subleaf;
    __cpuid_count(leaf, subleaf, row->eax, row->ebx, row->ecx, row->edx);
}

static const struct nj_cpuid *last(const struct nj_cpu_raw *raw) { return &raw->cpuid[raw->cpuid_count - 1]; }

/* Cache leaves list one cache per subleaf until the type, EAX[4:0], is 0. */
static void ask_caches(struct nj_cpu_raw *raw, uint32_t leaf)
{
    for (uint32_t subleaf = 0; subleaf < 8; subleaf++) {
        ask(raw, leaf, subleaf);
        if ((last(raw)->eax & 0x1f) == 0) return;
    }
}

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

void nj_cpu_gather_x86(struct nj_cpu_raw *raw)
{
    const uint32_t osxsave = 1u << 27; /* leaf 1 ECX; without it XGETBV faults */

    ask(raw, 0, 0); /* highest leaf, vendor */
    const uint32_t highest = last(raw)->eax;
    if (highest >= 1) {
        ask(raw, 1, 0); /* signature, features */
        if (last(raw)->ecx & osxsave) {
            raw->xcr0.known = true;
            raw->xcr0.value = read_xcr0();
        }
    }
    if (highest >= 4) ask_caches(raw, 4);
    if (highest >= 7) {
        ask(raw, 7, 0); /* EAX: highest subleaf */
        const uint32_t subleaves = last(raw)->eax;
        for (uint32_t subleaf = 1; subleaf <= subleaves && subleaf <= 2; subleaf++) ask(raw, 7, subleaf);
    }
    if (highest >= 0xd) ask(raw, 0xd, 0);   /* state components the CPU could save */
    if (highest >= 0x1a) ask(raw, 0x1a, 0); /* hybrid: the kind of core this ran on */
    if (highest >= 0x24) ask(raw, 0x24, 0); /* AVX10: version and widths */

    ask(raw, 0x80000000u, 0);
    const uint32_t extended = last(raw)->eax;
    if (extended < 0x80000000u || extended > 0x8000ffffu)
        return; /* no extended leaves: an old CPU echoes some basic leaf here */
    for (uint32_t leaf = 0x80000001u; leaf <= 0x80000008u && leaf <= extended; leaf++)
        ask(raw, leaf, 0); /* features, brand string, caches and addresses of AMD */
    if (extended >= 0x8000001au) ask(raw, 0x8000001au, 0);     /* AMD: width of the floating-point datapath */
    if (extended >= 0x8000001du) ask_caches(raw, 0x8000001du); /* AMD: the cache leaf */
}

#endif
