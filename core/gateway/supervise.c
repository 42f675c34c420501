#define _GNU_SOURCE
#include "gateway/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
  PAUSE_LEAST_MS = 100,
  PAUSE_MOST_MS = 10000,
  GOOD_LIFE_MS = 60000, /* what lived so long had not failed from the start */
  /* Silence is measured in pieces, so that a parent that was stopped itself, and finds its time
   * over, listens again before it judges. */
  SILENCE_PIECES = 4,
};

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP};

static volatile sig_atomic_t asked_count;
static volatile sig_atomic_t asked_signal;
static volatile sig_atomic_t has_hung_up; /* SIGHUP: the child reloads */

struct supervisor {
  const supervise_options *options;
  sigset_t before;   /* the signal mask outside of waiting */
  sigset_t waiting;  /* while waiting */
  pid_t child;       /* 0: none */
  int fd;            /* of its pipe; -1: none */
  int told_count;    /* how often it was asked to stop */
  bool has_served;   /* some child has */
  bool is_serving;   /* this one has beaten */
  uint64_t pause_ms; /* before the next start */
};

/* --- the child's side --- */

bool supervise_beat(const struct supervise_link *link) {
  ssize_t written;
  do {
    written = write(link->fd, "", 1);
  } while (written < 0 && errno == EINTR);
  /* A full pipe has beats enough. */
  return written == 1 || errno != EPIPE;
}

/* --- signals --- */

static void on_signal(int number) {
  if (number == SIGHUP) {
    has_hung_up = 1;
    return;
  }
  asked_count = asked_count + 1;
  asked_signal = number;
}

/* They are let in only while waiting, so that none comes between a look at asked_count and the
 * wait. */
static void take_signals(struct supervisor *supervisor) {
  sigset_t ours;
  sigemptyset(&ours);
  struct sigaction action = {.sa_handler = on_signal};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
    sigaddset(&ours, passed_on[i]);
    sigaction(passed_on[i], &action, NULL);
  }
  sigprocmask(SIG_BLOCK, &ours, &supervisor->before);
  supervisor->waiting = supervisor->before;
  for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
    sigdelset(&supervisor->waiting, passed_on[i]);
  }
}

static void give_signals_back(const struct supervisor *supervisor) {
  for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
    signal(passed_on[i], SIG_DFL);
  }
  sigprocmask(SIG_SETMASK, &supervisor->before, NULL);
}

static void pass_signals_on(struct supervisor *supervisor) {
  if (has_hung_up) {
    has_hung_up = 0;
    if (supervisor->child != 0) kill(supervisor->child, SIGHUP);
  }
  if (supervisor->told_count == asked_count) return;
  bool is_first = supervisor->told_count == 0;
  supervisor->told_count = asked_count;
  if (is_first) supervisor->options->stop_listening(supervisor->options->context);
  if (supervisor->child != 0) kill(supervisor->child, is_first ? asked_signal : SIGKILL);
}

/* --- a child's life --- */

static void end_with_parent(pid_t parent) {
#ifdef PR_SET_PDEATHSIG
  prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
  /* It may have gone before it was asked for. */
  if (getppid() != parent) _exit(EXIT_FAILURE);
}

/* False when the system has no process or descriptor left. In the child `supervisor->child` is 0,
 * and `link` is its end. */
static bool start_child(struct supervisor *supervisor, struct supervise_link *link) {
  int ends[2];
  if (pipe(ends) < 0) return false;
  for (size_t i = 0; i < 2; i++) {
    fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    fcntl(ends[i], F_SETFL, O_NONBLOCK);
  }
  fflush(NULL);
  pid_t parent = getpid();
  pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    give_signals_back(supervisor);
    end_with_parent(parent);
    link->fd = ends[1];
    return true;
  }
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    return false;
  }
  supervisor->child = child;
  supervisor->fd = ends[0];
  supervisor->is_serving = false;
  return true;
}

/* Reads what the child has said; whether it lives. */
static bool hear_child(struct supervisor *supervisor) {
  char beats[64];
  ssize_t count = read(supervisor->fd, beats, sizeof beats);
  if (count == 0) return false;
  if (count < 0) return true;
  supervisor->is_serving = true;
  if (supervisor->has_served) return true;
  supervisor->has_served = true;
  supervisor->options->on_ready(supervisor->options->context);
  return true;
}

static struct timespec timespec_of_ms(uint64_t ms) {
  return (struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
}

/* Until the child has ended; gives its status. */
static int watch_child(struct supervisor *supervisor) {
  struct timespec piece = timespec_of_ms(supervisor->options->silence_ms / SILENCE_PIECES + 1);
  unsigned silent_pieces = 0;
  bool is_alive = true;
  while (is_alive) {
    pass_signals_on(supervisor);
    bool is_judged = supervisor->options->silence_ms > 0 && supervisor->is_serving;
    struct pollfd pipe_end = {.fd = supervisor->fd, .events = POLLIN};
    int count = ppoll(&pipe_end, 1, is_judged ? &piece : NULL, &supervisor->waiting);
    if (count > 0) {
      is_alive = hear_child(supervisor);
      silent_pieces = 0;
    } else if (count == 0 && ++silent_pieces == SILENCE_PIECES) {
      log_error("the gateway (process %d) is stuck, and is killed", (int)supervisor->child);
      kill(supervisor->child, SIGKILL);
    }
  }
  int status = 0;
  while (waitpid(supervisor->child, &status, 0) < 0 && errno == EINTR) continue;
  close(supervisor->fd);
  supervisor->fd = -1;
  return status;
}

static int exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Whether this end of a child is the end of all. */
static bool is_final(const struct supervisor *supervisor, int status) {
  if (supervisor->told_count > 0 || asked_count > 0) return true;
  if (!WIFEXITED(status)) return false;
  return WEXITSTATUS(status) == 0 || !supervisor->has_served;
}

static void log_end(const struct supervisor *supervisor, int status, uint64_t pause_ms) {
  bool is_exit = WIFEXITED(status);
  log_error("the gateway (process %d) ended with %s %d; it starts again in %.1f s",
            (int)supervisor->child, is_exit ? "exit code" : "signal",
            is_exit ? WEXITSTATUS(status) : WTERMSIG(status), (double)pause_ms / 1000);
}

/* Waits before the next start, unless it is asked to stop. */
static void make_pause(struct supervisor *supervisor) {
  uint64_t due_ns = clock_real_ns() + supervisor->pause_ms * 1000000;
  while (asked_count == 0) {
    uint64_t now_ns = clock_real_ns();
    if (now_ns >= due_ns) break;
    struct timespec left = timespec_of_ms((due_ns - now_ns) / 1000000 + 1);
    ppoll(NULL, 0, &left, &supervisor->waiting);
  }
  supervisor->pause_ms *= 2;
  if (supervisor->pause_ms > PAUSE_MOST_MS) supervisor->pause_ms = PAUSE_MOST_MS;
}

int supervise_run(const supervise_options *options) {
  struct supervisor supervisor = {.options = options, .fd = -1, .pause_ms = PAUSE_LEAST_MS};
  take_signals(&supervisor);
  while (asked_count == 0) {
    struct supervise_link link = {-1};
    uint64_t started_ns = clock_real_ns();
    supervisor.child = 0;
    if (start_child(&supervisor, &link)) {
      if (link.fd >= 0) {
        int code = options->run(options->context, &link);
        close(link.fd);
        return code;
      }
      int status = watch_child(&supervisor);
      if (is_final(&supervisor, status)) return exit_code(status);
      if (clock_real_ns() - started_ns >= GOOD_LIFE_MS * UINT64_C(1000000)) {
        supervisor.pause_ms = PAUSE_LEAST_MS;
      }
      log_end(&supervisor, status, supervisor.pause_ms);
    } else {
      log_error("cannot start a process: %s", strerror(errno));
    }
    supervisor.child = 0;
    make_pause(&supervisor);
  }
  options->stop_listening(options->context);
  return EXIT_SUCCESS;
}
