/**
 * Sys: the dozen system calls that the product makes directly, each returning a value or `-errno`, all synchronous.
 *
 * Two implementations (a system call trampoline; libc's `syscall` with `errno`), one of which a self-test chooses at start.
 * Everything above depends only on this interface, so that another runtime could provide it.
 */
export interface Sys {
  readonly implementation: "trampoline" | "libc";
  /** socket(2). */
  socket(domain: number, type: number, protocol: number): number;
  /** bind(2) with the encoded socket address. */
  bind(fd: number, address: Uint8Array): number;
  /** setsockopt(2) with an int value. */
  setSocketOption(fd: number, level: number, option: number, value: number): number;
  /** send(2)/sendto(2); bytes sent or -errno. */
  send(fd: number, bytes: Uint8Array, flags: number, address?: Uint8Array): number;
  /** recv(2) into the buffer; bytes received (0: end), or -errno. With MSG_TRUNC in flags the full length is returned. */
  receive(fd: number, buffer: Uint8Array, flags: number): number;
  /** openat(AT_FDCWD, …) with O_CLOEXEC. */
  open(path: string, flags: number): number;
  close(fd: number): number;
  /** read(2) into the buffer; bytes read (0: end), or -errno. */
  read(fd: number, buffer: Uint8Array): number;
  /** write(2); bytes written or -errno. */
  write(fd: number, bytes: Uint8Array): number;
  /** setns(2). */
  setNamespace(fd: number, type: number): number;
  /** ioctl(2) with the structure's bytes, read and written in place. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  /** mmap(2) of the descriptor's memory, shared; or -errno. */
  map(fd: number, length: number, offset: number, isWritable: boolean): Mapping | number;
  /** prlimit(2) of this process: both the soft and the hard limit. */
  setLimit(resource: number, limit: bigint): number;
  /** bpf(2) with the attributes' bytes, read and written in place, and what their pointers point to. */
  bpf(command: number, attributes: Uint8Array, pointers: readonly BpfPointer[]): number;
}

/** Memory that is the kernel's too. */
export interface Mapping {
  readonly memory: ArrayBuffer;
  /** Whoever looks at the memory afterwards ends the process. */
  unmap(): void;
}

/** A buffer whose address stands in the attributes. */
export interface BpfPointer {
  /** Offset of the 8 bytes of the address. */
  readonly at: number;
  readonly bytes: Uint8Array;
  /** The kernel writes to it. */
  readonly isOutput?: boolean;
}
