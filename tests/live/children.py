"""Programs of the tests that run in an interpreter of their own: what could crash or be refused must not take pytest along."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent


def run_child(
    program: str, *arguments: str, status: int = 0, timeout_s: float = 120, **environment: str
) -> tuple[str, str]:
    """Run a program; its stdout and stderr.  It must end with `status`.

    The variables of callgate's own are removed from its environment before `environment` is added.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALLGATE_")}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", dedent(program), *arguments],
        env={**inherited, "CALLGATE_CACHE": "", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


WAITING = """
#include <stddef.h>
#include <unistd.h>
static volatile int waiting, opened;
void close_door(void) { waiting = opened = 0; }
void open_door(void) { opened = 1; }
int waiting_count(void) { return waiting; }
/* Wait until the door is open, then add; -1 where it stays closed for a minute. */
long wait_and_sum(const unsigned char *data, size_t count, long start) {
    __sync_fetch_and_add(&waiting, 1);
    for (int tries = 0; !opened; tries++) {
        if (tries > 60000) return -1;
        usleep(1000);
    }
    for (size_t i = 0; i < count; i++) start += data[i];
    return start;
}
int nap(unsigned microseconds) { return usleep(microseconds); }
int add(int a, int b) { return a + b; }
double halve(double x) { return x / 2; }
"""
"""A library whose `wait_and_sum` returns when `open_door` is called."""
