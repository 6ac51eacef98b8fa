/**
 * cni-server: answers the CNI plugin over the node's unix socket: ADD, DEL, CHECK, STATUS.
 *
 * It owns the order of things. ADD: address out of the reserve, record on disk, link and routes, rules; only then the answer.
 * DEL: rules and link; then, after the answer, connections, and the datastore. A failed ADD gives everything back. Requests for one
 * container run one after another.
 */
import type { Random } from "../host/random.ts";
import type { Sockets, Connection, Listener } from "../host/sockets.ts";
import {
  CNI_CHECK_FAILED,
  CNI_DECODE_FAILURE,
  CNI_FAILED,
  CNI_INVALID_CONFIG,
  CNI_INVALID_ENVIRONMENT,
  CNI_NOT_AVAILABLE,
  CNI_TRY_AGAIN_LATER,
  CNI_UNKNOWN_CONTAINER,
  MAX_REQUEST_BYTES,
  parseRequest,
  type CniAnswer,
  type CniError,
  type CniRequest,
  type CniResult,
} from "../podnet/protocol.ts";
import { hostInterfaceName } from "../podnet/names.ts";
import type { Key } from "../model/key.ts";
import { prefixOfAddr } from "../net/prefix.ts";
import { assertNever } from "../lib/bug.ts";
import { Turns } from "../lib/turns.ts";
import type { Addresses } from "./addresses.ts";
import { isRefusal } from "./failures.ts";
import type { Attachment, Journal } from "./journal.ts";
import type { Pipeline, Report } from "./pipeline.ts";
import { type PodRequestIndex, type PodRequests, requestsOf } from "./pod-requests.ts";
import type { Wiring } from "./wiring.ts";

export interface CniServerOptions {
  readonly pipeline: Pipeline;
  readonly journal: Journal;
  readonly addresses: Addresses;
  readonly wiring: Wiring;
  readonly requests: PodRequestIndex;
  readonly random: Random;
  readonly report: Report;
}

/** A CNI error on its way to the plugin. */
class Refusal extends Error {
  override readonly name = "Refusal";
  readonly answer: CniError;
  constructor(code: number, msg: string, details?: string) {
    super(msg);
    this.answer = details === undefined ? { code, msg } : { code, msg, details };
  }
}

/** The container runtime's network name in upstream's IPAM handles when the configuration has no `name`. */
const DEFAULT_NETWORK = "k8s-pod-network";
/** How long a repeated ADD waits for the release of what an earlier one of the same container had. */
const SETTLE_MS = 5_000;

export class CniServer {
  readonly #options: CniServerOptions;
  /** Requests for one container, in order of arrival. */
  readonly #turns = new Turns();

  constructor(options: CniServerOptions) {
    this.#options = options;
  }

  listen(sockets: Sockets, path: string): Promise<Listener> {
    return sockets.listen(path, 0o600, (connection) => this.#serve(connection));
  }

  async #serve(connection: Connection): Promise<void> {
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
      return { ok: true, result: await this.#turns.run(request.containerId, () => this.#run(request)) };
    } catch (error) {
      if (error instanceof Refusal) return { ok: false, error: error.answer };
      if (!isRefusal(error)) throw error;
      return { ok: false, error: { code: CNI_FAILED, msg: `${request.command} of container ${request.containerId} failed`, details: error.message } };
    }
  }

  async #run(request: CniRequest): Promise<CniResult | undefined> {
    switch (request.command) {
      case "ADD":
        return this.#add(request);
      case "DEL":
        return this.#del(request);
      case "CHECK":
        return this.#check(request);
      case "STATUS":
        return this.#status();
      default:
        return assertNever(request.command);
    }
  }

  async #status(): Promise<undefined> {
    if (!this.#options.pipeline.inSync) {
      throw new Refusal(CNI_NOT_AVAILABLE, `calico node is not ready: the datastore is ${this.#options.pipeline.status}, rules are not programmed yet`, this.#datastoreErrors());
    }
    const refused = this.#options.pipeline.refused;
    if (refused !== undefined) throw new Refusal(CNI_NOT_AVAILABLE, "calico node cannot program the kernel: new pods would stay closed", refused);
    try {
      await this.#options.journal.probe();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      throw new Refusal(CNI_NOT_AVAILABLE, "calico node cannot record pods: new pods would be refused", error.message);
    }
    return undefined;
  }

  #datastoreErrors(): string | undefined {
    const errors = this.#options.pipeline.datastoreErrors;
    return errors.length === 0 ? undefined : errors.join("; ");
  }

  async #add(request: CniRequest): Promise<CniResult> {
    const { pipeline, journal, addresses, wiring } = this.#options;
    if (!pipeline.inSync) throw new Refusal(CNI_TRY_AGAIN_LATER, `calico node is starting: the datastore is ${pipeline.status}`, this.#datastoreErrors());
    const pod = podOf(request);
    const wired = request.plugin === "calico";
    const known = journal.get(request.containerId, request.interface);
    if (known?.state === "attached") return this.#again(known);
    if (wired) this.#refuseSecondInterface(request, pod);
    // The handle of the addresses is the container's: what an earlier ADD left must be given back before it is used anew.
    if (!(await addresses.settled(request.containerId, SETTLE_MS))) throw new Refusal(CNI_TRY_AGAIN_LATER, `the addresses that container ${request.containerId} had are not released yet: the datastore does not answer`);
    const config = parseNetworkConfig(request.config);
    const requests = await this.#requests(pod);
    const mtuBytes = config.mtuBytes ?? wiring.automaticMtuBytes();
    const taken = await addresses.take({ containerId: request.containerId, network: config.network, pod, families: config.families, requests });
    const attachment: Attachment = {
      record: { containerId: request.containerId, pod, interface: hostInterfaceName(pod.namespace ?? "", pod.name), addresses: taken.addresses, mac: requests.mac ?? this.#newMac(), netns: request.netns, podInterface: request.interface },
      handle: taken.handle,
      assignedAt: taken.assignedAt,
      mtuBytes,
      state: "attached",
      wired,
    };
    try {
      await journal.put(attachment);
    } catch (error) {
      addresses.giveBack(request.containerId, taken);
      throw error;
    }
    try {
      if (!wired) {
        addresses.confirm(attachment);
        return resultOf(attachment);
      }
      await this.#supersede(attachment);
      wiring.add(attachment);
      pipeline.attach(attachment.record);
      await this.#awaitRules(attachment, pod);
      addresses.confirm(attachment);
      return resultOf(attachment);
    } catch (error) {
      await this.#undo(attachment);
      throw error;
    }
  }

  /** The host end's name follows from the pod alone, so a pod has one interface of ours. */
  #refuseSecondInterface(request: CniRequest, pod: Key<"Pod">): void {
    for (const { record, state, wired } of this.#options.journal.all()) {
      if (!wired || state !== "attached" || record.containerId !== request.containerId) continue;
      throw new Refusal(CNI_INVALID_ENVIRONMENT, `CNI_IFNAME is ${JSON.stringify(request.interface)}, but pod ${pod.namespace}/${pod.name} has interface ${record.podInterface} already, and can have one only`);
    }
  }

  /** What the Pod asks for; it is read from the datastore if the watch has not brought it. */
  async #requests(pod: Key<"Pod">): Promise<PodRequests> {
    let found = this.#options.requests.get(pod);
    if (found === undefined) {
      const update = await this.#options.addresses.readPod(pod);
      if (update === undefined) throw new Refusal(CNI_TRY_AGAIN_LATER, `pod ${pod.namespace}/${pod.name} does not exist in the datastore: its policy cannot be known`);
      this.#options.pipeline.learn(update);
      found = requestsOf(pod, update.value?.metadata.annotations ?? {});
    }
    if (!found.ok) throw new Refusal(CNI_INVALID_CONFIG, found.error);
    return found.value;
  }

  /** Repeated ADD: the same answer, after making sure that what it says is still true. */
  async #again(attachment: Attachment): Promise<CniResult> {
    if (attachment.closed !== undefined) throw new Refusal(CNI_FAILED, `container ${attachment.record.containerId} has lost its interface and needs DEL: ${attachment.closed}`);
    if (!attachment.wired) return resultOf(attachment);
    const { pipeline, wiring } = this.#options;
    if (wiring.check(attachment).length > 0) wiring.add(attachment);
    pipeline.attach(attachment.record);
    await this.#awaitRules(attachment, attachment.record.pod);
    return resultOf(attachment);
  }

  /** A unicast address of local administration (IEEE 802c): chosen here, so that the record is complete before the kernel is touched. */
  #newMac(): string {
    const bytes = this.#options.random.uuid().replaceAll("-", "");
    return `02${bytes.slice(0, 10)}`.replace(/(..)(?=.)/g, "$1:");
  }

  /** The same pod under a new container id has the same interface name: the older attachment loses it, and keeps only its addresses until its DEL. */
  async #supersede(attachment: Attachment): Promise<void> {
    for (const other of this.#options.journal.all()) {
      if (other.record.interface !== attachment.record.interface || other.record.containerId === attachment.record.containerId) continue;
      if (other.wired && other.state === "attached") {
        await this.#options.journal.close(other, `container ${attachment.record.containerId} of the same pod took its place`);
        this.#options.pipeline.detach(other.record.interface);
        this.#options.wiring.remove(other);
      }
    }
  }

  /** The Pod's labels decide its rules; the watch may be a moment late, then it is read once. */
  async #awaitRules(attachment: Attachment, pod: Key<"Pod">): Promise<void> {
    const { pipeline, addresses } = this.#options;
    const name = attachment.record.interface;
    if (!pipeline.isProgrammed(name)) {
      const update = await addresses.readPod(pod);
      if (update === undefined) throw new Refusal(CNI_TRY_AGAIN_LATER, `pod ${pod.namespace}/${pod.name} does not exist in the datastore: its policy cannot be known`);
      pipeline.learn(update);
    }
    if (!pipeline.isProgrammed(name)) throw new Refusal(CNI_TRY_AGAIN_LATER, `rules of pod ${pod.namespace}/${pod.name} are not in the kernel: the pod stays closed`, pipeline.explain(name));
  }

  /** Every step is tried, whatever the one before it met: the reason for which ADD failed is the answer, and what could not be undone is left to DEL. */
  async #undo(attachment: Attachment): Promise<void> {
    const { pipeline, wiring, report } = this.#options;
    const steps = [() => this.#release(attachment)];
    if (attachment.wired) steps.unshift(async () => pipeline.detach(attachment.record.interface), async () => wiring.remove(attachment));
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        if (!isRefusal(error)) throw error;
        report("cannot undo a failed ADD: DEL will", { container: attachment.record.containerId, error: error.message });
      }
    }
  }

  async #del(request: CniRequest): Promise<undefined> {
    const { pipeline, journal, wiring, addresses } = this.#options;
    const attachment = journal.get(request.containerId, request.interface);
    if (attachment === undefined) {
      const network = typeof request.config["name"] === "string" ? request.config["name"] : DEFAULT_NETWORK;
      addresses.releaseHandle(request.containerId, `${network}.${request.containerId}`);
      return undefined;
    }
    if (attachment.wired) {
      pipeline.detach(attachment.record.interface);
      wiring.remove(attachment);
    }
    await this.#release(attachment);
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
      throw new Refusal(CNI_UNKNOWN_CONTAINER, `container ${request.containerId} has no interface ${request.interface} of this plugin on this node`);
    }
    if (attachment.closed !== undefined) throw new Refusal(CNI_CHECK_FAILED, `container ${request.containerId} has lost its interface`, attachment.closed);
    if (!attachment.wired) return undefined;
    const differences = wiring.check(attachment);
    if (!pipeline.isProgrammed(attachment.record.interface)) differences.push(pipeline.explain(attachment.record.interface));
    if (differences.length > 0) throw new Refusal(CNI_CHECK_FAILED, `container ${request.containerId} is not as ADD left it`, differences.join("; "));
    return undefined;
  }
}

function podOf(request: CniRequest): Key<"Pod"> {
  const namespace = request.args["K8S_POD_NAMESPACE"];
  const name = request.args["K8S_POD_NAME"];
  if (namespace === undefined || namespace === "" || name === undefined || name === "") {
    throw new Refusal(CNI_INVALID_ENVIRONMENT, "CNI_ARGS must name the pod: K8S_POD_NAMESPACE and K8S_POD_NAME");
  }
  return { kind: "Pod", namespace, name };
}

interface NetworkConfig {
  readonly network: string;
  /** undefined: automatic. */
  readonly mtuBytes: number | undefined;
  readonly families: readonly (4 | 6)[];
}

/** The keys of upstream's network configuration that concern one ADD; a wrong value is refused with its name. */
function parseNetworkConfig(config: Readonly<Record<string, unknown>>): NetworkConfig {
  const refuse = (field: string, value: unknown, wanted: string): never => {
    throw new Refusal(CNI_INVALID_CONFIG, `network configuration field ${field} is ${JSON.stringify(value)}, must be ${wanted}`);
  };
  const network = config["name"] ?? DEFAULT_NETWORK;
  if (typeof network !== "string" || network === "") return refuse("name", network, "a non-empty string");
  const mtu = config["mtu"] ?? 0;
  if (typeof mtu !== "number" || !Number.isInteger(mtu) || (mtu !== 0 && (mtu < 68 || mtu > 65535))) return refuse("mtu", mtu, "0 (automatic) or an integer from 68 to 65535");
  const ipam = config["ipam"] ?? {};
  if (typeof ipam !== "object" || ipam === null || Array.isArray(ipam)) return refuse("ipam", ipam, "an object");
  const { type, assign_ipv4: assign4, assign_ipv6: assign6 }: { type?: unknown; assign_ipv4?: unknown; assign_ipv6?: unknown } = ipam;
  if (type !== undefined && type !== "calico-ipam") return refuse("ipam.type", type, '"calico-ipam"');
  const wants = (field: string, value: unknown, otherwise: boolean): boolean => {
    if (value === undefined) return otherwise;
    const text = String(value).toLowerCase();
    if (text !== "true" && text !== "false") return refuse(field, value, '"true" or "false"');
    return text === "true";
  };
  const families: (4 | 6)[] = [];
  if (wants("ipam.assign_ipv4", assign4, true)) families.push(4);
  if (wants("ipam.assign_ipv6", assign6, false)) families.push(6);
  if (families.length === 0) return refuse("ipam.assign_ipv4", assign4, "true unless ipam.assign_ipv6 is");
  return { network, mtuBytes: mtu === 0 ? undefined : mtu, families };
}

function resultOf(attachment: Attachment): CniResult {
  const { record, mtuBytes } = attachment;
  const ips = record.addresses.map((addr) => (attachment.wired ? { address: prefixOfAddr(addr), interface: 1 } : { address: prefixOfAddr(addr) }));
  const interfaces = attachment.wired
    ? [
        { name: record.interface, mac: "ee:ee:ee:ee:ee:ee", mtu: mtuBytes },
        { name: record.podInterface, mac: record.mac, mtu: mtuBytes, sandbox: record.netns },
      ]
    : [];
  return { interfaces, ips, routes: [], dns: {} };
}
