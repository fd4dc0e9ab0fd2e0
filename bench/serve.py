#!/usr/bin/env python3
"""Measures `tidemill serve`: the time from the start of the process to the first accepted
connection, on a new folder and on one that was closed, and the memory of an idle server.

usage: bench/serve.py BINARY [RUNS]
"""
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(binary, data):
    """Starts a server and gives it with the milliseconds until it accepted a connection."""
    port = free_port()
    begun = time.perf_counter()
    server = subprocess.Popen(
        [binary, "serve", "--data", data, "--kafka", "off", "--http", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, (time.perf_counter() - begun) * 1000
        except ConnectionRefusedError:
            if server.poll() is not None:
                sys.exit("the server ended by itself")


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1000
    return 0.0


def stop(server):
    server.send_signal(signal.SIGTERM)
    server.wait()


def main():
    binary, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20
    first, later, idle = [], [], []
    for _ in range(runs):
        data = tempfile.mkdtemp(dir=os.environ.get("BENCH_DIR", "."))
        try:
            server, ms = start(binary, data)
            first.append(ms)
            stop(server)
            server, ms = start(binary, data)
            later.append(ms)
            # The memory of a server that has settled.
            time.sleep(2)
            idle.append(rss_mb(server.pid))
            stop(server)
        finally:
            shutil.rmtree(data)
    for name, values, unit in (
        ("first start", first, "ms"),
        ("later start", later, "ms"),
        ("idle memory", idle, "MB"),
    ):
        print(
            f"{name}: median {statistics.median(values):.1f} {unit}, "
            f"{min(values):.1f} to {max(values):.1f}, {len(values)} runs"
        )


if __name__ == "__main__":
    main()
