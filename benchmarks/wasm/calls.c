/* What a call costs: into the module, and out of it into the host. */

__attribute__((import_module("env"), import_name("host"))) long long host(long long);

long long add(long long a, long long b)
{
    return a + b;
}

void empty(void) {}

long long run(int n)
{
    long long sum = 0;
    for (int i = 0; i < n; i++)
        sum = host(sum);
    return sum;
}
