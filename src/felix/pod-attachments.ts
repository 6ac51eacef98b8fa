/**
 * pod-attachments: gives containers their interfaces, and takes them back.
 *
 * It owns the order of things. Up: address out of the reserve, record on disk, link and routes, rules; only then the answer. Down: addresses and link;
 * then connections, and the datastore. What fails on the way up gives everything back. The caller lets one request at a time concern a container.
 */
import type { Random } from "../host/random.ts";
import type { Report } from "../lib/report.ts";
import type { Key } from "../model/key.ts";
import { hostInterfaceName } from "../podnet/names.ts";
import {
  CNI_FAILED,
  CNI_INVALID_ENVIRONMENT,
  CNI_TRY_AGAIN_LATER,
  type CniRequest,
  type CniResult,
} from "../podnet/protocol.ts";
import { type AddRequests, podOf } from "./add-requests.ts";
import type { Addresses, Taken } from "./addresses.ts";
import { CniRefusal } from "./cni-refusal.ts";
import { resultOf } from "./cni-result.ts";
import { isFailure } from "./failures.ts";
import { type Attachment, isWired, type Journal } from "./journal.ts";
import type { Pipeline } from "./pipeline.ts";
import type { Wiring } from "./wiring.ts";

export interface AttachmentOptions {
  readonly pipeline: Pick<
    Pipeline,
    | "inSync"
    | "status"
    | "datastoreErrors"
    | "refused"
    | "attach"
    | "attachSoon"
    | "detach"
    | "readPod"
    | "isEndpoint"
    | "isProgrammed"
    | "settleEndpoint"
    | "explain"
  >;
  readonly journal: Journal;
  readonly addresses: Pick<Addresses, "settled" | "take" | "giveBack" | "confirm" | "release" | "releaseHandle">;
  readonly wiring: Pick<Wiring, "add" | "remove" | "check" | "automaticMtuBytes">;
  readonly requests: Pick<AddRequests, "read" | "warn">;
  readonly random: Random;
  readonly report: Report;
}

/** How long a repeated ADD waits for the release of what an earlier one of the same container had. */
const SETTLE_MS = 5_000;

export class PodAttachments {
  readonly #options: AttachmentOptions;
  /** Names of host ends that ADDs under way have chosen. */
  readonly #choosing = new Set<string>();

  constructor(options: AttachmentOptions) {
    this.#options = options;
  }

  /** A container's interface, closed until its rules are in the kernel; a repeated ADD gets the same answer. `isAlone`: no other request is open. */
  async add(request: CniRequest, isAlone: () => boolean): Promise<CniResult> {
    const { pipeline, journal, addresses, wiring } = this.#options;
    if (!pipeline.inSync)
      throw new CniRefusal(
        CNI_TRY_AGAIN_LATER,
        `calico node starts no pod now: the datastore is ${pipeline.status}`,
        datastoreErrorsOf(pipeline),
      );
    const pod = podOf(request);
    const wired = request.plugin === "calico";
    const known = journal.get(request.containerId, request.interface);
    if (known?.state === "attached") return this.#again(known);
    if (wired) this.#refuseSecondInterface(request, pod);
    // The handle of the addresses is the container's: what an earlier ADD left must be given back before it is used anew.
    if (!(await addresses.settled(request.containerId, SETTLE_MS)))
      throw new CniRefusal(
        CNI_TRY_AGAIN_LATER,
        `the addresses that container ${request.containerId} had are not released yet: the datastore does not answer`,
      );
    const asked = await this.#options.requests.read(request, pod);
    const hostInterface = this.#chooseInterface(pod);
    try {
      const mtuBytes = asked.mtuBytes ?? wiring.automaticMtuBytes();
      const taken = await addresses.take({ ...asked, containerId: request.containerId, pod });
      const attachment: Attachment = {
        record: {
          containerId: request.containerId,
          pod,
          uid: asked.uid,
          interface: hostInterface,
          addresses: taken.addresses,
          mac: asked.mac ?? this.#newMac(),
          netns: request.netns,
          podInterface: request.interface,
        },
        handle: taken.handle,
        assignedAt: taken.assignedAt,
        mtuBytes,
        state: "attached",
        wired,
      };
      return await this.#attach(attachment, taken, isAlone);
    } finally {
      this.#choosing.delete(hostInterface);
    }
  }

  async #attach(attachment: Attachment, taken: Taken, isAlone: () => boolean): Promise<CniResult> {
    const { pipeline, journal, addresses, wiring } = this.#options;
    try {
      await journal.put(attachment);
    } catch (error) {
      addresses.giveBack(attachment.record.containerId, taken);
      throw error;
    }
    try {
      if (attachment.wired) {
        await this.#supersede(attachment);
        this.#refuseWhileFailing();
        wiring.add(attachment);
        // Nobody waits for others that may come, but those that are here share one transaction.
        if (isAlone()) pipeline.attach(attachment.record);
        else await pipeline.attachSoon(attachment.record);
        await this.#awaitRules(attachment);
      }
      addresses.confirm(attachment);
      return resultOf(attachment);
    } catch (error) {
      await this.#undo(attachment);
      throw error;
    }
  }

  /** While a driver fails as a whole it is not known what is in the kernel: no host end is set up that nothing may close. */
  #refuseWhileFailing(): void {
    const { refused } = this.#options.pipeline;
    if (refused !== undefined)
      throw new CniRefusal(
        CNI_TRY_AGAIN_LATER,
        "calico node cannot program the kernel: the pod gets no interface",
        refused,
      );
  }

  /**
   * Upstream's name for the pod's host end unless another pod has it: two pods' names may share the digest, and nobody takes
   * another's interface away. Synchronous up to its reservation in `choosing`.
   */
  #chooseInterface(pod: Key<"Pod">): string {
    for (let attempt = 0; ; attempt++) {
      const name = hostInterfaceName(pod.namespace ?? "", pod.name, attempt);
      if (this.#choosing.has(name)) continue;
      const holder = this.#options.journal.all().find((other) => isWired(other) && other.record.interface === name);
      if (holder !== undefined && !isSamePod(holder.record.pod, pod)) continue;
      this.#choosing.add(name);
      return name;
    }
  }

  /** Upstream's tools know one interface of a pod. */
  #refuseSecondInterface(request: CniRequest, pod: Key<"Pod">): void {
    for (const other of this.#options.journal.all()) {
      const { record } = other;
      if (!isWired(other) || record.containerId !== request.containerId) continue;
      throw new CniRefusal(
        CNI_INVALID_ENVIRONMENT,
        `CNI_IFNAME is ${JSON.stringify(request.interface)}, but pod ${pod.namespace}/${pod.name} has interface ${record.podInterface} already, and can have one only`,
      );
    }
  }

  /** Repeated ADD: the same answer, after making sure that what it says is still true. */
  async #again(attachment: Attachment): Promise<CniResult> {
    if (attachment.closed !== undefined)
      throw new CniRefusal(
        CNI_FAILED,
        `container ${attachment.record.containerId} has lost its interface and needs DEL: ${attachment.closed}`,
      );
    if (!attachment.wired) return resultOf(attachment);
    const { pipeline, wiring } = this.#options;
    if (wiring.check(attachment).length > 0) {
      this.#refuseWhileFailing();
      // The routes to the interface go with it: they are made anew with the new one.
      pipeline.detach(attachment.record.interface);
      wiring.add(attachment);
    }
    pipeline.attach(attachment.record);
    await this.#awaitRules(attachment);
    return resultOf(attachment);
  }

  /** A unicast address of local administration (IEEE 802c): chosen here, so that the record is complete before the kernel is touched. */
  #newMac(): string {
    const bytes = this.#options.random.uuid().replaceAll("-", "");
    return `02${bytes.slice(0, 10)}`.replace(/(..)(?=.)/g, "$1:");
  }

  /** A new container of the same pod takes its place: the older attachments lose their interfaces, and keep only addresses until their DEL. */
  async #supersede({ record }: Attachment): Promise<void> {
    for (const other of this.#options.journal.all()) {
      const isOlder = isSamePod(other.record.pod, record.pod) && other.record.containerId !== record.containerId;
      if (!isOlder || !isWired(other)) continue;
      await this.#close(other, `container ${record.containerId} of the same pod took its place`);
    }
  }

  /** Takes the interface of an attachment away before its DEL. May be repeated; false: it is gone already. Rejects when that cannot be recorded. */
  async #close(attachment: Attachment, why: string): Promise<boolean> {
    const { journal, pipeline, wiring } = this.#options;
    const current = journal.get(attachment.record.containerId, attachment.record.podInterface);
    if (current === undefined || !isWired(current) || current.handle !== attachment.handle) return false;
    pipeline.detach(current.record.interface);
    wiring.remove(current);
    await journal.close(current, why);
    return true;
  }

  /** An address of the pod is recorded for somebody else: the datastore's word counts, so the pod stays closed, and is told. */
  async closeLoser(attachment: Attachment, why: string): Promise<void> {
    const { pod } = attachment.record;
    if (!(await this.#close(attachment, why))) return;
    this.#options.requests.warn(pod, "AddressConflict", `The pod is closed and must be deleted: ${why}`);
  }

  /** The Pod's labels decide its rules; the watch may be a moment late, then it is read once. */
  async #awaitRules({ record }: Attachment): Promise<void> {
    const { pipeline } = this.#options;
    const { pod, interface: name } = record;
    // What is an endpoint and not programmed is refused by the kernel: to read its Pod again changes nothing.
    if (!pipeline.isEndpoint(name) && (await pipeline.readPod(pod)) === undefined) {
      throw new CniRefusal(
        CNI_TRY_AGAIN_LATER,
        `pod ${pod.namespace}/${pod.name} does not exist in the datastore: its policy cannot be known`,
      );
    }
    if (!(await pipeline.settleEndpoint(name)))
      throw new CniRefusal(
        CNI_TRY_AGAIN_LATER,
        `rules of pod ${pod.namespace}/${pod.name} are not in the kernel: the pod stays closed`,
        pipeline.explain(name),
      );
  }

  /** Every step is tried, whatever the one before it met: the reason for which ADD failed is the answer, and what could not be undone is left to DEL. */
  async #undo(attachment: Attachment): Promise<void> {
    const { pipeline, wiring, report } = this.#options;
    const steps = [() => this.#release(attachment)];
    if (attachment.wired)
      steps.unshift(
        async () => pipeline.detach(attachment.record.interface),
        async () => wiring.remove(attachment),
      );
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        if (!isFailure(error)) throw error;
        report("cannot undo a failed ADD: DEL will", {
          container: attachment.record.containerId,
          error: error.message,
        });
      }
    }
  }

  /** Also of one that is being released: its interface may be there still, if it could not be removed before. */
  async takeDown(attachment: Attachment): Promise<void> {
    const { pipeline, wiring, journal } = this.#options;
    const name = attachment.record.interface;
    if (isWired(attachment)) pipeline.detach(name);
    const isOthers =
      this.#choosing.has(name) || journal.all().some((other) => isWired(other) && other.record.interface === name);
    if (isWired(attachment) || !isOthers) wiring.remove(attachment);
    await this.#release(attachment);
  }

  /** In the background the connections of the addresses are forgotten, then the datastore frees them. */
  async #release(attachment: Attachment): Promise<void> {
    this.#options.addresses.release(await this.#options.journal.release(attachment));
  }
}

/** Why the datastore is not what it should be; undefined: nothing is known against it. */
export function datastoreErrorsOf({ datastoreErrors }: Pick<Pipeline, "datastoreErrors">): string | undefined {
  return datastoreErrors.length === 0 ? undefined : datastoreErrors.join("; ");
}

function isSamePod(a: Key<"Pod">, b: Key<"Pod">): boolean {
  return a.name === b.name && a.namespace === b.namespace;
}
