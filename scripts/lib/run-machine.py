#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs QEMU for real-kernel and stands between the machine and the caller.

Each stream is a socket pair, one end of which is a virtio port (guest/init opens the others) or the
serial line with the kernel's log. The life of a run:

    booting   until the machine says "up" on the control port; --boot-timeout ends it
    running   the command was sent; its output is passed on; --timeout ends it
    ending    the status has come; the run is over when both outputs have shown their mark,
              because what was written to a port may arrive after the status

The mark ends with a number drawn for this run, so that no output can hold it by accident; bytes
that may be its beginning are held back until the next bytes decide. When QEMU ends before that,
the machine has failed (status 125): a panic, a power-off, or QEMU refused to start; or somebody has
ended it at the terminal (Ctrl-A x), which is no failure, but there is no other status. Whatever
happens, QEMU is killed and the temporary directory removed.
"""

import argparse
import base64
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

STATUS_TIMEOUT = 124
STATUS_MACHINE = 125
STATUS_BROKEN_PIPE = 141
PORTS = ("control", "stdin", "stdout", "stderr")  # their order is known to guest/init
ENDING_SECONDS = 300
KVM_BOOT_SECONDS = 30
LOG_LINES = 40


class MachineFailure(Exception):
    """The machine did not do its part; the text says how."""


class EndedByHand(Exception):
    """Somebody has told QEMU to end."""


class TimeOut(Exception):
    """The command took too long."""


def say(text):
    sys.stderr.flush()
    os.write(2, f"real-kernel: {text}\n".encode())


class Output:
    """One of the command's outputs: everything before the mark goes to a file descriptor."""

    def __init__(self, fd, mark):
        self.fd, self.mark, self.held, self.ended = fd, mark, b"", False

    def take(self, data):
        data = self.held + data
        end = data.find(self.mark)
        self.ended = end >= 0
        keep = end if self.ended else len(data) - self.overlap(data)
        self.held = b"" if self.ended else data[keep:]
        view = memoryview(data)[:keep]
        while view:
            view = view[os.write(self.fd, view) :]

    def overlap(self, data):
        """How many of the last bytes could be the beginning of the mark."""
        for length in range(min(len(self.mark) - 1, len(data)), 0, -1):
            if data.endswith(self.mark[:length]):
                return length
        return 0


class Machine:
    def __init__(self, options, accel):
        self.options, self.accel = options, accel
        self.boot_timeout = options.boot_timeout
        if options.accel == "auto" and accel == "kvm":
            self.boot_timeout = min(self.boot_timeout, KVM_BOOT_SECONDS)
        self.log, self.qemu_said, self.lines = bytearray(), bytearray(), b""
        self.up, self.refused, self.slow, self.status = False, False, False, None
        self.started = self.phase_started = time.monotonic()

    def run(self):
        secret = os.urandom(16).hex()
        mark = f"\0real-kernel-end:{secret}\n".encode()
        self.outputs = {"stdout": Output(1, mark), "stderr": Output(2, mark)}
        self.sockets = {}
        try:
            self.start(secret)
            while not self.is_over():
                self.step()
            return self.status
        except BrokenPipeError:
            return STATUS_BROKEN_PIPE
        finally:
            self.qemu.kill()
            self.qemu.wait()

    def start(self, secret):
        """Starts QEMU with one end of each stream; it dies with us, however we die."""
        far, arguments = [], list(self.options.qemu)
        names = ("log",) if self.options.interactive else ("log",) + PORTS[1:]
        for name in names + ("control",):
            self.sockets[name], end = socket.socketpair()
            far.append(end)
            arguments += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
        arguments += ["-serial", "chardev:log"]
        for number, name in enumerate(PORTS, 1):
            if name in self.sockets:
                arguments += ["-device", f"virtserialport,chardev={name},nr={number},name={name}"]
        if self.options.interactive:
            # A virtio console, not a serial line: its driver takes no character before somebody
            # has it open. A UART is cleared when it is opened, and what was typed is lost.
            arguments += ["-chardev", "stdio,id=terminal,mux=on,signal=off"]
            arguments += ["-mon", "chardev=terminal", "-device", "virtconsole,chardev=terminal"]
        arguments += accelerator(self.accel)
        words = self.options.append + (" tsc=reliable lpj=4000000" if self.accel != "kvm" else "")
        arguments += ["-append", f"{words} GODWIT_RUN={secret}"]
        self.qemu = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL"] + arguments,
            stdin=None if self.options.interactive else subprocess.DEVNULL,
            stdout=None if self.options.interactive else subprocess.PIPE,
            stderr=subprocess.STDOUT if not self.options.interactive else subprocess.PIPE,
            pass_fds=[end.fileno() for end in far],
        )
        for end in far:
            end.close()

    def is_over(self):
        ended = self.options.interactive or all(o.ended for o in self.outputs.values())
        return self.status is not None and ended

    def step(self):
        """Waits for one event and handles it."""
        said = self.qemu.stderr if self.options.interactive else self.qemu.stdout
        sources = {s: name for name, s in self.sockets.items() if name != "stdin"}
        sources[said] = "qemu"
        ready, _, _ = select.select(list(sources), [], [], self.patience())
        for source in ready:
            if sources[source] == "qemu":
                data = os.read(source.fileno(), 65536)
                self.qemu_said += data
                if not data:
                    self.drain()
                    if self.is_ended_by_hand():
                        raise EndedByHand("the machine was ended by hand (Ctrl-A x)")
                    raise MachineFailure(self.why_it_ended())
            else:
                self.receive(sources[source], source)

    def receive(self, name, source):
        try:
            data = source.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            self.sockets.pop(name).close()
        elif name == "log":
            self.take_log(data)
        elif name == "control":
            self.lines += data
            while b"\n" in self.lines:
                line, self.lines = self.lines.split(b"\n", 1)
                self.obey(line.decode(errors="replace"))
        else:
            self.outputs[name].take(data)

    def drain(self):
        """QEMU is gone; what it still had to say is in the sockets."""
        for name in [n for n in self.sockets if n not in ("stdin", "control")]:
            while name in self.sockets:
                self.receive(name, self.sockets[name])

    def obey(self, line):
        word, _, rest = line.partition(" ")
        self.phase_started = time.monotonic()
        if word == "up":
            self.up = True
            if self.options.verbose:
                say(f"up after {self.phase_started - self.started:.1f} s ({self.accel})")
            command = base64.b64encode(self.options.command.encode(errors="surrogateescape"))
            self.sockets["control"].sendall(command + b"\n")
            if "stdin" in self.sockets:
                threading.Thread(target=self.feed, daemon=True).start()
        elif word == "exit":
            self.status = int(rest)
        else:
            self.refused = True
            raise MachineFailure(rest or line)

    def feed(self):
        """Passes standard input on, in a thread of its own: it may be a file, or block."""
        port = self.sockets["stdin"]
        try:
            while data := os.read(0, 65536):
                port.sendall(data)
            port.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def take_log(self, data):
        self.log += data
        if self.options.verbose:
            os.write(2, data.replace(b"\r\n", b"\n"))
        if self.options.log_file:
            self.options.log_file.write(data.replace(b"\r\n", b"\n"))
            self.options.log_file.flush()

    def patience(self):
        """Seconds until the present phase has taken too long; None: it may take forever."""
        if not self.up:
            limit = self.boot_timeout
        elif self.status is None:
            limit = 0 if self.options.interactive else self.options.timeout
        else:
            limit = ENDING_SECONDS
        if not limit:
            return None
        left = self.phase_started + limit - time.monotonic()
        if left <= 0:
            self.too_long(limit)
        return left

    def too_long(self, limit):
        if not self.up:
            self.slow = True
            raise MachineFailure(f"the kernel did not start the command within {limit} s")
        if self.status is None:
            raise TimeOut(f"the command did not end within {limit} s")
        raise MachineFailure(f"the command ended with {self.status}, but its output did not")

    def is_ended_by_hand(self):
        """QEMU has no trouble then, and the kernel says nothing."""
        words = (b"Kernel panic", b"reboot: ", b"BUG:")
        quiet = not any(word in self.log for word in words)
        return self.options.interactive and self.up and self.qemu.wait() == 0 and quiet

    def why_it_ended(self):
        self.qemu.wait()
        if b"Kernel panic" in self.log:
            return "the kernel panicked"
        if not self.up and not self.log:
            return f"QEMU ended with {self.qemu.returncode} before the kernel started"
        return "the machine stopped before the command had ended"

    def may_be_tried_again(self):
        """Nothing has happened before the machine is up. What it said itself it would say again."""
        begun = self.accel == "kvm" or self.log or self.slow
        return not self.up and not self.refused and bool(begun)

    def remark(self):
        if self.accel == "tcg,thread=multi" and b"int3: 0000" in self.log:
            return " (int3: QEMU's fault; --accel tcg,thread=single avoids it)"
        return ""

    def evidence(self):
        """The last that was heard of QEMU and the kernel."""
        heard = bytes(self.qemu_said) + bytes(self.log)
        lines = heard.replace(b"\r", b"").decode(errors="replace").splitlines()
        panic = [n for n, line in enumerate(lines) if "Kernel panic" in line or "BUG:" in line]
        first = max(0, min(panic[:1] + [len(lines) - LOG_LINES]))
        return "".join(f"  | {line}\n" for line in lines[first:][: 2 * LOG_LINES])


def accelerator(name):
    if name == "kvm":
        return ["-accel", "kvm", "-cpu", "max"]
    # Five-level page tables would cost a memory access in each emulated walk.
    return ["-accel", name, "-cpu", "max,-la57"]


def emulator(options):
    """One thread for all cpus, or one for each?

    With QEMU 7.2 and a thread for each cpu, a kernel that patches its own code now and then dies
    of a stale int3 (seen in one boot among some fifty; the same is reported for 8.0). 8.1 is
    believed, not tested, to be free of it; one thread has no such race. And where cpus share a
    host cpu, one that waits for another (a TLB shootdown) may waste whole time slices of the host:
    on 6.1, four cpus on two, 2 s instead of 40 ms for 512 pages under load (6.12: no difference).
    """
    said = subprocess.run([options.qemu[0], "--version"], capture_output=True, check=False).stdout
    version = re.search(rb"version (\d+)\.(\d+)", said)
    sound = version and tuple(map(int, version.groups())) >= (8, 1)
    enough = len(os.sched_getaffinity(0)) >= options.cpus
    return "tcg,thread=multi" if sound and enough else "tcg,thread=single"


def attempts(options):
    """The accelerators to try in turn until the machine comes up: the last one twice."""
    if options.accel == "auto":
        kvm = ["kvm"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else []
        return kvm + [emulator(options)] * 2
    if options.accel == "tcg":
        return [emulator(options)] * 2
    return [options.accel] * (3 if options.accel == "tcg,thread=multi" else 2)


def run(options):
    """Runs the machine. Before it is up nothing has happened yet, and another attempt is safe."""
    left = attempts(options)
    while left:
        machine = Machine(options, left.pop(0))
        try:
            return machine.run()
        except EndedByHand as end:
            say(str(end))
            return STATUS_MACHINE
        except MachineFailure as failure:
            if left and machine.may_be_tried_again():
                say(f"no boot with {machine.accel} ({failure}): trying again with {left[0]}")
                continue
            text, status = f"{failure}{machine.remark()}", STATUS_MACHINE
        except TimeOut as failure:
            text, status = str(failure), STATUS_TIMEOUT
        say(text)
        os.write(2, machine.evidence().encode())
        return status


def parse():
    parser = argparse.ArgumentParser(description="Runs QEMU for scripts/real-kernel.")
    parser.add_argument("--temporary", required=True)
    parser.add_argument("--accel", required=True)
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--timeout", type=int, required=True)
    parser.add_argument("--boot-timeout", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--verbose", type=int, required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--append", required=True)
    parser.add_argument("--interactive", action="store_true")
    parser.add_argument("qemu", nargs="+")
    options = parser.parse_args()
    options.log_file = open(options.log, "wb") if options.log else None
    return options


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    options = parse()
    try:
        status = run(options)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        shutil.rmtree(options.temporary, ignore_errors=True)
    sys.stdout.flush()
    os._exit(status)  # The thread that feeds standard input may be blocked in it.


main()
