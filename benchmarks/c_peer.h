/* What a shared library exports to be timed beside neurojit by programs_c_to_c.py.
 *
 * A library of networks in C or C++, compiled for this machine, is wrapped in these two functions and named in
 * NEUROJIT_C_PEERS (several: between colons). Networks are those of programs_c_to_c.py, by name. Weights come as
 * neurojit.nn keeps them, row-major float32: of a dense layer the matrix (inputs, outputs) and the bias; of
 * "LSTM-64 step" and "GRU-64 step" the matrices (64, gates x 64) of input and state and their two biases, gates in
 * PyTorch's order (i f g o, r z n), the GRU's reset gate after the product.
 */
#include <stdint.h>

/* Its name and version, and how it was compiled: for the table. */
const char *peer_name(void);

/* Builds the network, its state zeros; calls it so many times with the row x, every call as if x were new; writes
 * what the last call gave to y. Seconds of the calls alone; negative: it has no such network. */
double peer_time(const char *network, const float *const *weights, const float *x, float *y, int64_t calls);
