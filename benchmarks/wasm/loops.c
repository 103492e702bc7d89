/* A loop of dependent integer operations. */

long long run(int n)
{
    unsigned x = 1;
    for (int i = 0; i < n; i++)
        x = x * 31 + ((x >> 7) ^ (unsigned)i);
    return x;
}
