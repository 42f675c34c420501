/* Threads that publish, subscribe, leave and clear at once, and check what every subscriber saw.
 *
 * Each topic has publishers that count: the data of a publication is the topic's serial number,
 * drawn and published in one step per topic, so release order is serial order. Checked: a
 * subscriber sees each serial once, in order, replay and live parts joined without a seam; across
 * topics releases only grow; a since that is complete misses nothing. For ThreadSanitizer and
 * AddressSanitizer too. Prints one line and exits 0, or says what went wrong and aborts. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pubsub/hub.h"
#include "pubsub/topic.h"

enum { WORKERS = 4, SUBSCRIBERS = 6, KEPT_TOPICS = 3, LIVE_TOPICS = 2 };
enum { TOPICS = KEPT_TOPICS + LIVE_TOPICS, CLEARED_TOPIC = 0 };
enum { DEFAULT_MS = 1500 };

static struct hub *hub;
static atomic_bool is_over;
static atomic_uint_fast64_t delivered, replayed, lost, tasks_run;

/* What one topic's publishers share. */
static struct {
  char name[16];
  pthread_mutex_t lock; /* makes drawing a serial and publishing it one step */
  uint64_t serial;
} published[TOPICS];

struct payload {
  uint64_t topic;
  uint64_t serial;
};

/* One subscriber's view of one topic. */
struct view {
  bool is_subscribed;
  bool is_anchored;  /* `serial` is known: the next one must follow it */
  uint64_t serial;   /* last seen */
  uint64_t number;   /* position up to which everything was seen */
  bool is_resumable; /* `number` and `serial` belong together */
};

struct client {
  struct subscriber subscriber;
  struct worker *worker;
  struct view views[TOPICS];
  uint64_t release; /* of the last live publication */
};

struct worker {
  struct topics topics;
  struct client clients[SUBSCRIBERS];
  pthread_mutex_t sleep_lock;
  pthread_cond_t awake;
  size_t index;
  unsigned random;
  bool is_awake;
};

static struct worker workers[WORKERS];

static unsigned draw(unsigned *state, unsigned n) {
  *state = *state * 1664525u + 1013904223u;
  return (*state >> 8) % n;
}

static slice topic_name(size_t topic) {
  return slice_of_string(published[topic].name);
}

/* Serials of a topic follow each other; only where something may be missing a jump ahead is fine.
 */
static void see(struct view *view, const struct message *message) {
  struct payload payload;
  memcpy(&payload, message->data.data, sizeof payload);
  if (view->is_anchored) {
    REQUIRE(payload.serial == view->serial + 1);
  } else {
    REQUIRE(payload.serial > view->serial);
  }
  view->is_anchored = true;
  view->serial = payload.serial;
}

static size_t topic_of(const struct message *message) {
  struct payload payload;
  memcpy(&payload, message->data.data, sizeof payload);
  REQUIRE(payload.topic < TOPICS);
  return payload.topic;
}

static void on_deliver(struct subscriber *subscriber, uint32_t tag, struct message *message) {
  struct client *client = CONTAINER_OF(subscriber, struct client, subscriber);
  size_t topic = topic_of(message);
  REQUIRE(tag == topic);
  REQUIRE(message->release > client->release);
  client->release = message->release;
  REQUIRE(client->views[topic].is_subscribed);
  see(&client->views[topic], message);
  atomic_fetch_add_explicit(&delivered, 1, memory_order_relaxed);
}

static void on_lost(struct subscriber *subscriber, uint32_t tag) {
  struct client *client = CONTAINER_OF(subscriber, struct client, subscriber);
  client->views[tag].is_anchored = false;
  atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
}

static const struct subscriber_ops ops = {on_deliver, on_lost};

static void publish(size_t topic, unsigned flags, size_t worker) {
  pthread_mutex_lock(&published[topic].lock);
  struct payload payload = {topic, ++published[topic].serial};
  struct message *message =
      message_new(SLICE("event"), slice_of(&payload, sizeof payload), MESSAGE_BINARY | flags);
  hub_receipt receipt;
  REQUIRE(hub_publish(hub, worker, topic_name(topic), message, &receipt) == HUB_OK);
  pthread_mutex_unlock(&published[topic].lock);
  message_release(message);
}

/* --- workers --- */

static void wake(void *context) {
  struct worker *worker = context;
  pthread_mutex_lock(&worker->sleep_lock);
  worker->is_awake = true;
  pthread_cond_signal(&worker->awake);
  pthread_mutex_unlock(&worker->sleep_lock);
}

static bool timed_out(struct worker *worker) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += 200 * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  return pthread_cond_timedwait(&worker->awake, &worker->sleep_lock, &until) != 0;
}

/* Who sleeps long with something in the inbox was not woken for it. */
static void sleep_until_woken(struct worker *worker) {
  if (topics_has_waiting(&worker->topics)) return;
  bool is_late = false;
  pthread_mutex_lock(&worker->sleep_lock);
  while (!worker->is_awake && !is_late) is_late = timed_out(worker);
  worker->is_awake = false;
  pthread_mutex_unlock(&worker->sleep_lock);
  if (!is_late) return;
  /* Whoever is between pushing and waking holds the hub's lock. */
  hub_lock(hub);
  bool is_waiting = topics_has_waiting(&worker->topics);
  hub_unlock(hub);
  pthread_mutex_lock(&worker->sleep_lock);
  REQUIRE(!is_waiting || worker->is_awake);
  pthread_mutex_unlock(&worker->sleep_lock);
}

static void resume(struct worker *worker, struct client *client, size_t topic) {
  struct view *view = &client->views[topic];
  hub_start start = {.has_since = view->is_resumable,
                     .is_since_known = true,
                     .since_number = view->number,
                     .from = draw(&worker->random, 2) ? HUB_FROM_START : HUB_FROM_NOW};
  slice name = topic_name(topic);
  subscribe_result result;
  struct cut *replay;
  hub_position position;
  REQUIRE(topics_subscribe(&worker->topics, &client->subscriber, &name, 1, &start, (uint32_t)topic,
                           &result, &replay, &position) == HUB_OK);
  REQUIRE(!result.was_subscribed);
  view->is_subscribed = true;
  view->is_anchored = view->is_resumable && result.is_complete;
  if (replay == NULL) return;
  struct message *message;
  while ((message = cut_next(replay)) != NULL) {
    REQUIRE(message->number > 0 && message->number <= position.heads[0]);
    see(view, message);
    atomic_fetch_add_explicit(&replayed, 1, memory_order_relaxed);
  }
  cut_free(replay);
}

static void leave(struct worker *worker, struct client *client, size_t topic) {
  struct view *view = &client->views[topic];
  REQUIRE(topics_unsubscribe(&worker->topics, &client->subscriber, topic_name(topic)));
  view->is_subscribed = false;
  /* Leaving handed everything over, so the worker's position is the client's. */
  view->number = worker->topics.position.heads[0];
  view->is_resumable = topic < KEPT_TOPICS && view->is_anchored;
}

/* A random client enters or leaves a random topic. */
static void move(struct worker *worker) {
  struct client *client = &worker->clients[draw(&worker->random, SUBSCRIBERS)];
  size_t topic = draw(&worker->random, TOPICS);
  if (client->views[topic].is_subscribed) {
    leave(worker, client, topic);
  } else {
    resume(worker, client, topic);
  }
}

static void on_task(void *context) {
  struct worker *worker = context;
  atomic_fetch_add_explicit(&tasks_run, 1, memory_order_relaxed);
  if (atomic_load(&is_over)) return;
  publish(draw(&worker->random, TOPICS), 0, worker->index);
  move(worker);
}

static void act(struct worker *worker) {
  switch (draw(&worker->random, 4)) {
    case 0:
      publish(draw(&worker->random, TOPICS), 0, worker->index);
      break;
    case 1:
      topics_refresh(&worker->topics);
      break;
    default:
      move(worker);
  }
}

static void *run_worker(void *context) {
  struct worker *worker = context;
  while (!atomic_load(&is_over)) {
    for (unsigned left = draw(&worker->random, 8); left > 0; left--) act(worker);
    topics_drain(&worker->topics, draw(&worker->random, 2) ? clock_real_ns() + 20000 : 0);
    sleep_until_woken(worker);
  }
  for (size_t i = 0; i < SUBSCRIBERS; i++) {
    topics_unsubscribe_all(&worker->topics, &worker->clients[i].subscriber);
  }
  hub_detach(hub, worker->index);
  topics_drain(&worker->topics, 0);
  topics_deinit(&worker->topics);
  return NULL;
}

/* --- other threads --- */

static void *run_publisher(void *context) {
  unsigned random = (unsigned)(uintptr_t)context;
  while (!atomic_load(&is_over)) {
    unsigned burst = draw(&random, 60);
    for (unsigned i = 0; i < burst; i++) publish(draw(&random, TOPICS), 0, HUB_WORKERS);
    size_t worker = draw(&random, WORKERS);
    hub_post(hub, worker, on_task, &workers[worker]);
  }
  return NULL;
}

static void read_history(size_t topic) {
  hub_start start = {.from = HUB_FROM_START};
  hub_position position;
  struct cut *cut;
  bool is_complete;
  hub_result result = hub_history(hub, topic_name(topic), &start, &cut, &position, &is_complete);
  REQUIRE(result == HUB_OK);
  struct view view = {0};
  struct message *message;
  while ((message = cut_next(cut)) != NULL) see(&view, message);
  cut_free(cut);
}

/* Clears one topic, reads histories, sweeps. */
static void *run_keeper(void *context) {
  unsigned random = (unsigned)(uintptr_t)context;
  while (!atomic_load(&is_over)) {
    unsigned choice = draw(&random, 20);
    if (choice == 0) {
      hub_position position;
      hub_clear(hub, topic_name(CLEARED_TOPIC), &position);
    } else if (choice == 1) {
      publish(CLEARED_TOPIC, MESSAGE_CLEAR, HUB_WORKERS);
    } else if (choice == 2) {
      hub_sweep(hub);
    } else {
      read_history(draw(&random, TOPICS));
    }
  }
  return NULL;
}

static void set_up(void) {
  hub_options options = {.worker_count = WORKERS,
                         .max_topics = 100,
                         .max_history_bytes = 1 << 20,
                         .max_inbox_entries = 500,
                         .max_inbox_bytes = 1 << 20,
                         .max_marks = 100};
  hub = hub_new(&options);
  struct policies *policies = policies_new();
  topic_policy policy = policy_default;
  policy.history_count = 200;
  REQUIRE(policies_add(policies, SLICE("kept:*"), &policy) == 0);
  hub_set_policies(hub, policies);
  for (size_t i = 0; i < TOPICS; i++) {
    snprintf(published[i].name, sizeof published[i].name, i < KEPT_TOPICS ? "kept:%zu" : "live:%zu",
             i);
    pthread_mutex_init(&published[i].lock, NULL);
  }
  for (size_t w = 0; w < WORKERS; w++) {
    struct worker *worker = &workers[w];
    worker->index = w;
    worker->random = (unsigned)w + 1;
    pthread_mutex_init(&worker->sleep_lock, NULL);
    pthread_cond_init(&worker->awake, NULL);
    topics_init(&worker->topics, hub, w);
    for (size_t i = 0; i < SUBSCRIBERS; i++) {
      worker->clients[i].subscriber =
          (struct subscriber){.ops = &ops, .id = w * SUBSCRIBERS + i + 1};
      worker->clients[i].worker = worker;
    }
    hub_attach(hub, w, wake, worker);
  }
}

int main(int argc, char **argv) {
  uint64_t duration_ms = argc > 1 ? (uint64_t)strtoul(argv[1], NULL, 10) : DEFAULT_MS;
  set_up();
  pthread_t threads[WORKERS + 3];
  for (size_t w = 0; w < WORKERS; w++) pthread_create(&threads[w], NULL, run_worker, &workers[w]);
  pthread_create(&threads[WORKERS], NULL, run_publisher, (void *)11);
  pthread_create(&threads[WORKERS + 1], NULL, run_publisher, (void *)12);
  pthread_create(&threads[WORKERS + 2], NULL, run_keeper, (void *)13);

  uint64_t end_ns = clock_real_ns() + duration_ms * 1000000;
  while (clock_real_ns() < end_ns) nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  atomic_store(&is_over, true);
  for (size_t w = 0; w < WORKERS; w++) wake(&workers[w]);
  for (size_t i = 0; i < WORKERS + 3; i++) pthread_join(threads[i], NULL);

  hub_counts counts = hub_count(hub);
  REQUIRE(counts.subscribers == 0);
  hub_free(hub);
  REQUIRE(message_count() == 0);
  REQUIRE(delivered > 0 && replayed > 0 && tasks_run > 0);
  printf("pubsub stress: %llu releases, %llu delivered, %llu replayed, %llu lost, %llu tasks\n",
         (unsigned long long)counts.releases, (unsigned long long)delivered,
         (unsigned long long)replayed, (unsigned long long)lost, (unsigned long long)tasks_run);
  return 0;
}
