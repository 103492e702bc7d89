/* Floats in memory and registers: the Sun and the four giants, n steps. The result is the energy in units of 1e-12. */

enum { BODIES = 5 };

static const double PI = 3.141592653589793, DAYS = 365.24;

static struct body {
    double x, y, z, vx, vy, vz, mass;
} bodies[BODIES];

static void place(int i, double x, double y, double z, double vx, double vy, double vz, double mass)
{
    double solar_mass = 4 * PI * PI;
    bodies[i] = (struct body){x, y, z, vx * DAYS, vy * DAYS, vz * DAYS, mass * solar_mass};
    bodies[0].vx -= vx * DAYS * mass;
    bodies[0].vy -= vy * DAYS * mass;
    bodies[0].vz -= vz * DAYS * mass;
}

static void advance(double dt)
{
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double squared = dx * dx + dy * dy + dz * dz;
            double magnitude = dt / (squared * __builtin_sqrt(squared));
            a->vx -= dx * b->mass * magnitude;
            a->vy -= dy * b->mass * magnitude;
            a->vz -= dz * b->mass * magnitude;
            b->vx += dx * a->mass * magnitude;
            b->vy += dy * a->mass * magnitude;
            b->vz += dz * a->mass * magnitude;
        }
    }
    for (int i = 0; i < BODIES; i++) {
        bodies[i].x += dt * bodies[i].vx;
        bodies[i].y += dt * bodies[i].vy;
        bodies[i].z += dt * bodies[i].vz;
    }
}

static double energy(void)
{
    double sum = 0;
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        sum += a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz) / 2;
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            sum -= a->mass * b->mass / __builtin_sqrt(dx * dx + dy * dy + dz * dz);
        }
    }
    return sum;
}

long long run(int n)
{
    place(0, 0, 0, 0, 0, 0, 0, 1);
    place(1, 4.84, -1.16, -0.104, 0.00166, 0.0077, -0.000069, 0.000955);
    place(2, 8.34, 4.12, -0.403, -0.00277, 0.005, 0.000023, 0.000286);
    place(3, 12.89, -15.11, -0.223, 0.00296, 0.00238, -0.00003, 0.0000437);
    place(4, 15.38, -25.92, 0.179, 0.00268, 0.00163, -0.000095, 0.0000515);
    for (int i = 0; i < n; i++)
        advance(0.01);
    return (long long)(energy() * 1e12);
}
