/* The C side of test_callbacks.py: functions that call what they are given, now, later, or in threads of their own. */

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

typedef int function_int(int);

/* ---- what C gets ---- */

unsigned char got[4][48]; /* the results of the last calls, as memory */
int call_count;

static void scramble(void)
{
#ifdef __x86_64__
    __asm__ volatile("movq $-1, %%rax\n movq $-1, %%rdx\n pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm1, %%xmm1\n"
                     ::: "rax", "rdx", "xmm0", "xmm1");
#elif defined(__aarch64__)
    __asm__ volatile("mov x0, #-1\n mov x1, #-1\n movi v0.2d, #-1\n movi v1.2d, #-1" ::: "x0", "x1", "v0", "v1");
#endif
}

#if defined __x86_64__ && !defined _WIN32
#define LONG_DOUBLE_BYTES 10 /* the rest is padding */
#else
#define LONG_DOUBLE_BYTES sizeof(long double)
#endif

struct small { int a; float b; };
struct two { int64_t a; double b; };
struct floats { double a, b; };
struct big { int64_t words[5]; };

/* Call f(0), f(1), f(2) and keep what came back. */
#define CALLER(name, type, size)                                \
    void get_##name(type (*f)(int))                            \
    {                                                           \
        memset(got, 0xA5, sizeof got);                          \
        for (call_count = 0; call_count < 3; call_count++) {    \
            scramble();                                         \
            type result = f(call_count);                        \
            memcpy(got[call_count], &result, size);             \
        }                                                       \
    }
CALLER(i8, signed char, 1)
CALLER(u16, unsigned short, 2)
CALLER(i32, int, 4)
CALLER(u64, uint64_t, 8)
CALLER(f32, float, 4)
CALLER(f64, double, 8)
CALLER(longdouble, long double, LONG_DOUBLE_BYTES)
CALLER(pointer, void *, 8)
CALLER(small, struct small, sizeof(struct small))
CALLER(two, struct two, sizeof(struct two))
CALLER(floats, struct floats, sizeof(struct floats))
CALLER(big, struct big, sizeof(struct big))
void get_void(void (*f)(int)) { for (call_count = 0; call_count < 3; call_count++) f(call_count); }

/* ---- calls at once ---- */

int call(function_int *f, int x) { return f(x); }
int call_or(function_int *f, int otherwise) { return f ? f(1) : otherwise; }
int call_both(function_int *f, function_int *g, int x) { int first = f(x); return 1000 * first + g(x); }
int sum_of(function_int *f, int count)
{
    int sum = 0;
    for (int i = 0; i < count; i++) sum += f(i);
    return sum;
}
int add_one(int x) { return x + 1; }
double add_half(double x) { return x + 0.5; }
int count_arguments(int x, ...) { return x; }
function_int *choose(int which) { return which ? add_one : 0; }
static function_int *kept;
int is_kept(function_int *f) { return f == kept; }
int call_variadic(int x, ...)
{
    va_list rest;
    va_start(rest, x);
    function_int *f = va_arg(rest, function_int *);
    va_end(rest);
    return f(x);
}

int64_t fold(int64_t (*f)(int64_t, int64_t), const unsigned char *data, size_t count, int64_t start)
{
    for (size_t i = 0; i < count; i++) start = f(start, data[i]);
    return start;
}
int fill(int (*f)(int), int *data, size_t count)
{
    for (size_t i = 0; i < count; i++) data[i] = f((int)i);
    return 0;
}
struct thing { int value; };
static struct thing the_thing = {7};
int out_of(function_int *f, int *number, struct thing **thing, double *real)
{
    *number = f(1);
    *thing = &the_thing;
    *real = 0.5;
    return *number < 0;
}
int fail_after(function_int *f, int x, int number) { f(x); errno = number; return -1; }
int succeed_after(function_int *f, int x) { return f(x); }
char *text_after(function_int *f, int x) { f(x); return strdup("text"); }
void free_text(char *text) { free(text); }
struct thing *thing_after(function_int *f, int x) { f(x); return &the_thing; }
struct two two_after(function_int *f, int x) { struct two two = {f(x), 0.5}; return two; }
struct big big_after(function_int *f, int x) { struct big big = {{f(x), 2, 3, 4, 5}}; return big; }
double double_after(function_int *f, int x) { return f(x) + 0.5; }

int give_string(int (*f)(const char *), const char *text) { return f(text); }
int give_wide(int (*f)(const wchar_t *), const wchar_t *text) { return f(text); }
int give_ints(int (*f)(int *), int *p) { return f(p); }
int give_thing(int (*f)(struct thing *), int is_null) { return f(is_null ? 0 : &the_thing); }
int give_void(int (*f)(void *), void *p) { return f(p); }
int give_function(int (*f)(function_int *), int is_null) { return f(is_null ? 0 : add_one); }
int give_big(int (*f)(struct big), int first) { struct big big = {{first, 2, 3, 4, 5}}; return f(big); }
int give_color(int (*f)(int), int color) { return f(color); }
int give_mixed(int (*f)(int, double, const char *, int *), int *p) { return f(1000, 0.5, "text", p); }

/* ---- callbacks that C keeps ---- */

void keep(function_int *f) { kept = f; }
int call_kept(int x) { return kept(x); }
int call_kept_twice(int x) { int first = kept(x); return 1000 * first + kept(x + 1); }
void *kept_any;
void keep_any(void *f) { kept_any = f; }
void call_any_longdouble(void) { get_longdouble(kept_any); }
void call_any_floats(void) { get_floats(kept_any); }

/* ---- threads that Python does not know ---- */

struct job { function_int *f; int x, count, result; volatile int is_entered; };
static void *work(void *data)
{
    struct job *job = data;
    job->is_entered = 1;
    for (int i = 0; i < job->count; i++) job->result += job->f(job->x + i);
    return 0;
}
/* The sum of f(x), f(x + 1), ... called in one thread. */
int in_thread(function_int *f, int x, int count)
{
    struct job job = {f, x, count};
    pthread_t thread;
    if (pthread_create(&thread, 0, work, &job)) return -1;
    pthread_join(thread, 0);
    return job.result;
}
/* The same in `threads` threads at once; in thread t it is f(1000 t), f(1000 t + 1), ... */
int64_t in_threads(function_int *f, int threads, int count)
{
    struct job jobs[64] = {0};
    pthread_t ids[64];
    int64_t sum = 0;
    for (int i = 0; i < threads; i++) {
        jobs[i] = (struct job){f, 1000 * i, count};
        if (pthread_create(&ids[i], 0, work, &jobs[i])) return -1;
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], 0);
        sum += jobs[i].result;
    }
    return sum;
}
/* One after the other. */
int64_t through_threads(function_int *f, int threads)
{
    int64_t sum = 0;
    for (int i = 0; i < threads; i++) sum += in_thread(f, i, 2);
    return sum;
}

/* A thread that calls f(x) and waits for the GIL when this returns. */
static struct job pending_job;
static pthread_t pending_thread;
int start_pending(function_int *f, int x)
{
    pending_job = (struct job){f, x, 1};
    if (pthread_create(&pending_thread, 0, work, &pending_job)) return -1;
    while (!pending_job.is_entered) usleep(1000);
    usleep(50000);
    return 0;
}
int finish_pending(void) { pthread_join(pending_thread, 0); return pending_job.result; }

/* One worker that does one job after the other. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct job *offered, *done;
static struct job stop;
static pthread_t worker;
static void *serve(void *unused)
{
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (!offered) pthread_cond_wait(&changed, &mutex);
        struct job *job = offered;
        offered = 0;
        pthread_mutex_unlock(&mutex);
        if (job != &stop) work(job);
        pthread_mutex_lock(&mutex);
        done = job;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
        if (job == &stop) return unused;
    }
}
static void hand_over(struct job *job)
{
    pthread_mutex_lock(&mutex);
    offered = job;
    done = 0;
    pthread_cond_broadcast(&changed);
    while (done != job) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}
int worker_start(void) { return pthread_create(&worker, 0, serve, 0); }
int worker_call(function_int *f, int x, int count)
{
    struct job job = {f, x, count};
    hand_over(&job);
    return job.result;
}
void worker_stop(void) { hand_over(&stop); pthread_join(worker, 0); }

/* ---- the end of the process ---- */

static void say(const char *when, int result)
{
    char line[80];
    int size = snprintf(line, sizeof line, "%s: %d\n", when, result);
    if (write(1, line, size) < 0) _exit(99);
}
static function_int *last;
static void at_exit(void) { say("atexit", last(1)); }
void call_at_exit(function_int *f) { last = f; atexit(at_exit); }
static function_int *very_last;
__attribute__((destructor)) static void end(void) { if (very_last) say("destructor", very_last(2)); }
void call_in_destructor(function_int *f) { very_last = f; }
static volatile int64_t calls_so_far;
static void *call_for_ever(void *f)
{
    for (;;) {
        ((function_int *)f)(1);
        __sync_fetch_and_add(&calls_so_far, 1);
    }
    return 0;
}
int go_on_calling(function_int *f, int threads)
{
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, call_for_ever, (void *)f)) return -1;
        pthread_detach(thread);
    }
    return 0;
}
int64_t calls_made(void) { return calls_so_far; }
static void *call_thread_new(void *f)
{
    ((function_int *)f)(1);
    __sync_fetch_and_add(&calls_so_far, 1);
    return 0;
}
static void *start_for_ever(void *f)
{
    for (;;) {
        pthread_t thread;
        if (pthread_create(&thread, 0, call_thread_new, f)) continue;
        pthread_join(thread, 0);
    }
    return 0;
}
/* Threads that each call once and end, one after the other. */
int go_on_starting(function_int *f)
{
    pthread_t thread;
    if (pthread_create(&thread, 0, start_for_ever, (void *)f)) return -1;
    return pthread_detach(thread);
}
