/* Rotations and loads: SHA-256 (FIPS 180-4) of n bytes, a multiple of 64; the digest's first four bytes. */

typedef unsigned u32;

static u32 constants[64], state[8];
static unsigned char text[65536];

static u32 rotate(u32 x, int by)
{
    return x >> by | x << (32 - by);
}

/* The first 32 bits of the fractional part of the square or cube root of a prime, found by bisection. */
static u32 root_fraction(u32 prime, int power)
{
    double low = 0, high = 32;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if ((power == 2 ? middle * middle : middle * middle * middle) > prime)
            high = middle;
        else
            low = middle;
    }
    return (u32)(long long)((low - (int)low) * 4294967296.0);
}

static void start(void)
{
    int found = 0;
    for (u32 candidate = 2; found < 64; candidate++) {
        int is_prime = 1;
        for (u32 divisor = 2; divisor < candidate; divisor++)
            is_prime &= candidate % divisor != 0;
        if (!is_prime)
            continue;
        if (found < 8)
            state[found] = root_fraction(candidate, 2);
        constants[found++] = root_fraction(candidate, 3);
    }
}

static void block(const unsigned char *bytes)
{
    u32 w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (u32)bytes[4 * i] << 24 | bytes[4 * i + 1] << 16 | bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        u32 x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[i - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
    }
    for (int i = 0; i < 8; i++)
        s[i] = state[i];
    for (int i = 0; i < 64; i++) {
        u32 a = s[0], e = s[4];
        u32 first = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + constants[i] + w[i];
        u32 second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        s[7] = s[6], s[6] = s[5], s[5] = e, s[4] = s[3] + first;
        s[3] = s[2], s[2] = s[1], s[1] = a, s[0] = first + second;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

long long run(int n)
{
    start();
    for (int i = 0; i < (int)sizeof text; i++)
        text[i] = i % 251;
    for (int at = 0; at < n; at += 64)
        block(text + at % sizeof text);
    unsigned char last[64] = {0x80};
    unsigned long long bits = (unsigned long long)n * 8;
    for (int i = 0; i < 8; i++)
        last[63 - i] = bits >> 8 * i;
    block(last);
    return state[0];
}
