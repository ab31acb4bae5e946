// SPDX-License-Identifier: MIT
// What the player says to the process that is a story's task on the host, and what that answers.
//
// Over a stream socket of two processes on one machine: a request, its payload; a reply, its
// payload; one at a time. A request may carry an open file. The end of the stream ends the task.
#ifndef GODWIT_LAB_HOST_WIRE_H
#define GODWIT_LAB_HOST_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum agent_op {
	// Everything by arg[]; what is not said is 0.
	AGENT_FORK,    // the carried file: the child's socket. ret: its pid
	AGENT_BECOME,  // user arg[0], dumpable, without capabilities
	AGENT_CPU,     // all threads run on cpu arg[0] from now on
	AGENT_SYSCALL, // system call `call` of arg[]; see pointers and file_arg
	AGENT_ACCESS,  // enum agent_access arg[0]: address arg[1], length arg[2], byte arg[3]
	AGENT_MOVE,    // move_pages: see agent_move.c
	AGENT_PIN,     // key arg[0]: address arg[1], length arg[2]
	AGENT_UNPIN,   // key arg[0]
	AGENT_LOAD,    // key arg[0]: address arg[1], length arg[2], writes arg[3], threads
		    // arg[4], lanes from arg[5]
	AGENT_STOP, // key arg[0]
	AGENT_EXIT, // no reply but the end of the stream
};

enum agent_access { AGENT_WRITE, AGENT_READ, AGENT_CHECK };
enum agent_bad { AGENT_BAD_PAGES = 1, AGENT_BAD_NODES = 2, AGENT_BAD_STATUS = 4 };

struct agent_request {
	uint32_t op;
	uint32_t call;	       // SYSCALL: its number
	uint32_t pointers;     // SYSCALL: bit i: arg[i] is an offset into the payload
	int32_t file_arg;      // SYSCALL: this argument becomes the carried file; -1: none
	uint32_t has_file;     // one is carried
	uint32_t keep_payload; // SYSCALL: the reply brings the payload back
	uint64_t arg[6];
	uint64_t bytes; // of payload that follow
};

struct agent_reply {
	int64_t ret;		  // of the call; -1: failed
	int32_t error;		  // positive errno
	int32_t signal;		  // that ended the access, or a thread of a load
	uint32_t mismatch, found; // check: at address
	uint64_t address;
	uint64_t accesses, stall_ns, lost; // stop
	uint64_t bytes;			   // of payload that follow
};

// All bytes, or false: the other side is gone. file -1: none is carried.
bool wire_send(int socket, const void *data, size_t size, int file);
// *ret_file: the carried one, or -1; NULL: none is expected.
bool wire_receive(int socket, void *data, size_t size, int *ret_file);

// ---- The agent ----------------------------------------------------------------------------------

struct agent_load;
struct agent_pin;

struct agent {
	int socket;
	struct agent_load *loads;
	struct agent_pin *pins;
};

// Serves requests until the stream ends. Call it in a new process with one thread.
_Noreturn void agent_run(int socket);

typedef void agent_fn(
	struct agent *agent, const struct agent_request *request, struct agent_reply *reply);

agent_fn agent_access;		 // agent_access.c
agent_fn agent_load, agent_stop; // agent_load.c
agent_fn agent_pin, agent_unpin; // agent_pin.c
void agent_catch_signals(void);	 // agent_access.c
void agent_drop_pins(struct agent *agent);
void agent_forget_loads(struct agent *agent); // in a forked child, whose they are not
void agent_forget_pins(struct agent *agent);
// The payload is two arrays, arg[2] pages and, with arg[5], as many nodes; *ret_status (to free())
// gets *ret_count numbers. agent_move.c
void agent_move(const struct agent_request *request, const void *payload, struct agent_reply *reply,
	int32_t **ret_status, size_t *ret_count);

// One access of the calling thread that may die of a signal, whose number is returned; 0: it did
// not. *ret_old is what was there. agent_access.c
int agent_touch_lane(volatile uint64_t *lane, bool write, uint64_t value, uint64_t *ret_old);

#endif
