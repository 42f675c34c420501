/* Standard input, where whoever started the load generator says what to do: with --gate only.
 *
 * "live N" tells the workload that from now on generation N or a newer one answers; any other line
 * opens the gate that the run stands at. */
#ifndef LOADGEN_GATE_H
#define LOADGEN_GATE_H

/* After pool_init: lines are noticed while the loop turns. */
void gate_init(void);

/* Says where we are, and waits for a line that opens. */
void gate_pass(const char *word);

/* What epoll has for standard input, and what is to be done then. */
extern const char gate_tag;
void gate_read(void);

#endif
