/** FakeProcess: one process on a fake kernel: its descriptors, its network namespace, and its `Sys`. Ending it closes what it had open. */
import type { Sys } from "../../host/sys.ts";
import { EACCES, EINVAL, ENOENT } from "../errno.ts";
import { AF_NETLINK, SOCK_RAW } from "../netlink/socket.ts";
import type { Machine } from "./machine.ts";
import type { FakeNamespace } from "./namespace.ts";
import { FakeNetlink, type Opener } from "./netlink.ts";
import { EBADF, Refusal, unmodelled } from "./refusal.ts";

const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const CLONE_NEWNET = 0x40000000;
const O_ACCMODE = 3;
const O_WRONLY = 1;
const FIRST_FD = 3;
const OWN_NAMESPACES: ReadonlySet<string> = new Set(["/proc/thread-self/ns/net", "/proc/self/ns/net"]);
const SYSCTLS = "/proc/sys/";

type Descriptor =
  | { readonly type: "netlink"; readonly socket: FakeNetlink }
  | { readonly type: "namespace"; readonly namespace: FakeNamespace }
  | { readonly type: "sysctl"; readonly namespace: FakeNamespace; readonly name: string; offset: number }
  | { readonly type: "null" };

/** What a process asks of its kernel. */
export interface Home extends Machine {
  namespaceAt(path: string): FakeNamespace | undefined;
}

export class FakeProcess implements Opener {
  readonly pid: number;
  readonly name: string;
  readonly sys: Sys;
  namespace: FakeNamespace;
  readonly #kernel: Home;
  readonly #ended: () => void;
  readonly #open = new Map<number, Descriptor>();
  #nextFd = FIRST_FD;

  constructor(kernel: Home, pid: number, name: string, namespace: FakeNamespace, ended: () => void) {
    this.#kernel = kernel;
    this.pid = pid;
    this.name = name;
    this.namespace = namespace;
    this.#ended = ended;
    this.sys = this.#makeSys();
  }

  /** As exit(2). */
  end(): void {
    for (const fd of this.#open.keys()) this.#close(fd);
    this.#ended();
    this.namespace.reap();
  }

  /** Calls `run` whenever a datagram can be read from the socket, as an event loop would. */
  whenReadable(fd: number, run: (() => void) | undefined): void {
    const descriptor = this.#open.get(fd);
    if (descriptor?.type !== "netlink") return;
    descriptor.socket.readable = run;
    if (descriptor.socket.hasData) run?.();
  }

  #makeSys(): Sys {
    const call = (name: string, run: () => number): number => {
      const errno = this.#kernel.faults.call?.(name);
      if (errno !== undefined) return -errno;
      try {
        return run();
      } catch (error) {
        if (error instanceof Refusal) return -error.errno;
        throw error;
      }
    };
    const onSocket = (name: string, fd: number, run: (socket: FakeNetlink) => number): number =>
      call(name, () => {
        const descriptor = this.#open.get(fd);
        if (descriptor === undefined) return -EBADF;
        return descriptor.type === "netlink"
          ? run(descriptor.socket)
          : unmodelled(`${name} on what is no netlink socket`);
      });
    return {
      implementation: "libc",
      socket: (domain, type, protocol) => call("socket", () => this.#socket(domain, type, protocol)),
      bind: (fd, address) => onSocket("bind", fd, (socket) => bind(socket, address)),
      setSocketOption: (fd, level, option, value) =>
        onSocket("setsockopt", fd, (socket) => socket.setOption(level, option, value)),
      send: (fd, bytes, flags, address) =>
        onSocket("send", fd, (socket) =>
          flags === 0 && address === undefined ? socket.send(bytes.slice()) : unmodelled("flags or an address of send"),
        ),
      receive: (fd, buffer, flags) => onSocket("recv", fd, (socket) => socket.receive(buffer, flags)),
      open: (path, flags) => call("open", () => this.#openPath(path, flags)),
      close: (fd) => call("close", () => this.#close(fd)),
      read: (fd, buffer) => call("read", () => this.#read(fd, buffer)),
      write: (fd, bytes) => call("write", () => this.#write(fd, bytes)),
      setNamespace: (fd, type) => call("setns", () => this.#setNamespace(fd, type)),
      ioctl: () => unmodelled("ioctl"),
      map: () => unmodelled("mmap"),
      setLimit: () => unmodelled("prlimit"),
      bpf: () => unmodelled("bpf"),
    };
  }

  #add(descriptor: Descriptor): number {
    this.#open.set(this.#nextFd, descriptor);
    return this.#nextFd++;
  }

  #socket(domain: number, type: number, protocol: number): number {
    if (domain !== AF_NETLINK || (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) !== SOCK_RAW)
      unmodelled(`sockets of domain ${domain} and type ${type}`);
    return this.#add({ type: "netlink", socket: new FakeNetlink(this.namespace, protocol, this) });
  }

  #openPath(path: string, flags: number): number {
    if (path === "/dev/null") return this.#add({ type: "null" });
    const namespace = OWN_NAMESPACES.has(path) ? this.namespace : this.#kernel.namespaceAt(path);
    if (namespace !== undefined) {
      namespace.holders++;
      return this.#add({ type: "namespace", namespace });
    }
    if (!path.startsWith(SYSCTLS)) return -ENOENT;
    const name = path.slice(SYSCTLS.length);
    const setting = this.namespace.sysctl.read(name);
    if (setting === undefined) return -ENOENT;
    if ((flags & O_ACCMODE) === O_WRONLY && !setting.writable) return -EACCES;
    return this.#add({ type: "sysctl", namespace: this.namespace, name, offset: 0 });
  }

  #close(fd: number): number {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) return -EBADF;
    this.#open.delete(fd);
    if (descriptor.type === "netlink") descriptor.socket.close();
    if (descriptor.type === "namespace") {
      descriptor.namespace.holders--;
      descriptor.namespace.reap();
    }
    return 0;
  }

  #read(fd: number, buffer: Uint8Array): number {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) return -EBADF;
    if (descriptor.type === "null") return 0;
    if (descriptor.type !== "sysctl") return unmodelled("read of what is no file");
    const value = descriptor.namespace.sysctl.read(descriptor.name)?.value;
    if (value === undefined) return -ENOENT;
    const bytes = new TextEncoder().encode(`${value}\n`).subarray(descriptor.offset);
    const length = Math.min(bytes.length, buffer.length);
    buffer.set(bytes.subarray(0, length));
    descriptor.offset += length;
    return length;
  }

  #write(fd: number, bytes: Uint8Array): number {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) return -EBADF;
    if (descriptor.type === "null") return bytes.length;
    if (descriptor.type !== "sysctl") return unmodelled("write to what is no file");
    descriptor.namespace.sysctl.write(descriptor.name, new TextDecoder().decode(bytes));
    return bytes.length;
  }

  #setNamespace(fd: number, type: number): number {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) return -EBADF;
    if (type !== CLONE_NEWNET) return unmodelled(`setns of type ${type}`);
    if (descriptor.type !== "namespace") return -EINVAL;
    const before = this.namespace;
    this.namespace = descriptor.namespace;
    before.reap();
    return 0;
  }

  /** The namespace of an open descriptor; EINVAL when it is none. */
  namespaceOf(fd: number): FakeNamespace | undefined {
    const descriptor = this.#open.get(fd);
    return descriptor?.type === "namespace" ? descriptor.namespace : undefined;
  }
}

/** struct sockaddr_nl: only "any port, no groups". */
function bind(socket: FakeNetlink, address: Uint8Array): number {
  if (address.slice(2).some((byte) => byte !== 0)) unmodelled("bind to a port or groups of one's choice");
  return socket.bind();
}
