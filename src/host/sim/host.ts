/**
 * openSimHost: the doors of one simulated process: a clock, chance, disk and sockets of its machine, and a `Sys` that a model of a kernel answers.
 *
 * Every call is an operation, before which the process may end (see process.ts).
 */
import { BugError } from "../../lib/bug.ts";
import type { Host } from "../host.ts";
import type { Sys } from "../sys.ts";
import type { Watch, WatchEvents } from "../watcher.ts";
import type { SimClock } from "./clock.ts";
import type { SimDisk } from "./files.ts";
import { type SimProcess, Stopped } from "./process.ts";
import type { SimRandom } from "./random.ts";
import type { SimSockets } from "./sockets.ts";

export interface SimMachine {
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly disk: SimDisk;
  readonly sockets: SimSockets;
  readonly sys: Sys;
  /** Calls `run` whenever a datagram can be read from the descriptor; undefined ends that. */
  readonly whenReadable: (fd: number, run: (() => void) | undefined) => void;
}

export function openSimHost(machine: SimMachine, owner: SimProcess): Host {
  const { clock, random, disk, sockets } = machine;
  const sys = guarded(machine.sys, owner);
  return {
    clock: {
      monotonicMs: () => clock.monotonicMs(),
      wallMs: () => clock.wallMs(),
      sleep: (ms, signal) => owner.wait(clock.sleep(ms, signal)),
    },
    random,
    files: disk.open(owner),
    processes: {
      run: ([program]) => Promise.reject(new Error(`Cannot start ${program}: a simulated machine has no programs`)),
    },
    sockets: sockets.open(owner),
    sys,
    watcher: {
      watch: (fd, events) => watch(machine, sys, owner, fd, events),
      awaitReadable: () => {
        throw new BugError("a simulated machine has nothing but sockets to wait for");
      },
    },
  };
}

function guarded(sys: Sys, owner: SimProcess): Sys {
  return {
    implementation: sys.implementation,
    socket: (...args) => (owner.pass("sys socket"), sys.socket(...args)),
    bind: (...args) => (owner.pass("sys bind"), sys.bind(...args)),
    setSocketOption: (...args) => (owner.pass("sys setsockopt"), sys.setSocketOption(...args)),
    send: (...args) => (owner.pass("sys send"), sys.send(...args)),
    receive: (...args) => (owner.pass("sys recv"), sys.receive(...args)),
    open: (...args) => (owner.pass(`sys open ${args[0]}`), sys.open(...args)),
    close: (...args) => (owner.pass("sys close"), sys.close(...args)),
    read: (...args) => (owner.pass("sys read"), sys.read(...args)),
    write: (...args) => (owner.pass("sys write"), sys.write(...args)),
    setNamespace: (...args) => (owner.pass("sys setns"), sys.setNamespace(...args)),
    ioctl: (...args) => (owner.pass("sys ioctl"), sys.ioctl(...args)),
    map: (...args) => (owner.pass("sys mmap"), sys.map(...args)),
    setLimit: (...args) => (owner.pass("sys prlimit"), sys.setLimit(...args)),
    bpf: (...args) => (owner.pass("sys bpf"), sys.bpf(...args)),
  };
}

const DATAGRAM_BYTES = 64 * 1024;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const ENOBUFS = 105;

/** Reads in turns of their own, as an event loop does; the first failure closes the descriptor. */
function watch({ whenReadable }: SimMachine, sys: Sys, owner: SimProcess, fd: number, events: WatchEvents): Watch {
  const buffer = new Uint8Array(DATAGRAM_BYTES);
  let open = true;
  let scheduled = false;
  const close = (): void => {
    if (!open) return;
    open = false;
    whenReadable(fd, undefined);
    sys.close(fd);
  };
  const drain = (): void => {
    scheduled = false;
    while (open && !owner.stopped) {
      const length = sys.receive(fd, buffer, MSG_DONTWAIT);
      if (length === -EAGAIN) return;
      if (length < 0) {
        close();
        events.lost(length === -ENOBUFS ? "ENOBUFS" : `errno ${-length}`);
      } else events.received(buffer.subarray(0, length));
    }
  };
  const turn = async (): Promise<void> => {
    try {
      await owner.wait(Promise.resolve());
      drain();
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
    }
  };
  whenReadable(fd, () => {
    if (scheduled) return;
    scheduled = true;
    void turn();
  });
  return { close };
}
