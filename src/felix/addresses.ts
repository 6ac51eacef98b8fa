/**
 * addresses: the CNI server's way to the datastore: addresses out of the reserve, and everything that may happen after the
 * answer: who holds an address, that it is free again, what the Pod's annotations say of it.
 *
 * Work for the datastore is queued for each container, done in order, and retried until it succeeds: a DEL or ADD never waits
 * for it. What a crash interrupts is in the journal and is queued again at start.
 */
import type { Store } from "../datastore/store.ts";
import { StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { IpamError } from "../ipam/errors.ts";
import type { Ipam } from "../ipam/ipam.ts";
import type { AddressReserve } from "../ipam/reserve.ts";
import { formatTimestamp } from "../lib/timestamp.ts";
import type { CniRecord } from "../model/endpoint.ts";
import type { Key } from "../model/key.ts";
import { type Addr, type Family, familyOf } from "../net/addr.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { AddressError, isFailure } from "./failures.ts";
import type { Attachment, Journal } from "./journal.ts";
import type { Report } from "../lib/report.ts";
import type { PodRequests } from "./pod-requests.ts";

export interface AddressesOptions {
  readonly node: string;
  readonly store: Store;
  readonly ipam: Ipam;
  readonly reserve: AddressReserve;
  readonly journal: Journal;
  readonly clock: Clock;
  /** The annotations that a Pod is known to have: those are not written once more. */
  readonly annotationsOf: (pod: Key<"Pod">) => Readonly<Record<string, string>>;
  /** Closes a pod one of whose addresses belongs to somebody else by the datastore's word. */
  readonly closeLoser: (attachment: Attachment, why: string) => Promise<void>;
  /** Forgets the connections of the addresses; throws KernelError. */
  readonly endFlows: (addresses: readonly Addr[]) => void;
  readonly report: Report;
}

export interface TakeRequest {
  readonly containerId: string;
  readonly network: string;
  readonly pod: Key<"Pod">;
  readonly families: readonly Family[];
  readonly requests: Pick<PodRequests, "addresses" | "ipv4Pools" | "ipv6Pools">;
  /** Of the pod's Namespace. */
  readonly namespaceLabels: Readonly<Record<string, string>>;
}

export interface Taken {
  readonly addresses: readonly Addr[];
  readonly handle: string;
  /** RFC 3339. */
  readonly assignedAt: string;
  /** Whether the datastore records some of them for the handle already, and not for the reserve. */
  readonly assigned: boolean;
}

const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 10_000;
/**
 * How long work for the datastore is gathered after an answer: the container runtime is still busy with the pod meanwhile, and what
 * many pods wait for is done at once. Nobody waits that long for an address: then it is cut short.
 */
const GATHER_MS = 200;
/** How long ADD waits for a fixed address that is being released on this node. */
const RELEASE_WAIT_MS = 5_000;
/** How long ADD waits for addresses that the reserve has not. A kubelet gives a sandbox 4 minutes, and asks again after an error. */
const ASSIGN_MS = 30_000;

export class Addresses {
  readonly #options: AddressesOptions;
  readonly #queues = new Map<string, Promise<void>>();
  readonly #ending = new Set<Addr>();
  /** Handles of requests that took addresses and are not confirmed, nor undone, yet. */
  readonly #taking = new Set<string>();
  readonly #stopping = new AbortController();
  #gathering: Promise<void> | undefined;
  #hurry = new AbortController();

  constructor(options: AddressesOptions) {
    this.#options = options;
  }

  /** One address of each family, or those that the pod asks for; rejects naming what was missing and what the datastore said. */
  async take(request: TakeRequest): Promise<Taken> {
    const assignedAt = formatTimestamp(this.#options.clock.wallMs());
    const handle = `${request.network}.${request.containerId}`;
    this.#taking.add(handle);
    const { addresses: fixed, ipv4Pools, ipv6Pools } = request.requests;
    if (fixed !== undefined)
      return {
        addresses: await this.#takeFixed(fixed, request, handle, assignedAt),
        handle,
        assignedAt,
        assigned: true,
      };
    const { reserve } = this.#options;
    const addresses: Addr[] = [];
    const missing: Family[] = [];
    for (const family of request.families) {
      const anyPool = (family === 4 ? ipv4Pools : ipv6Pools) === undefined;
      const addr = anyPool ? reserve.take(family, handle) : undefined;
      if (addr === undefined) missing.push(family);
      else addresses.push(addr);
      if (anyPool && reserve.count(family) < reserve.size / 2) this.#endGathering();
    }
    let late = false;
    let assigned = false;
    const search = async (): Promise<void> => {
      for (const family of missing) {
        const found = await this.#findOne(family, request, handle, assignedAt);
        if (late && found.addr !== undefined) reserve.giveBack(found.addr);
        else if (found.addr !== undefined) addresses.push(found.addr);
        assigned ||= found.assigned;
      }
    };
    try {
      if (missing.length > 0) await this.#inTime(request.containerId, search());
    } catch (error) {
      late = true;
      for (const addr of addresses) reserve.giveBack(addr);
      this.releaseHandle(request.containerId, handle);
      if (!isFailure(error)) throw error;
      throw new AddressError(
        `no IPv${missing.join(" and IPv")} address: the reserve of node ${this.#options.node} has none for this pod and the datastore gave none: ${error.message}`,
      );
    }
    return {
      addresses: request.families.flatMap((family) => addresses.filter((addr) => familyOf(addr) === family)),
      handle,
      assignedAt,
      assigned,
    };
  }

  /** By way of the reserve, which fetches for all that wait at once; for a pod that asks for pools, or when the reserve gets none, for it alone. */
  async #findOne(
    family: Family,
    { requests, pod, namespaceLabels }: TakeRequest,
    handle: string,
    assignedAt: string,
  ): Promise<{ readonly addr: Addr | undefined; readonly assigned: boolean }> {
    const { ipam, reserve } = this.#options;
    const names = family === 4 ? requests.ipv4Pools : requests.ipv6Pools;
    if (names === undefined) {
      const addr = await reserve.takeFound(family, handle);
      if (addr !== undefined) return { addr, assigned: false };
    }
    const pools = names === undefined ? {} : family === 4 ? { ipv4: names } : { ipv6: names };
    const { ipv4, ipv6 } = await ipam.assign({
      ipv4: family === 4 ? 1 : 0,
      ipv6: family === 6 ? 1 : 0,
      handle,
      attributes: this.#attributes(pod, assignedAt),
      pools,
      namespaceLabels,
    });
    return { addr: [...ipv4, ...ipv6][0], assigned: true };
  }

  async #takeFixed(
    addresses: readonly Addr[],
    { pod, containerId }: TakeRequest,
    handle: string,
    assignedAt: string,
  ): Promise<readonly Addr[]> {
    // A pod that is replaced keeps its address: its predecessor here may be giving it back just now.
    for (const other of this.#options.journal.all()) {
      if (other.state === "releasing" && other.record.addresses.some((addr) => addresses.includes(addr)))
        await this.settled(other.record.containerId, RELEASE_WAIT_MS);
    }
    const assign = async (): Promise<void> => {
      for (const addr of addresses)
        await this.#options.ipam.assignAddress(addr, handle, this.#attributes(pod, assignedAt));
    };
    try {
      await this.#inTime(containerId, assign());
      return addresses;
    } catch (error) {
      this.releaseHandle(containerId, handle);
      throw error;
    }
  }

  /** The result, if it comes in time; else whatever is next in the container's queue waits for the work to end. */
  async #inTime<T>(containerId: string, work: Promise<T>): Promise<T> {
    const timer = new AbortController();
    const late = this.#options.clock.sleep(ASSIGN_MS, timer.signal).then(() => undefined);
    try {
      const done = await Promise.race([work.then((value) => ({ value })), late]);
      if (done !== undefined) return done.value;
    } finally {
      timer.abort();
    }
    this.#enqueue(containerId, "end the search for addresses", async () => {
      await work.catch((error: unknown) => {
        if (!isFailure(error)) throw error;
      });
    });
    throw new AddressError(`the datastore did not finish within ${ASSIGN_MS} ms`);
  }

  /** Addresses that no pod got, of an ADD that failed before its record was on disk: the reserve has its own back at once. */
  giveBack(containerId: string, { addresses, handle, assigned }: Taken): void {
    this.#taking.delete(handle);
    for (const addr of addresses) this.#options.reserve.giveBack(addr);
    if (assigned) this.releaseHandle(containerId, handle);
  }

  /** After the answer: the addresses belong to the container's handle, and the Pod says so. */
  confirm(attachment: Attachment): void {
    const { record, handle } = attachment;
    this.#taking.delete(handle);
    this.#enqueue(record.containerId, "record the owner of addresses", async () => {
      const { reserve } = this.#options;
      // First what others wait for: a Pod's status comes much later.
      if (attachment.wired) await this.#say(record.pod, wiredAnnotations(record));
      await this.#gathered();
      try {
        await this.#record(attachment);
      } catch (error) {
        if (!(error instanceof IpamError) || error.reason !== "in-use") throw error;
        await this.#options.closeLoser(attachment, error.message);
        // Its Pod may say that it has the address.
        if (attachment.wired) await this.#markTornDown(attachment);
        return;
      }
      if (reserve.isLow) await reserve.refill();
    });
  }

  /** Rejects with `in-use` when somebody else has an address. */
  async #record({ record, handle, assignedAt }: Attachment): Promise<void> {
    const { reserve, ipam } = this.#options;
    const attributes = this.#attributes(record.pod, assignedAt);
    try {
      await reserve.record({ handle, addresses: record.addresses, attributes });
    } catch (error) {
      if (!(error instanceof IpamError) || error.reason !== "not-held") throw error;
      // A block was deleted, or the datastore put back to an older state: before anybody is given the address, it is this pod's again.
      for (const addr of record.addresses) await ipam.assignAddress(addr, handle, attributes);
    }
  }

  /** After DEL, or a failed ADD: forget their connections, free the addresses, mark the Pod as torn down, forget the attachment. */
  release(attachment: Attachment): void {
    const { record, handle } = attachment;
    this.#taking.delete(handle);
    this.#enqueue(record.containerId, "release addresses", async () => {
      // A failed ADD and its DEL both ask, and runtimes ask again: what was done once is somebody else's by now.
      if (this.#options.journal.get(record.containerId, record.podInterface)?.state !== "releasing") return;
      const own = this.#notInUse(attachment);
      for (const addr of own) this.#ending.add(addr);
      await this.#gathered();
      this.#endFlows();
      await this.#markTornDown(attachment);
      await this.#options.reserve.release({ handle, addresses: own });
    });
    // Apart, because the next pod may have the addresses when a disk that refuses is tried again.
    this.#enqueue(record.containerId, "forget the attachment", () => this.#options.journal.remove(attachment));
  }

  /** The attachment's addresses without those that a pod here got since: a daemon may have died between the release and the journal's word of it. */
  #notInUse({ record, handle }: Attachment): readonly Addr[] {
    const inUse = new Set(
      this.#options.journal
        .all()
        .flatMap((other) => (other.state === "attached" && other.handle !== handle ? other.record.addresses : [])),
    );
    return record.addresses.filter((addr) => !inUse.has(addr));
  }

  /** A container of which the journal has nothing: whatever its handle holds. In the container's queue, as all that concerns its handle. */
  releaseHandle(containerId: string, handle: string): void {
    this.#taking.delete(handle);
    this.#enqueue(containerId, "release addresses by handle", () =>
      this.#options.reserve.release({ handle, addresses: [] }),
    );
  }

  /** The handles under which this node knows addresses to be in use, or on their way. */
  handles(): ReadonlySet<string> {
    return new Set([...this.#options.journal.all().map(({ handle }) => handle), ...this.#taking]);
  }

  /** What a crash left unfinished. */
  resume(): void {
    for (const attachment of this.#options.journal.all()) {
      if (attachment.state === "releasing") this.release(attachment);
      else this.confirm(attachment);
    }
  }

  /** Resolves when nothing is left to be written for the container, or after the time. True: nothing is left. */
  async settled(containerId: string, timeoutMs: number): Promise<boolean> {
    const queue = this.#queues.get(containerId);
    if (queue === undefined) return true;
    this.#endGathering();
    await Promise.race([queue, this.#options.clock.sleep(timeoutMs)]);
    return this.#queues.get(containerId) === undefined;
  }

  /** Number of containers with unfinished work for the datastore. */
  get backlog(): number {
    return this.#queues.size;
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** Resolves GATHER_MS after the first call that waits, for all of them. */
  #gathered(): Promise<void> {
    this.#gathering ??= this.#options.clock
      .sleep(GATHER_MS, AbortSignal.any([this.#hurry.signal, this.#stopping.signal]))
      .then(() => {
        this.#gathering = undefined;
      });
    return this.#gathering;
  }

  #endGathering(): void {
    if (this.#gathering === undefined) return;
    this.#hurry.abort();
    this.#hurry = new AbortController();
  }

  /** Before anybody can be given the addresses. One pass over the kernel's table serves all that are waiting: it costs the same for many as for one. */
  #endFlows(): void {
    if (this.#ending.size === 0) return;
    this.#options.endFlows([...this.#ending]);
    this.#ending.clear();
  }

  /** Only if the Pod still speaks of this container: a Pod of the same name may live already. */
  async #markTornDown(attachment: Attachment): Promise<void> {
    const { pod, containerId } = attachment.record;
    const stored = await this.#options.store.get(pod);
    if (stored?.metadata.annotations?.["cni.projectcalico.org/containerID"] !== containerId) return;
    await this.#annotate(pod, { "cni.projectcalico.org/podIP": "", "cni.projectcalico.org/podIPs": "" });
  }

  /** Unless the Pod says so already, as after a restart of the daemon. */
  async #say(pod: Key<"Pod">, wanted: Readonly<Record<string, string>>): Promise<void> {
    const said = this.#options.annotationsOf(pod);
    if (Object.entries(wanted).some(([name, text]) => said[name] !== text)) await this.#annotate(pod, wanted);
  }

  async #annotate(pod: Key<"Pod">, annotations: Readonly<Record<string, string>>): Promise<void> {
    try {
      await this.#options.store.annotate(pod, annotations);
    } catch (error) {
      if (!(error instanceof StoreError) || error.reason !== "not-found") throw error;
    }
  }

  #attributes(pod: Key<"Pod">, assignedAt: string): Record<string, string> {
    return { namespace: pod.namespace ?? "", pod: pod.name, node: this.#options.node, timestamp: assignedAt };
  }

  #enqueue(queue: string, what: string, work: () => Promise<void>): void {
    const run = async (before: Promise<void> | undefined): Promise<void> => {
      await before;
      let told = "";
      for (let failures = 0; !this.#stopping.signal.aborted; failures++) {
        try {
          return await work();
        } catch (error) {
          if (!isFailure(error)) throw error;
          // The store is closed because we stop; the next process finds in the journal what is left to do.
          if (this.#stopping.signal.aborted) return;
          if (error.message !== told)
            this.#options.report(`cannot ${what} yet: will retry`, { container: queue, error: error.message });
          told = error.message;
          await this.#options.clock.sleep(
            Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(failures, 10)),
            this.#stopping.signal,
          );
        }
      }
    };
    const mine = run(this.#queues.get(queue));
    this.#queues.set(queue, mine);
    // A mistake in the work rejects here too, and ends the process.
    void mine.finally(() => {
      if (this.#queues.get(queue) === mine) this.#queues.delete(queue);
    });
  }
}

/** Upstream's early word of a pod's addresses, CIDR text. Source: libcalico-go/lib/backend/k8s/resources/workloadendpoint.go. */
function wiredAnnotations(record: CniRecord): Record<string, string> {
  const prefixes = record.addresses.map(prefixOfAddr);
  return {
    "cni.projectcalico.org/podIP": prefixes[0] ?? "",
    "cni.projectcalico.org/podIPs": prefixes.join(","),
    "cni.projectcalico.org/containerID": record.containerId,
  };
}
