/* Instruction synchronisation: after it, every core that learns the address of new code executes that code.
 *
 * The problem. Where instruction caches do not follow the data caches (AArch64, RISC-V), new bytes must be
 * pushed to where instructions are fetched from; and a core may already have fetched what the same address
 * held before, code that was unmapped since. Arm's rule (Arm ARM B2.4.4, "Concurrent modification and
 * execution of instructions"): DC CVAU, DSB, IC IVAU, DSB on the core that writes, which reach all cores,
 * then an ISB on each core that executes, which reaches only itself.
 *
 * The idea. __builtin___clear_cache does the first part, on RISC-V all of it (Linux's riscv_flush_icache
 * interrupts every hart). The ISBs come from Linux's membarrier(SYNC_CORE): when it returns, every core that
 * runs a thread of this process has passed one. A process registers for it once, and is asked again to
 * when a forked child finds itself unregistered. x86-64 needs nothing: its caches are coherent, and the
 * interrupt by which an unmapping reaches other cores serialises them.
 *
 * Where there is no such call (Linux before 4.16, a sandbox, macOS) only an address that held other code
 * before is at risk. So there no address is used twice: mappings are given back, their addresses are not.
 *
 * Invariant. Which of the two holds is decided at the first mapping and stays: when the call fails after
 * it had worked, that mapping fails, since its address may be an old one. */
#ifndef NJ_INSTRUCTION_SYNC_H
#define NJ_INSTRUCTION_SYNC_H

#include <stdbool.h>
#include <stddef.h>

/* Of a mapping that nobody has been told of yet. Returns 0, or an errno and the mapping must not be used. */
int nj_synchronise_instructions(void *start, size_t size);

/* Whether addresses that held code may hold other code later. */
bool nj_addresses_are_reusable(void);

/* Forgets what was decided: for tests. */
void nj_instruction_sync_reset(void);

#endif
