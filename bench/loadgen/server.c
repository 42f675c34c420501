#include "loadgen/server.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loadgen/base.h"
#include "loadgen/options.h"

enum { MAX_PATH = 300, MAX_LINE = 1024 };

/* The fields of /proc/PID/stat from the third on, which follow the name in parentheses. */
static void read_stat(pid_t pid, char line[MAX_LINE]) {
  char path[MAX_PATH];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) base_fail("there is no process %d", pid);
  size_t len = fread(line, 1, MAX_LINE - 1, file);
  fclose(file);
  line[len] = '\0';
  const char *name_end = strrchr(line, ')');
  if (name_end == NULL || name_end + 2 > line + len) base_fail("no process %d", pid);
  memmove(line, name_end + 2, (size_t)(line + len - name_end) - 1);
}

/* Nanoseconds on a processor of all of its threads, which /proc/PID/stat has in hundredths of a
 * second only; 0 where the kernel does not tell. */
static uint64_t read_run_ns(pid_t pid) {
  char path[MAX_PATH];
  uint64_t sum_ns = 0;
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) return 0;
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    unsigned long run_ns = 0;
    if (task->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%d/task/%.20s/schedstat", pid, task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fscanf(file, "%20lu", &run_ns) == 1) sum_ns += run_ns;
    fclose(file);
  }
  closedir(tasks);
  return sum_ns;
}

static void add_memory(pid_t pid, server_usage *usage) {
  char text[MAX_PATH];
  unsigned long kib;
  snprintf(text, sizeof text, "/proc/%d/smaps_rollup", pid);
  FILE *file = fopen(text, "r");
  if (file == NULL) return;
  while (fgets(text, sizeof text, file) != NULL) {
    if (sscanf(text, "Rss: %20lu kB", &kib) == 1) usage->rss_bytes += kib * 1024;
    if (sscanf(text, "Anonymous: %20lu kB", &kib) == 1) usage->anonymous_bytes += kib * 1024;
  }
  fclose(file);
}

server_usage server_measure(void) {
  server_usage usage = {0};
  double ticks = (double)sysconf(_SC_CLK_TCK);
  for (int i = 0; i < options.pid_count; i++) {
    pid_t pid = options.pids[i];
    char line[MAX_LINE];
    unsigned long user = 0;
    unsigned long system = 0;
    read_stat(pid, line);
    sscanf(line, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %20lu %20lu", &user, &system);
    uint64_t run_ns = read_run_ns(pid);
    usage.user_s += (double)user / ticks;
    usage.system_s += (double)system / ticks;
    usage.cpu_s += run_ns > 0 ? (double)run_ns / 1e9 : (double)(user + system) / ticks;
    add_memory(pid, &usage);
  }
  return usage;
}

void server_hold(void) {
  for (int i = 0; i < options.pid_count; i++) {
    char line[MAX_LINE];
    kill(options.pids[i], SIGSTOP);
    do {
      read_stat(options.pids[i], line);
    } while (line[0] != 'T');
  }
}

void server_release(void) {
  for (int i = 0; i < options.pid_count; i++) kill(options.pids[i], SIGCONT);
}

uint64_t server_machine_available(void) {
  char line[MAX_LINE];
  unsigned long kib = 0;
  FILE *file = fopen("/proc/meminfo", "r");
  if (file == NULL) return 0;
  while (fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "MemAvailable: %20lu kB", &kib) == 1) break;
  }
  fclose(file);
  return (uint64_t)kib * 1024;
}
