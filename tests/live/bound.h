/* A header with one of everything, for tests/live/test_bind_headers.py. */
#ifndef BOUND_H
#define BOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BOUND_VERSION "1.2"
#define BOUND_LIMIT (1 << 4)
#define BOUND_ALL ((visitor)-1)

enum colour { RED, GREEN = 5, UNKNOWN = -1 };
enum mask { MASK_NONE, MASK_A = 1, MASK_B = 2, MASK_C = 4 };
enum __attribute__((packed)) tiny { TINY };

/** A point in the plane. */
typedef struct {
    double x; /**< to the right */
    double y; /**< upwards */
} point;

struct small {
    float a, b;
    int c;
};

struct scalars {
    char c;
    signed char sc;
    unsigned char uc;
    short s;
    int i;
    long l;
    long long ll;
    float f;
    double d;
    long double ld;
    bool b;
    wchar_t w;
    size_t z;
    uint8_t u8;
    int64_t i64;
    void *p;
};

struct bits {
    unsigned a : 3;
    int b : 5;
    unsigned c : 10;
    unsigned : 0;
    unsigned d : 1;
    bool e : 1;
    uint8_t g : 4;
};

struct __attribute__((packed)) packed {
    char c;
    int i;
    double d;
};

#pragma pack(push, 2)
struct pack_two {
    char c;
    int i;
    double d;
};
#pragma pack(pop)

struct aligned {
    char c;
    int i __attribute__((aligned(16)));
};

struct nested {
    struct {
        int depth;
        short count;
    } stats;
    union {
        int whole;
        struct {
            short low, high;
        };
    };
    point corner[2];
    char grid[2][3];
};

struct flexible {
    int count;
    double values[];
};

union number {
    long long i;
    double d;
    char bytes[8];
};

typedef int (*changer)(int);

struct callbacks {
    changer change;
    void (*log)(const char *, ...);
    void *user;
};

struct extended {
    long double _Complex z;
    int after;
};

struct enums {
    enum colour colour;
    enum tiny tiny;
    short last;
};

/** A list. */
typedef struct node {
    int value;
    struct node *next;
} node;

typedef int (*visitor)(const node *each, void *user);
typedef struct store store;

size_t size_of(int which);
size_t offset_of(int which);

/** The point between two.
 *
 *  @param a one end
 *  @param b the other
 */
point midpoint(point a, const point *b);
struct small flip(struct small s);
union number to_real(union number n);
double total(const double *values, size_t count);
void scale(double values[], size_t count, double factor);
int sum_of(int count, ...);
int visit(const node *first, visitor each, void *user);
int apply(struct callbacks *c, int x);
store *store_open(int value);
int store_open_at(store **out, int value);
int store_value(const store *s);
void store_close(store *);
enum colour next_colour(enum colour c);
unsigned unite(enum mask a, enum mask b);
void fill_bits(struct bits *b);
const char *name_of(enum colour c);
int shadowed_names(int class, int lambda);
const char *const *list_names(void);
double _Complex turned(double _Complex z);

static inline int twice(int x)
{
    return 2 * x;
}
int never_defined(void);

#ifdef __cplusplus
}
#endif

#endif
