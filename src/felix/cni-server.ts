/**
 * cni-server: answers the CNI plugin over the node's unix socket: ADD, DEL, CHECK, STATUS, GC.
 *
 * It owns the order of things. ADD: address out of the reserve, record on disk, link and routes, rules; only then the answer.
 * DEL: addresses and link; then, after the answer, connections, and the datastore. A failed ADD gives everything back. Requests for one
 * container run one after another.
 */
import type { Random } from "../host/random.ts";
import type { Sockets, Connection, Listener } from "../host/sockets.ts";
import {
  CNI_CHECK_FAILED,
  CNI_DECODE_FAILURE,
  CNI_FAILED,
  CNI_INVALID_ENVIRONMENT,
  CNI_NOT_AVAILABLE,
  CNI_TRY_AGAIN_LATER,
  CNI_UNKNOWN_CONTAINER,
  MAX_REQUEST_BYTES,
  parseRequest,
  type CniAnswer,
  type CniRequest,
  type CniResult,
  whyNotIdentifier,
  whyNotInterfaceName,
} from "../podnet/protocol.ts";
import { hostInterfaceName } from "../podnet/names.ts";
import type { Key } from "../model/key.ts";
import { assertNever } from "../lib/bug.ts";
import { Turns } from "../lib/turns.ts";
import { type AddRequests, podOf } from "./add-requests.ts";
import type { Addresses, Taken } from "./addresses.ts";
import { CniRefusal } from "./cni-refusal.ts";
import { resultOf } from "./cni-result.ts";
import { isFailure } from "./failures.ts";
import { type Attachment, isWired, type Journal } from "./journal.ts";
import { networkOf, readValidAttachments } from "./network-config.ts";
import type { Report } from "../lib/report.ts";
import type { Pipeline } from "./pipeline.ts";
import type { Wiring } from "./wiring.ts";

export interface CniServerOptions {
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

export class CniServer {
  readonly #options: CniServerOptions;
  /** Requests for one container, in order of arrival. */
  readonly #turns = new Turns();
  /** Names of host ends that ADDs under way have chosen. */
  readonly #choosing = new Set<string>();
  /** Connections whose request is not answered yet. */
  #open = 0;

  constructor(options: CniServerOptions) {
    this.#options = options;
  }

  listen(sockets: Sockets, path: string): Promise<Listener> {
    return sockets.listen(path, 0o600, (connection) => this.#serve(connection));
  }

  async #serve(connection: Connection): Promise<void> {
    this.#open++;
    try {
      await this.#converse(connection);
    } finally {
      this.#open--;
    }
  }

  async #converse(connection: Connection): Promise<void> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of connection.input) {
      text += decoder.decode(chunk, { stream: true });
      if (text.includes("\n") || text.length > MAX_REQUEST_BYTES) break;
    }
    const answer = await this.#answer(text);
    await connection.write(new TextEncoder().encode(`${JSON.stringify(answer)}\n`));
    connection.end();
  }

  async #answer(text: string): Promise<CniAnswer> {
    const refuse = (msg: string): CniAnswer => ({ ok: false, error: { code: CNI_DECODE_FAILURE, msg } });
    if (text.length > MAX_REQUEST_BYTES) return refuse(`request is longer than ${MAX_REQUEST_BYTES} bytes`);
    const parsed = parseRequest(text);
    if ("error" in parsed) return refuse(parsed.error);
    const { request } = parsed;
    try {
      return { ok: true, result: await this.#run(request) };
    } catch (error) {
      if (error instanceof CniRefusal) return { ok: false, error: error.answer };
      if (!isFailure(error)) throw error;
      return {
        ok: false,
        error: {
          code: CNI_FAILED,
          msg: `${request.command} of container ${request.containerId} failed`,
          details: error.message,
        },
      };
    }
  }

  async #run(request: CniRequest): Promise<CniResult | undefined> {
    switch (request.command) {
      case "ADD":
        return this.#inTurn(request, () => this.#add(request));
      case "DEL":
        return this.#inTurn(request, () => this.#del(request));
      case "CHECK":
        return this.#inTurn(request, () => this.#check(request));
      case "STATUS":
        return this.#status();
      case "GC":
        return this.#gc(request);
      default:
        return assertNever(request.command);
    }
  }

  #inTurn<T>({ containerId, interface: podInterface }: CniRequest, work: () => Promise<T>): Promise<T> {
    const refuse = (field: string, value: string, wanted: string | undefined): void => {
      if (wanted !== undefined)
        throw new CniRefusal(CNI_INVALID_ENVIRONMENT, `${field} is ${JSON.stringify(value)}, must be ${wanted}`);
    };
    refuse("container id", containerId, whyNotIdentifier(containerId));
    refuse("interface name", podInterface, whyNotInterfaceName(podInterface));
    return this.#turns.run(containerId, work);
  }

  async #status(): Promise<undefined> {
    if (!this.#options.pipeline.inSync) {
      throw new CniRefusal(
        CNI_NOT_AVAILABLE,
        `calico node is not ready: the datastore is ${this.#options.pipeline.status}, rules are not programmed yet`,
        this.#datastoreErrors(),
      );
    }
    const refused = this.#options.pipeline.refused;
    if (refused !== undefined)
      throw new CniRefusal(
        CNI_NOT_AVAILABLE,
        "calico node cannot program the kernel: new pods would stay closed",
        refused,
      );
    try {
      await this.#options.journal.probe();
    } catch (error) {
      if (!isFailure(error)) throw error;
      throw new CniRefusal(
        CNI_NOT_AVAILABLE,
        "calico node cannot record pods: new pods would be refused",
        error.message,
      );
    }
    return undefined;
  }

  #datastoreErrors(): string | undefined {
    const errors = this.#options.pipeline.datastoreErrors;
    return errors.length === 0 ? undefined : errors.join("; ");
  }

  async #add(request: CniRequest): Promise<CniResult> {
    const { pipeline, journal, addresses, wiring } = this.#options;
    if (!pipeline.inSync)
      throw new CniRefusal(
        CNI_TRY_AGAIN_LATER,
        `calico node starts no pod now: the datastore is ${pipeline.status}`,
        this.#datastoreErrors(),
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
      return await this.#attach(attachment, taken);
    } finally {
      this.#choosing.delete(hostInterface);
    }
  }

  async #attach(attachment: Attachment, taken: Taken): Promise<CniResult> {
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
        if (this.#open === 1) pipeline.attach(attachment.record);
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

  async #del(request: CniRequest): Promise<undefined> {
    const { journal, addresses } = this.#options;
    const network = networkOf(request.config);
    const attachment = journal.get(request.containerId, request.interface);
    if (attachment === undefined) addresses.releaseHandle(request.containerId, `${network}.${request.containerId}`);
    else await this.#takeDown(attachment);
    return undefined;
  }

  /** Also of one that is being released: its interface may be there still, if it could not be removed before. */
  async #takeDown(attachment: Attachment): Promise<void> {
    const { pipeline, wiring, journal } = this.#options;
    const name = attachment.record.interface;
    if (isWired(attachment)) pipeline.detach(name);
    const isOthers =
      this.#choosing.has(name) || journal.all().some((other) => isWired(other) && other.record.interface === name);
    if (isWired(attachment) || !isOthers) wiring.remove(attachment);
    await this.#release(attachment);
  }

  /** Takes down what the runtime does not know of the network: it goes on over failures, and answers them at the end. */
  async #gc(request: CniRequest): Promise<undefined> {
    const { journal } = this.#options;
    const network = networkOf(request.config);
    const valid = readValidAttachments(request.config);
    const failures: string[] = [];
    for (const { record, handle } of journal.all()) {
      const { containerId, podInterface } = record;
      const isValid = valid.some((kept) => kept.containerId === containerId && kept.interface === podInterface);
      if (isValid || handle !== `${network}.${containerId}`) continue;
      try {
        await this.#turns.run(containerId, async () => {
          const attachment = journal.get(containerId, podInterface);
          if (attachment?.state === "attached") await this.#takeDown(attachment);
        });
      } catch (error) {
        if (!isFailure(error)) throw error;
        failures.push(`container ${containerId}: ${error.message}`);
      }
    }
    if (failures.length > 0)
      throw new CniRefusal(
        CNI_FAILED,
        `GC of network ${network} could not take down ${failures.length} attachments`,
        failures.join("; "),
      );
    return undefined;
  }

  /** In the background the connections of the addresses are forgotten, then the datastore frees them. */
  async #release(attachment: Attachment): Promise<void> {
    this.#options.addresses.release(await this.#options.journal.release(attachment));
  }

  async #check(request: CniRequest): Promise<undefined> {
    const { pipeline, journal, wiring } = this.#options;
    const attachment = journal.get(request.containerId, request.interface);
    if (attachment === undefined || attachment.state !== "attached") {
      throw new CniRefusal(
        CNI_UNKNOWN_CONTAINER,
        `container ${request.containerId} has no interface ${request.interface} of this plugin on this node`,
      );
    }
    if (attachment.closed !== undefined)
      throw new CniRefusal(
        CNI_CHECK_FAILED,
        `container ${request.containerId} has lost its interface`,
        attachment.closed,
      );
    if (!attachment.wired) return undefined;
    const differences = wiring.check(attachment);
    if (!pipeline.isProgrammed(attachment.record.interface))
      differences.push(pipeline.explain(attachment.record.interface));
    if (differences.length > 0)
      throw new CniRefusal(
        CNI_CHECK_FAILED,
        `container ${request.containerId} is not as ADD left it`,
        differences.join("; "),
      );
    return undefined;
  }
}

function isSamePod(a: Key<"Pod">, b: Key<"Pod">): boolean {
  return a.name === b.name && a.namespace === b.namespace;
}
