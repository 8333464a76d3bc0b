"""Run a command with its stdout copied to a file: `python tee.py LOG COMMAND [ARG ...]`."""

import subprocess
import sys

log_path, *command = sys.argv[1:]
child = subprocess.Popen(command, stdin=sys.stdin, stdout=subprocess.PIPE)
assert child.stdout is not None
with open(log_path, "ab", buffering=0) as log:
    while chunk := child.stdout.read1(65536):
        log.write(chunk)
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
sys.exit(child.wait())
