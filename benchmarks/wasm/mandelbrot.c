/* Floats in registers: iterations until escape, summed over n * n points. */

long long run(int n)
{
    long long sum = 0;
    for (int row = 0; row < n; row++) {
        for (int column = 0; column < n; column++) {
            double cx = 3.0 * column / n - 2.0, cy = 2.0 * row / n - 1.0, x = 0, y = 0;
            int i = 0;
            while (i < 100) {
                double xx = x * x, yy = y * y;
                if (xx + yy > 4.0)
                    break;
                y = 2 * x * y + cy;
                x = xx - yy + cx;
                i++;
            }
            sum += i;
        }
    }
    return sum;
}
