/** Watcher: sockets on which the kernel sends notifications, read as they arrive, and other descriptors; no thread waits and nothing polls. */
export interface Watcher {
  /** Takes ownership of a non-blocking datagram socket; it is closed by `close`, or by a failure to read. */
  watch(fd: number, events: WatchEvents): Watch;
  /**
   * Takes ownership of a descriptor that poll(2) knows and that is no socket. Calls once, when something is there to be read, or it cannot be watched; it
   * is closed then, or by `close`, after which nothing is called.
   */
  awaitReadable(fd: number, readable: () => void): Watch;
}

export interface WatchEvents {
  /** One datagram; its bytes are valid during the call only. */
  received(datagram: Uint8Array): void;
  /** Once: the socket could not be read (of netlink with ENOBUFS: datagrams were lost) and is closed. Not after `close`. */
  lost(cause: string): void;
}

export interface Watch {
  close(): void;
}
