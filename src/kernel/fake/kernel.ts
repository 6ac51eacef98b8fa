/**
 * FakeKernel: a model of the kernel of one machine, as far as the product uses it, answering at `Sys` with the bytes that the real one speaks.
 *
 * It states rules of the real kernel and is held against it by test/kernel; what it has no rule for it refuses loudly. It survives its
 * processes: whoever starts next finds what the last one left.
 */
import type { KernelFaults } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { FakeNamespace } from "./namespace.ts";
import { FakeProcess } from "./process.ts";

export interface FakeKernelOptions {
  /** Whether a socket can own a table that stays (Linux 6.9 and later); default true. */
  readonly ownsTables?: boolean;
  /** Default true. */
  readonly hasFlowtables?: boolean;
}

const FIRST_PID = 1000;

export class FakeKernel implements Machine {
  readonly ownsTables: boolean;
  readonly hasFlowtables: boolean;
  /** The machine's own. */
  readonly root: FakeNamespace;
  faults: KernelFaults = {};
  changes = 0;
  readonly #paths = new Map<string, FakeNamespace>();
  readonly #processes = new Set<FakeProcess>();
  #pids = FIRST_PID;

  constructor(options: FakeKernelOptions = {}) {
    this.ownsTables = options.ownsTables ?? true;
    this.hasFlowtables = options.hasFlowtables ?? true;
    this.root = this.#newNamespace();
  }

  /** A process in the machine's own namespace, or in that one; `name` is its command's. */
  startProcess(name = "calico", namespace: FakeNamespace = this.root): FakeProcess {
    const process = new FakeProcess(this, ++this.#pids, name, namespace, () => this.#processes.delete(process));
    this.#processes.add(process);
    return process;
  }

  /** `ip netns add`: a new namespace under that path, its loopback down. */
  addNamespace(path: string): FakeNamespace {
    const namespace = this.#newNamespace();
    this.#paths.set(path, namespace);
    return namespace;
  }

  /** `ip netns delete`; nothing when there is none. */
  removeNamespace(path: string): void {
    const namespace = this.#paths.get(path);
    this.#paths.delete(path);
    if (namespace === undefined) return;
    namespace.named = false;
    namespace.reap();
  }

  namespaceAt(path: string): FakeNamespace | undefined {
    return this.#paths.get(path);
  }

  #newNamespace(): FakeNamespace {
    const namespace: FakeNamespace = new FakeNamespace(this, () =>
      [...this.#processes].some((one) => one.namespace === namespace),
    );
    return namespace;
  }
}

export type { FakeNamespace } from "./namespace.ts";
export type { FakeProcess } from "./process.ts";
