/*
 * Threads that help with compiled calls, without Python in between.
 *
 * After a piece of work a helper stays awake for SPIN_NS, looking out for the next one, and then
 * sleeps on its lock, the bell. A caller that takes a helper writes the work down and calls; it
 * never waits for one to come: work that nobody has begun when the caller is through is taken
 * back. What is shared out is taken from queues, so it doesn't matter who comes.
 *
 * Source: the spinning before the sleep is what OpenMP runtimes do (GOMP_SPINCOUNT, KMP_BLOCKTIME);
 * layers of a network follow each other by microseconds.
 */
#include <Python.h>
#include <stdint.h>
#include <time.h>

#ifdef _WIN32
#include <windows.h>
#define let_others_run() SwitchToThread()
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#define let_others_run() sched_yield()
#endif

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#define pause_a_moment() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define pause_a_moment() __asm__ __volatile__("yield")
#else
#define pause_a_moment() ((void)0)
#endif

/* What a thread does: its share of a call, as worker 0, 1, ... */
typedef void (*Work)(void *call, int64_t worker);

enum {
    MOST_HELPERS = 255,
    SPIN_NS = 100000,
    /* Looks at the state between two at the clock. */
    LOOKS = 32,
};

/* AWAKE and ASLEEP: free. CLAIMED: a caller is writing its work down. CALLED: the work may begin,
 * or be taken back. WORKING: nobody else's business. */
enum { AWAKE, ASLEEP, CLAIMED, CALLED, WORKING, PHASES };

typedef struct {
    /* PHASES x the number of claims until now + the phase: so that nobody mistakes a call for an
     * earlier one. */
    uint64_t state;
    Work work;
    void *call;
    int64_t worker;
    int *done;
    PyThread_type_lock bell;
#ifdef __linux__
    pid_t thread;
    cpu_set_t cores;
#endif
} Helper;

static Helper team[MOST_HELPERS];
static int64_t team_size = 0;

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
}

static uint64_t state_of(const Helper *helper)
{
    return __atomic_load_n(&helper->state, __ATOMIC_ACQUIRE);
}

static int change(Helper *helper, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(&helper->state, &from, to, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* The state once it is another than AWAKE, or after SPIN_NS. */
static uint64_t look_out(const Helper *helper)
{
    const int64_t start = nanoseconds();
    uint64_t state = state_of(helper);
    while (state % PHASES == AWAKE && nanoseconds() - start < SPIN_NS)
        for (int look = 0; look < LOOKS && state % PHASES == AWAKE; look++) {
            pause_a_moment();
            state = state_of(helper);
        }
    return state;
}

static void sleep_until_called(Helper *helper)
{
    PyThread_acquire_lock(helper->bell, WAIT_LOCK);
#ifdef __linux__
    sched_setaffinity(0, sizeof helper->cores, &helper->cores);
#endif
}

/* A helper's life. */
static void help(void *given)
{
    Helper *helper = (Helper *)given;
#ifndef _WIN32
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
#endif
#ifdef __linux__
    helper->thread = (pid_t)syscall(SYS_gettid);
#endif
    for (;;) {
        const uint64_t state = look_out(helper), claim = state - state % PHASES;
        if (state == claim + AWAKE && change(helper, state, claim + ASLEEP)) {
            sleep_until_called(helper);
        } else if (state == claim + CALLED && change(helper, state, claim + WORKING)) {
            int *done = helper->done;
            helper->work(helper->call, helper->worker);
            __atomic_store_n(&helper->state, claim + AWAKE, __ATOMIC_RELEASE);
            __atomic_store_n(done, 1, __ATOMIC_RELEASE);
        }
    }
}

#ifdef __linux__
/* Puts a thread that sleeps on other cores than the caller's, which may run on ``cores``. */
static void set_apart(pid_t thread, cpu_set_t *cores)
{
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof *cores, cores) != 0)
        return;
    cpu_set_t others = *cores;
    CPU_CLR(here, &others);
    if (CPU_COUNT(&others))
        sched_setaffinity(thread, sizeof others, &others);
}
#endif

/* The same of a thread of Python's, by its native id. */
static void set_thread_apart(int64_t thread)
{
#ifdef __linux__
    cpu_set_t cores;
    set_apart((pid_t)thread, &cores);
#else
    (void)thread;
#endif
}

/* Why on another core: a kernel may wake a thread where its waker runs, which goes on running, and
 * move it milliseconds later. */
static void wake(Helper *helper)
{
#ifdef __linux__
    set_apart(helper->thread, &helper->cores);
#endif
    PyThread_release_lock(helper->bell);
}

/* The state of a helper's next call if it is free and claimed now, else 0. */
static uint64_t claim(Helper *helper, int *asleep)
{
    const uint64_t state = state_of(helper), phase = state % PHASES;
    const uint64_t next = state - phase + PHASES;
    *asleep = phase == ASLEEP;
    if (phase != AWAKE && phase != ASLEEP)
        return 0;
    return change(helper, state, next + CLAIMED) ? next + CALLED : 0;
}

/* Has work done by the calling thread, worker 0, and by up to threads - 1 helpers that are free. */
static void work_together(Work work, void *call, int64_t threads)
{
    Helper *called[MOST_HELPERS];
    uint64_t calls[MOST_HELPERS];
    int done[MOST_HELPERS];
    const int64_t size = __atomic_load_n(&team_size, __ATOMIC_ACQUIRE);
    int64_t count = 0;
    for (int64_t i = 0; i < size && count < threads - 1; i++) {
        Helper *helper = &team[i];
        int asleep;
        calls[count] = claim(helper, &asleep);
        if (!calls[count])
            continue;
        done[count] = 0;
        helper->work = work;
        helper->call = call;
        helper->worker = count + 1;
        helper->done = &done[count];
        __atomic_store_n(&helper->state, calls[count], __ATOMIC_RELEASE);
        if (asleep)
            wake(helper);
        called[count++] = helper;
    }
    work(call, 0);
    for (int64_t i = 0; i < count; i++)
        if (!change(called[i], calls[i], calls[i] - CALLED + AWAKE))
            while (!__atomic_load_n(&done[i], __ATOMIC_ACQUIRE))
                let_others_run();
}

/* Adds a helper; 0 if there can't be any more. Callers are alone (``grow_team``). */
static int add_helper(void)
{
    if (team_size == MOST_HELPERS)
        return 0;
    Helper *helper = &team[team_size];
    helper->state = AWAKE;
    helper->bell = PyThread_allocate_lock();
    if (helper->bell == NULL)
        return 0;
    PyThread_acquire_lock(helper->bell, WAIT_LOCK);
    if (PyThread_start_new_thread(help, helper) == PYTHREAD_INVALID_THREAD_ID) {
        PyThread_free_lock(helper->bell);
        return 0;
    }
    __atomic_store_n(&team_size, team_size + 1, __ATOMIC_RELEASE);
    return 1;
}

static int growing = 0;

/* Helpers for so many threads, or as many as the system gives; with or without the GIL. */
static void grow_team(int64_t threads)
{
    if (__atomic_load_n(&team_size, __ATOMIC_ACQUIRE) >= threads - 1)
        return;
    while (__atomic_exchange_n(&growing, 1, __ATOMIC_ACQUIRE))
        let_others_run();
    while (team_size < threads - 1 && add_helper())
        ;
    __atomic_store_n(&growing, 0, __ATOMIC_RELEASE);
}

/* In a forked child there are no helpers: their threads have stayed with the parent. */
static void forget_helpers(void)
{
    team_size = 0;
    growing = 0;
}
