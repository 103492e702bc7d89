/* Loads and multiply-adds: the trace of a product of n * n matrices, n at most 256. */

enum { LARGEST = 256 };

static double a[LARGEST * LARGEST], b[LARGEST * LARGEST], c[LARGEST * LARGEST];

long long run(int n)
{
    for (int i = 0; i < n * n; i++) {
        a[i] = i % 17;
        b[i] = i % 13;
        c[i] = 0;
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            double factor = a[i * n + k];
            for (int j = 0; j < n; j++)
                c[i * n + j] += factor * b[k * n + j];
        }
    double trace = 0;
    for (int i = 0; i < n; i++)
        trace += c[i * n + i];
    return (long long)trace;
}
