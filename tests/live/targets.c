/* What the live suite calls: identities, sums, stores and other functions small enough to be right at a glance. */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

typedef long double longdouble;

/* -- scalars: the value itself; through an Out; how often it was called ------------------------------------------ */
#define INTEGERS(X)                                                                                                   \
    X(i8, int8_t) X(i16, int16_t) X(i32, int32_t) X(i64, int64_t) X(u8, uint8_t) X(u16, uint16_t) X(u32, uint32_t)     \
    X(u64, uint64_t) X(short, short) X(ushort, unsigned short) X(int, int) X(uint, unsigned) X(long, long)             \
    X(ulong, unsigned long) X(longlong, long long) X(ulonglong, unsigned long long) X(isize, ssize_t) X(usize, size_t)
#define FLOATS(X) X(f32, float) X(f64, double) X(longdouble, long double)
#define OTHERS(X) X(bool, bool) X(char, char) X(wchar, wchar_t)
#define SCALARS(X) INTEGERS(X) FLOATS(X) OTHERS(X)

static int calls;
int call_count(void) { return calls; }

#define IDENTITY(name, T)                                                                                             \
    T id_##name(T x) { calls++; return x; }                                                                            \
    void out_##name(T x, T *out) { *out = x; }                                                                         \
    T at_##name(const T *items, long index) { return items[index]; }                                                   \
    void fill_##name(T *items, size_t count, T value) { for (size_t i = 0; i < count; i++) items[i] = value; }         \
    T seventh_##name(long a, long b, long c, long d, long e, long f, double g, T x) { (void)g; return x; }
SCALARS(IDENTITY)

/* The bits that arrived, and results whose register has rubbish above the value. */
#define WIDEN(name, T) long long wide_##name(T x) { return (long long)x; }
INTEGERS(WIDEN) OTHERS(WIDEN)
#define NARROW(name, T) uint64_t dirty_##name(uint64_t x) { return 0xa5a5a5a500000000u | x; }
NARROW(i8, int8_t) NARROW(i16, int16_t) NARROW(i32, int32_t) NARROW(u8, uint8_t) NARROW(u16, uint16_t)
NARROW(u32, uint32_t) NARROW(bool, bool) NARROW(char, char) NARROW(wchar, wchar_t)
uint64_t bits_f64(double x) { uint64_t bits; memcpy(&bits, &x, 8); return bits; }
uint32_t bits_f32(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
double from_bits_f64(uint64_t bits) { double x; memcpy(&x, &bits, 8); return x; }
float from_bits_f32(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
long double third(void) { return 1.0L / 3.0L; }
int same_longdouble(long double a, double b) { return a == (long double)b; }

/* -- many arguments ------------------------------------------------------------------------------------------------ */
int64_t weigh9(int a, int64_t b, short c, int8_t d, unsigned e, uint8_t f, int64_t g, int h, uint16_t i) {
    return a + 2 * b + 3 * c + 4 * d + 5ll * e + 6 * f + 7 * g + 8 * h + 9 * i;
}
double weigh_mixed(int a, double b, float c, long d, long double e, double f, float g, int h, double i, double j, float k,
                   double l, double m, long n, long o, long p, long double q, float r, short s) {
    return a + 2 * b + 3 * c + 4 * d + 5 * (double)e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l + 13 * m +
           14 * n + 15 * o + 16 * p + 17 * (double)q + 18 * r + 19 * s;
}

/* -- strings ------------------------------------------------------------------------------------------------------- */
size_t length(const char *s) { return s ? strlen(s) : (size_t)-1; }
size_t wide_length(const wchar_t *s) { return s ? wcslen(s) : (size_t)-1; }
const char *echo(const char *s) { return s; }
char *echo_mutable(const char *s) { return (char *)s; }
const wchar_t *wide_echo(const wchar_t *s) { return s; }
size_t both_lengths(const char *a, const char *b) { return 1000 * strlen(a) + strlen(b); }
size_t length_and(long before, const char *s, long after) { return strlen(s) + 100 * before + 10000 * after; }
void out_string(const char *s, const char **out) { *out = s; }
void out_wide_string(const wchar_t *s, const wchar_t **out) { *out = s; }
const char *word(int which) {
    static const char *const words[] = {"", "word", "\xc3\xa9t\xc3\xa9", "\xff\xfe", 0};
    return words[which];
}
const wchar_t *wide_word(int which) {
    static const wchar_t bad[] = {(wchar_t)0x110000, 0};
    static const wchar_t *const words[] = {L"", L"word", L"\u00e9\U0001f600", bad, 0};
    return words[which];
}
unsigned long byte_sum(const void *data, size_t count) {
    const unsigned char *bytes = data;
    unsigned long sum = 0;
    for (size_t i = 0; i < count; i++) sum += bytes[i];
    return sum;
}
unsigned long u8_sum(const unsigned char *data, size_t count) { return byte_sum(data, count); }

/* -- buffers ------------------------------------------------------------------------------------------------------- */
void reverse_bytes(void *data, size_t count) {
    unsigned char *bytes = data;
    for (size_t i = 0; i < count / 2; i++) {
        unsigned char byte = bytes[i];
        bytes[i] = bytes[count - 1 - i];
        bytes[count - 1 - i] = byte;
    }
}
int first_of_two(int pair[2]) { return pair[0]; }
int sum_of_two(const int pair[2]) { return pair[0] + pair[1]; }
int fill_two(int pair[2]) { pair[0] = 11; pair[1] = 22; return 0; }
int is_null(const void *p) { return p == 0; }
uintptr_t address(const void *p) { return (uintptr_t)p; }
uintptr_t address_i32(const int32_t *p) { return (uintptr_t)p; }
void raise_level(uint64_t *level) { *level += 1; }
void swap(void *a, void *b, size_t count) {
    unsigned char *x = a, *y = b;
    for (size_t i = 0; i < count; i++) { unsigned char t = x[i]; x[i] = y[i]; y[i] = t; }
}
long sum_all(const int32_t *a, long na, const double *b, long nb, const unsigned char *c, long nc) {
    long sum = 0;
    for (long i = 0; i < na; i++) sum += a[i];
    for (long i = 0; i < nb; i++) sum += (long)b[i];
    for (long i = 0; i < nc; i++) sum += c[i];
    return sum;
}
long pointer_sum(int **rows, long count) { long sum = 0; for (long i = 0; i < count; i++) sum += *rows[i]; return sum; }
long total_length(const char **words, long count) {
    long sum = 0;
    for (long i = 0; i < count; i++) sum += (long)strlen(words[i]);
    return sum;
}

/* -- pointers ------------------------------------------------------------------------------------------------------ */
struct counter { int value; double step; };
static struct counter the_counter = {7, 0.5};
struct counter *counter_new(int value) {
    struct counter *made = malloc(sizeof *made);
    made->value = value;
    made->step = 1.0;
    return made;
}
void counter_free(struct counter *counter) { free(counter); }
int counter_next(struct counter *counter) { return ++counter->value; }
int counter_or(struct counter *counter, int otherwise) { return counter ? counter->value : otherwise; }
struct counter *counter_static(void) { return &the_counter; }
struct counter *counter_none(void) { return 0; }
int counter_open(int value, struct counter **out) { *out = value < 0 ? 0 : counter_new(value); return value < 0 ? 1 : 0; }
int *int_pointer(int *p) { return p; }
void *void_pointer(void *p) { return p; }
int call_it(int (*function)(int), int x) { return function(x); }
int call_with(void *function, void *data, int x) { return ((int (*)(void *, int))function)(data, x); }
void call_plain(void (*function)(void)) { function(); }
void sum_after_call(const unsigned char *data, size_t count, void (*function)(void), unsigned long *sum) {
    function();
    *sum = byte_sum(data, count);
}

/* -- outs ---------------------------------------------------------------------------------------------------------- */
int divide(int a, int b, int *quotient, int *remainder) {
    if (!b) return 33;
    *quotient = a / b;
    *remainder = a % b;
    return 0;
}
void two_first(int *low, double *high, int x) { *low = x - 1; *high = x + 0.5; }
double result_and_out(double x, long *whole) { *whole = (long)x; return x - (double)*whole; }
void leave_out(int *untouched) { (void)untouched; }
void eight_outs(int8_t *a, uint16_t *b, float *c, long double *d, bool *e, char *f, wchar_t *g, const char **h) {
    *a = -8; *b = 65535; *c = 0.5f; *d = 2.5L; *e = true; *f = 'f'; *g = L'\u20ac'; *h = "eighth";
}
void outs_on_stack(long a, long b, long c, long d, long e, long f, double *sum, long *product) {
    *sum = (double)(a + b + c + d + e + f);
    *product = a * b * c * d * e * f;
}
int result_with_strings(const char *in, const char **out, struct counter **handle) {
    *out = in;
    *handle = in ? &the_counter : 0;
    return in ? (int)strlen(in) : -1;
}

/* -- enums --------------------------------------------------------------------------------------------------------- */
enum color { RED, GREEN = 5, BLUE };
enum color next_color(enum color color) { return color == RED ? GREEN : color == GREEN ? BLUE : (enum color)99; }
unsigned or_flags(unsigned a, unsigned b) { return a | b; }
void out_color(int which, int *out) { *out = which; }

/* -- errors -------------------------------------------------------------------------------------------------------- */
int fail_i32(int result, int number) { if (number) errno = number; return result; }
int64_t fail_i64(int64_t result, int number) { if (number) errno = number; return result; }
uint64_t fail_u64(uint64_t result, int number) { if (number) errno = number; return result; }
unsigned fail_u32(unsigned result, int number) { if (number) errno = number; return result; }
int8_t fail_i8(int8_t result, int number) { if (number) errno = number; return result; }
uint16_t fail_u16(uint16_t result, int number) { if (number) errno = number; return result; }
bool fail_bool(bool result, int number) { if (number) errno = number; return result; }
double fail_f64(double result, int number) { if (number) errno = number; return result; }
void *fail_pointer(void *result, int number) { if (number) errno = number; return result; }
const char *fail_string(const char *result, int number) { if (number) errno = number; return result; }
void set_errno(int number) { errno = number; }
int get_errno(void) { return errno; }
int get_errno_judged(void) { return errno; }

/* -- the GIL: spin until another thread sets the flag, or give up -------------------------------------------------- */
static volatile int flag;
void clear_flag(void) { flag = 0; }
void set_flag(void) { flag = 1; }
int wait_for_flag(int milliseconds) {
    for (int waited = 0; waited < milliseconds && !flag; waited++) usleep(1000);
    return flag;
}
/* Who holds the GIL from here on finds the flag clear. */
int clear_and_wait_for_flag(int milliseconds) { flag = 0; return wait_for_flag(milliseconds); }
unsigned long wait_and_sum(const unsigned char *data, size_t count, int milliseconds) {
    wait_for_flag(milliseconds);
    return byte_sum(data, count);
}

/* A symbol that is an awkward name in Python. */
int function(int x) { return x + 1; }
int import(int x) { return x + 2; }
int variable = 5;
