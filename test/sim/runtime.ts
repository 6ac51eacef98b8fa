/**
 * Runtime: kubelet and container runtime of one machine: they make a sandbox for each pod, ask the daemon over its CNI socket as the plugin does,
 * report the addresses, and take down what is deleted. They try again, as the real ones do, with a new sandbox after each failure.
 */
import type { CniAnswer, CniCommand, CniRequest, CniResult } from "../../src/podnet/protocol.ts";
import { SocketError } from "../../src/host/sockets.ts";
import { StoreError } from "../../src/datastore/store.ts";
import { hostInterfaceName } from "../../src/podnet/names.ts";
import { unwrap } from "../../src/lib/result.ts";
import type { Key } from "../../src/model/key.ts";
import { parseAddr } from "../../src/net/addr.ts";
import type { SimNode } from "./machine.ts";
import { whyNotProgrammed } from "./safety.ts";
import type { World } from "./world.ts";

export const NETWORK = "k8s-pod-network";
/** A kubelet gives the runtime so long for a sandbox. */
const REQUEST_MS = 240_000;
const RETRY_MS = 1_000;
/** Of that, while sandboxes fail. */
const MOST_DOUBLINGS = 3;

export interface Sandbox {
  readonly containerId: string;
  readonly netns: string;
  readonly pod: Key<"Pod">;
  readonly boot: number;
  /** Answered and not asked to go: its addresses are in use. */
  addresses: readonly string[] | undefined;
}

class PodState {
  readonly key: Key<"Pod">;
  readonly uid: string;
  sandbox: Sandbox | undefined;
  /** Called when one of the two changes, or the machine loses power. */
  wake: () => void = () => {};
  #leaving = false;
  #renewed = false;

  constructor(key: Key<"Pod">, uid: string) {
    this.key = key;
    this.uid = uid;
  }

  /** Deleted: taken down, then forgotten. */
  get leaving(): boolean {
    return this.#leaving;
  }

  /** A new sandbox is wanted in place of the one there is. */
  get renewed(): boolean {
    return this.#renewed;
  }

  leave(): void {
    this.#leaving = true;
    this.wake();
  }

  renew(isWanted: boolean): void {
    this.#renewed = isWanted;
    this.wake();
  }
}

export class Runtime {
  readonly node: SimNode;
  readonly pods = new Map<string, PodState>();
  /** Sandboxes whose DEL nobody will send; GC takes them. */
  readonly forgotten = new Set<Sandbox>();
  readonly #world: World;
  #containers = 0;

  constructor(world: World, node: SimNode) {
    this.#world = world;
    this.node = node;
  }

  get busy(): boolean {
    return [...this.pods.values()].some(
      ({ leaving, renewed, sandbox }) => leaving || renewed || sandbox?.addresses === undefined,
    );
  }

  /** Those whose addresses are in use. */
  live(): readonly Sandbox[] {
    return [...this.pods.values()].flatMap(({ sandbox }) =>
      sandbox?.addresses !== undefined && sandbox.boot === this.node.boot ? [sandbox] : [],
    );
  }

  start(key: Key<"Pod">, uid: string): void {
    const pod = new PodState(key, uid);
    this.pods.set(key.name, pod);
    void this.#run(pod);
  }

  /** The machine lost power: every sandbox is gone, and made anew. */
  rebooted(): void {
    this.forgotten.clear();
    for (const pod of this.pods.values()) {
      pod.sandbox = undefined;
      pod.wake();
    }
    for (const pod of this.pods.values()) void this.#run(pod);
  }

  async #run(pod: PodState): Promise<void> {
    const { boot } = this.node;
    const { clock } = this.#world;
    const isCurrent = (): boolean => this.node.boot === boot && !this.#world.ended;
    let failures = 0;
    while (isCurrent() && !pod.leaving) {
      pod.renew(false);
      if (!(await this.#setUp(pod))) {
        await clock.sleep(1 + this.#world.network.below(RETRY_MS * 2 ** Math.min(failures++, MOST_DOUBLINGS)));
        continue;
      }
      failures = 0;
      while (isCurrent() && !pod.leaving && !pod.renewed) await new Promise<void>((resolve) => (pod.wake = resolve));
      if (isCurrent() && pod.renewed && !pod.leaving) await this.#replace(pod);
    }
    if (!isCurrent()) return;
    if (pod.sandbox !== undefined) await this.#takeDown(pod.sandbox);
    if (!isCurrent()) return;
    await this.#forget(pod);
  }

  /** A container runtime that has lost its memory knows nothing of the old sandbox; another takes it down first. */
  async #replace({ sandbox }: PodState): Promise<void> {
    if (sandbox === undefined) return;
    if (this.#world.choices.chance(50)) return this.#takeDown(sandbox);
    this.#world.say(`${this.node.name} sandbox ${sandbox.containerId} is forgotten`);
    sandbox.addresses = undefined;
    this.forgotten.add(sandbox);
  }

  /** ADD once more for what is there: the same answer, or none. */
  async askAgain(): Promise<void> {
    const [sandbox] = this.live();
    if (sandbox === undefined) return;
    const { addresses } = sandbox;
    const answer = await this.#ask("ADD", sandbox, "");
    this.#world.say(
      `${this.node.name} ADD ${sandbox.containerId} again: ${answer?.ok === true ? "the same" : "refused"}`,
    );
    if (answer?.ok !== true || sandbox.addresses === undefined || sandbox.boot !== this.node.boot) return;
    const again = addressesOf(answer.result);
    if (JSON.stringify(again) !== JSON.stringify(addresses))
      this.#world.violate(
        `ADD of ${sandbox.containerId} answers ${again.join(" ")}, and before ${addresses?.join(" ")}`,
      );
  }

  async #forget({ key, uid }: PodState): Promise<void> {
    try {
      await this.#world.store.delete(key, { uid });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
    this.pods.delete(key.name);
    this.#world.say(`${this.node.name} pod ${key.name} is gone`);
  }

  /** True when the pod is on the network. What failed is taken down. */
  async #setUp(pod: PodState): Promise<boolean> {
    const world = this.#world;
    const { node } = this;
    const containerId = `${pod.key.name}-${++this.#containers}-${node.boot}`;
    const netns = `/var/run/netns/${containerId}`;
    node.kernel.addNamespace(netns);
    const sandbox: Sandbox = { containerId, netns, pod: pod.key, boot: node.boot, addresses: undefined };
    pod.sandbox = sandbox;
    const begin = world.clock.monotonicMs();
    // A runtime that gave up waiting asks again while the first request is still under way.
    const twice = world.choices.chance(10) ? this.#ask("ADD", sandbox, pod.uid) : undefined;
    const answer = await this.#ask("ADD", sandbox, pod.uid);
    await this.#compare(sandbox, answer, twice);
    if (node.boot !== sandbox.boot) return false;
    const result = answer?.ok === true ? answer.result : undefined;
    world.say(
      `${node.name} ADD ${containerId}: ${answer === undefined ? "no answer" : answer.ok ? addressesOf(result).join(" ") : `${answer.error.code} ${answer.error.msg}: ${answer.error.details ?? ""}`}`,
    );
    world.answered(pod.key, answer, world.clock.monotonicMs() - begin);
    if (result === undefined) {
      await this.#takeDown(sandbox);
      if (pod.sandbox === sandbox) pod.sandbox = undefined;
      return false;
    }
    sandbox.addresses = addressesOf(result);
    world.checkAddresses();
    const missing = whyNotProgrammed(
      node.kernel,
      hostInterfaceName(pod.key.namespace ?? "", pod.key.name),
      sandbox.addresses,
    );
    if (missing !== undefined) world.violate(`ADD of ${containerId} on ${node.name} was answered although ${missing}`);
    this.#connect(sandbox);
    await this.#report(pod, sandbox.addresses);
    return true;
  }

  /** Both answers of two requests at once say the same. */
  async #compare(
    { containerId }: Sandbox,
    answer: CniAnswer | undefined,
    other: Promise<CniAnswer | undefined> | undefined,
  ): Promise<void> {
    const before = await other;
    if (before?.ok !== true || answer?.ok !== true) return;
    const [one, two] = [addressesOf(before.result), addressesOf(answer.result)];
    if (JSON.stringify(one) !== JSON.stringify(two))
      this.#world.violate(`two ADDs of ${containerId} at once are answered with ${one.join(" ")} and ${two.join(" ")}`);
  }

  /** The pod talks to somebody. What an earlier holder of its addresses said must be forgotten by then: replies would reach the wrong pod. */
  #connect({ addresses, containerId }: Sandbox): void {
    const { conntrack } = this.node.kernel.root;
    for (const text of addresses ?? []) {
      const addr = unwrap(parseAddr(text));
      const old = [...conntrack.flows.values()].some(({ source }) => source === addr);
      if (old) this.#world.violate(`connections of an earlier holder of ${addr} are left when ${containerId} gets it`);
      conntrack.add(addr, unwrap(parseAddr(text.includes(":") ? "2001:db8::7" : "198.51.100.7")));
    }
  }

  /** The kubelet tells the addresses in the Pod's status. */
  async #report({ key, uid }: PodState, addresses: readonly string[]): Promise<void> {
    const { store } = this.#world;
    for (let attempt = 0; attempt < 20; attempt++) {
      const pod = await store.get(key);
      if (pod === undefined || pod.metadata.uid !== uid) return;
      const podIPs = addresses.map((ip) => ({ ip }));
      try {
        await store.update("Pod", {
          ...pod,
          status: { phase: "Running", podIP: addresses[0] ?? "", podIPs },
        });
        return;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
      }
    }
  }

  /** DEL until it succeeds, then the namespace goes. */
  async #takeDown(sandbox: Sandbox): Promise<void> {
    const { node } = this;
    const world = this.#world;
    sandbox.addresses = undefined;
    if (world.forgetsDel()) {
      world.say(`${node.name} DEL ${sandbox.containerId} is never sent`);
      this.forgotten.add(sandbox);
      node.kernel.removeNamespace(sandbox.netns);
      return;
    }
    while (node.boot === sandbox.boot && !world.ended) {
      const answer = await this.#ask("DEL", sandbox, "");
      world.say(
        `${node.name} DEL ${sandbox.containerId}: ${answer === undefined ? "no answer" : answer.ok ? "done" : `${answer.error.msg}: ${answer.error.details ?? ""}`}`,
      );
      if (answer?.ok === true) {
        world.mustRelease(node, `${NETWORK}.${sandbox.containerId}`);
        break;
      }
      await world.clock.sleep(RETRY_MS);
    }
    if (node.boot === sandbox.boot) node.kernel.removeNamespace(sandbox.netns);
  }

  /** Everything that is not valid goes. */
  async collect(): Promise<boolean> {
    const valid = [...this.pods.values()].flatMap(({ sandbox }) =>
      sandbox === undefined ? [] : [{ containerID: sandbox.containerId, ifname: "eth0" }],
    );
    const answer = await this.#request("GC", "", "", {}, { "cni.dev/valid-attachments": valid });
    this.#world.say(`${this.node.name} GC: ${answer?.ok === true ? "done" : JSON.stringify(answer)}`);
    if (answer?.ok === true) this.forgotten.clear();
    return answer?.ok === true;
  }

  /** CHECK of one sandbox; undefined when there was no answer. */
  check(sandbox: Sandbox): Promise<CniAnswer | undefined> {
    return this.#ask("CHECK", sandbox, "");
  }

  #ask(command: CniCommand, { containerId, netns, pod }: Sandbox, uid: string): Promise<CniAnswer | undefined> {
    const args = {
      IgnoreUnknown: "1",
      K8S_POD_NAMESPACE: pod.namespace ?? "",
      K8S_POD_NAME: pod.name,
      K8S_POD_INFRA_CONTAINER_ID: containerId,
      ...(uid === "" ? {} : { K8S_POD_UID: uid }),
    };
    return this.#request(command, containerId, netns, args, {});
  }

  /** undefined: nobody listened, or the connection broke, or the time was over. */
  async #request(
    command: CniCommand,
    containerId: string,
    netns: string,
    args: Readonly<Record<string, string>>,
    more: Readonly<Record<string, unknown>>,
  ): Promise<CniAnswer | undefined> {
    const config = {
      cniVersion: "1.0.0",
      name: NETWORK,
      type: "calico",
      ipam: { type: "calico-ipam", assign_ipv6: "true" },
    };
    const request: CniRequest = {
      command,
      plugin: "calico",
      containerId,
      netns,
      interface: "eth0",
      args,
      config: { ...config, ...more },
    };
    const late = this.#world.clock.sleep(REQUEST_MS).then(() => undefined);
    return Promise.race([this.#converse(JSON.stringify(request)), late]);
  }

  async #converse(line: string): Promise<CniAnswer | undefined> {
    try {
      const connection = this.node.sockets.connect(this.node.paths.cniSocket);
      await connection.write(new TextEncoder().encode(`${line}\n`));
      let text = "";
      for await (const chunk of connection.input) text += new TextDecoder().decode(chunk);
      return text.endsWith("\n") ? (JSON.parse(text) as CniAnswer) : undefined;
    } catch (error) {
      if (error instanceof SocketError) return undefined;
      throw error;
    }
  }
}

function addressesOf(result: CniResult | undefined): string[] {
  return (result?.ips ?? []).map(({ address }) => address.slice(0, address.lastIndexOf("/")));
}
