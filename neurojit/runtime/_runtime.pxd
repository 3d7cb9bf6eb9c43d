# The C runtime, and the Python classes around it, for other extension modules of neurojit.
#
# Everything `static inline` in the headers may be called from anywhere. The rest is linked into _runtime
# alone: other modules reach it through the cdef methods of SlotTable and Code.

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "<stdbool.h>" nogil:
    ctypedef bint bool


cdef extern from "executable_memory.h" nogil:
    ctypedef enum nj_strategy:
        NJ_STRATEGY_UNTRIED
        NJ_STRATEGY_MEMFD
        NJ_STRATEGY_MPROTECT
        NJ_STRATEGY_JIT
        NJ_STRATEGY_NONE
        NJ_STRATEGY_COUNT
    ctypedef enum nj_map_step:
        NJ_STEP_COUNT
    ctypedef struct nj_mapping:
        void *address
        size_t size
        nj_strategy strategy
    ctypedef struct nj_map_failure:
        int error
        nj_map_step step
        int closed
    ctypedef struct nj_memory_usage:
        uint64_t live_bytes
        uint64_t live_mappings
        uint64_t total_mappings
    nj_strategy nj_current_strategy()
    nj_map_failure nj_strategy_failure(nj_strategy strategy)
    nj_memory_usage nj_executable_memory_usage()
    bool nj_strategy_exists(nj_strategy strategy)
    const char *nj_strategy_name(nj_strategy strategy)
    const char *nj_step_name(nj_map_step step)
    void nj_executable_memory_inject(nj_map_step step, int error, int times)
    void nj_executable_memory_reset()


cdef extern from "code.h" nogil:
    ctypedef int64_t (*nj_kernel)(void *const *buffers, int64_t n) noexcept nogil
    enum:
        NJ_CODE_RELEASES_GIL
    ctypedef struct nj_code:
        nj_kernel entry
        void *context
        uint32_t flags
        size_t bytes
        void (*destroy)(nj_code *code) noexcept nogil
        nj_mapping mapping
    int nj_code_map(nj_code **code, const void *bytes, size_t length, const void *context,
                    size_t context_length, uint32_t flags)


cdef extern from "slots.h" nogil:
    ctypedef struct nj_key:
        uint64_t word[4]
    ctypedef struct nj_slot:
        nj_key key
    ctypedef struct nj_slot_table:
        pass
    ctypedef struct nj_slots_stats:
        uint64_t slots
        uint64_t published
        uint64_t live_bytes
        uint64_t retired
        uint64_t retired_bytes
        uint64_t publications
        uint64_t evictions
        uint64_t destroyed

    # static inline: for every module
    nj_slot *nj_slots_find(nj_slot_table *table, const nj_key *key)
    nj_code *nj_slot_enter(nj_slot *slot)
    void nj_slot_leave(nj_slot *slot)
    bool nj_slot_claim(nj_slot *slot)
    void nj_slot_unclaim(nj_slot *slot)
    uint64_t nj_slot_calls(nj_slot *slot)
    bool nj_slot_is_published(nj_slot *slot)

    # linked into _runtime
    nj_slot_table *nj_slots_create()
    bool nj_slots_destroy(nj_slot_table *table)
    nj_slot *nj_slots_insert(nj_slot_table *table, const nj_key *key)
    void nj_slot_publish(nj_slot_table *table, nj_slot *slot, nj_code *code)
    bool nj_slot_evict(nj_slot_table *table, nj_slot *slot)
    size_t nj_slots_evict(nj_slot_table *table, size_t bytes)
    size_t nj_slots_evict_keys(nj_slot_table *table, const nj_key *mask, const nj_key *value)
    size_t nj_slots_reclaim(nj_slot_table *table)
    nj_slots_stats nj_slots_statistics(nj_slot_table *table)


cdef class Code:
    cdef nj_code *code  # NULL once published
    cdef int calls_in_flight

    @staticmethod
    cdef Code map_memory(const void *code, size_t length, const void *context, size_t context_length,
                         uint32_t flags)
    cdef nj_code *give_up(self) except NULL
    cdef nj_code *owned(self) except NULL


cdef class Slot:
    cdef readonly SlotTable table
    cdef nj_slot *slot


cdef class SlotTable:
    cdef nj_slot_table *table  # what nj_slots_find takes; as long-lived as this object

    cdef nj_slot *insert_key(self, const nj_key *key) except NULL
    cdef void publish_code(self, nj_slot *slot, nj_code *code) noexcept nogil
    cdef bint evict_slot(self, nj_slot *slot) noexcept nogil
    cdef Slot wrap(self, nj_slot *slot)
    cdef nj_slot *mine(self, Slot slot) except NULL
