/** Faults: what befalls a fake kernel on request from outside. Without them it refuses only what a real one does. */

/** One thing of one request, before it is done. */
export interface FakeRequest {
  readonly subsystem: "nftables" | "route" | "conntrack";
  /** `add` and `delete` change the kernel, `read` does not. */
  readonly does: "add" | "delete" | "read";
  /** `table T`, `chain C`, `rules of C`, `set S`, `element S KEY`, `link L`, `route D`, `address A`, `neighbour A`, … */
  readonly object: string;
}

export interface KernelFaults {
  /** Before each system call: a positive errno makes it fail without effect. Whatever it throws comes out of the call. */
  readonly call?: (name: string) => number | undefined;
  /** Of each request, as the kernel would answer: a positive errno refuses it. */
  readonly request?: (request: FakeRequest) => number | undefined;
  /** The most elements that a set may have; ENFILE beyond. */
  readonly setLimit?: (set: string) => number | undefined;
  /** Whether the dump that begins now says at its end that the objects changed meanwhile (NLM_F_DUMP_INTR). */
  readonly interruptDump?: () => boolean;
  /** Whether there is no room for this notification: it is lost, and its reader is told so (ENOBUFS). */
  readonly loseNews?: () => boolean;
}
