/* zlib: n bytes of made-up words compressed and expanded again; the compressed size and the checksum of what came back. */

#include "zlib.h"

static unsigned char arena[1 << 20], text[1 << 20], packed[(1 << 20) + 4096], back[1 << 20];
static unsigned long used;

static void *take(void *opaque, unsigned items, unsigned size_bytes)
{
    void *taken = arena + used;
    used += (items * size_bytes + 15) & ~15u;
    return used <= sizeof arena ? taken : 0;
}

static void give_back(void *opaque, void *address) {}

long long run(int n)
{
    unsigned random = 1;
    if (n > (int)sizeof text)
        return -100;
    for (int i = 0; i < n; i++) {
        random = random * 1103515245 + 12345;
        text[i] = random >> 16 & 3 || i < 64 ? "the quick brown fox"[random >> 20 & 15] : text[i - 1 - (random >> 24 & 63)];
    }
    used = 0;
    z_stream out = {.zalloc = take, .zfree = give_back, .next_in = text, .avail_in = n, .next_out = packed, .avail_out = sizeof packed};
    int code = deflateInit(&out, 6);
    if (code == Z_OK)
        code = deflate(&out, Z_FINISH);
    if (code != Z_STREAM_END)
        return code;
    unsigned long size_bytes = out.total_out;
    deflateEnd(&out);
    used = 0;
    z_stream in = {.zalloc = take, .zfree = give_back, .next_in = packed, .avail_in = size_bytes, .next_out = back, .avail_out = sizeof back};
    code = inflateInit(&in);
    if (code == Z_OK)
        code = inflate(&in, Z_FINISH);
    if (code != Z_STREAM_END || in.total_out != (unsigned long)n)
        return code;
    inflateEnd(&in);
    return (long long)size_bytes << 32 | (unsigned)crc32(0, back, n);
}
