/* The plain dense loop, as one would write it in C: count, sum, minimum and maximum per slot, nothing compensated.
 *
 * dense_loop FILE ROWS GROUPS; the file holds ROWS slots of 32 bits, then ROWS doubles. It says its name, then answers
 * each line of standard input by one run, in the words of protocol.py. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct cell {
    uint64_t n;
    double sum, min, max;
};

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void accumulate(struct cell *cells, const uint32_t *slots, const double *values, size_t rows) {
    for (size_t row = 0; row < rows; row++) {
        struct cell *cell = &cells[slots[row]];
        double value = values[row];
        cell->n += 1;
        cell->sum += value;
        cell->min = value < cell->min ? value : cell->min;
        cell->max = value > cell->max ? value : cell->max;
    }
}

static void answer(struct cell *cells, size_t groups, const uint32_t *slots, const double *values, size_t rows) {
    for (size_t group = 0; group < groups; group++) {
        cells[group] = (struct cell){0, 0.0, INFINITY, -INFINITY};
    }
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    accumulate(cells, slots, values, rows);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    uint64_t live = 0, n = 0;
    double sum = 0, min = 0, max = 0;
    for (size_t group = 0; group < groups; group++) {
        if (cells[group].n > 0) {
            live += 1;
            n += cells[group].n;
            sum += cells[group].sum;
            min += cells[group].min;
            max += cells[group].max;
        }
    }
    printf("{\"seconds\": %.9f, \"cpu_seconds\": %.9f, \"rows\": %llu, \"n\": %llu, \"sum\": %.17g, \"min\": %.17g, \"max\": %.17g}\n",
           wall, cpu, (unsigned long long)live, (unsigned long long)n, sum, min, max);
    fflush(stdout);
}

int main(int argc, char **argv) {
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    size_t rows = argc == 4 ? strtoull(argv[2], NULL, 10) : 0, groups = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    uint32_t *slots = malloc(rows * sizeof *slots + 1);
    double *values = malloc(rows * sizeof *values + 1);
    struct cell *cells = malloc(groups * sizeof *cells + 1);
    if (!file || !slots || !values || !cells || fread(slots, sizeof *slots, rows, file) != rows ||
        fread(values, sizeof *values, rows, file) != rows) {
        fprintf(stderr, "dense_loop: cannot read the rows\n");
        return 1;
    }
    fclose(file);
    printf("{\"engine\": \"plain loop in C\"}\n");
    fflush(stdout);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        answer(cells, groups, slots, values, rows);
    }
    return 0;
}
