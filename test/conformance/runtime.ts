/** runtime: what a container runtime does for its pods on a bare node: network namespaces, and the installed plugins executed by hand. */
import { readdirSync } from "node:fs";
import { unwrap } from "../../src/lib/result.ts";
import { addrFromInteger, addrToInteger } from "../../src/net/addr.ts";
import { parsePrefix, prefixAddr, prefixFamily, prefixOfAddr } from "../../src/net/prefix.ts";
import type { BareNode } from "./bare-node.ts";
import { execute, type Lab, until } from "./fixture.ts";

export interface Answer {
  readonly exitCode: number;
  readonly answer: Record<string, unknown> & {
    readonly ips?: readonly { address: string; version?: string }[];
    readonly code?: number;
    readonly msg?: string;
    readonly details?: string;
  };
}

export interface CniOptions {
  readonly version?: string;
  readonly config?: object;
  readonly plugin?: string;
  /** Of the pod; default the runtime's. */
  readonly namespace?: string;
  /** Added to CNI_ARGS, `KEY=VALUE;…`. */
  readonly args?: string;
  readonly interface?: string;
}

export class Runtime {
  readonly #lab: Lab;
  readonly #bare: BareNode;
  readonly #namespace: string;
  readonly #made: string[] = [];

  constructor(lab: Lab, bare: BareNode, namespace: string) {
    this.#lab = lab;
    this.#bare = bare;
    this.#namespace = namespace;
  }

  /** Path of a new network namespace. */
  async netns(name: string): Promise<string> {
    const full = `${this.#lab.name}-${name}`;
    await execute(["ip", "netns", "add", full]);
    this.#made.push(full);
    return `/run/netns/${full}`;
  }

  /** A Pod bound to the bare node. */
  pod(name: string, annotations: Record<string, string> = {}, namespace = this.#namespace): object {
    return {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { app: name }, annotations },
      spec: { nodeName: this.#bare.name, containers: [{ name: "main", image: "none" }] },
    };
  }

  async cni(
    command: string,
    container: string,
    path: string,
    podName: string,
    options: CniOptions = {},
  ): Promise<Answer> {
    const config = {
      cniVersion: options.version ?? "1.1.0",
      name: "k8s-pod-network",
      type: "calico",
      daemon_socket: this.#bare.socket,
      ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: "true" },
      ...options.config,
    };
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${options.namespace ?? this.#namespace};K8S_POD_NAME=${podName}${options.args === undefined ? "" : `;${options.args}`}`;
    const { exitCode, stdout } = await execute([`${this.#bare.cniBinDir}/${options.plugin ?? "calico"}`], {
      input: JSON.stringify(config),
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: container,
        CNI_NETNS: path,
        CNI_IFNAME: options.interface ?? "eth0",
        CNI_PATH: this.#bare.cniBinDir,
        CNI_ARGS: args,
      },
    });
    return { exitCode, answer: stdout === "" ? {} : (JSON.parse(stdout) as Answer["answer"]) };
  }

  /** Addresses with prefix length that the datastore records for pods (not for a node's reserve), sorted, once the daemon has no work left. */
  async recordedAddresses(): Promise<string[]> {
    await until(
      "the daemon to have told the datastore everything",
      async () => (await this.#lab.daemon(this.#bare.asNode).catch(() => undefined))?.backlog === 0,
    );
    const blocks = JSON.parse(await this.#lab.must("get", "ipamblocks", "-o", "json")) as {
      items: { spec: { cidr: string; allocations: (number | null)[]; attributes: { handle_id?: string }[] } }[];
    };
    const found = blocks.items.flatMap(({ spec }) =>
      spec.allocations.flatMap((index, ordinal) => {
        const handle = index === null ? undefined : spec.attributes[index]?.handle_id;
        const prefix = unwrap(parsePrefix(spec.cidr));
        const addr = addrFromInteger(prefixFamily(prefix), addrToInteger(prefixAddr(prefix)) + BigInt(ordinal));
        return handle === undefined || handle === "windows-reserved-ipam-handle" ? [] : [prefixOfAddr(addr)];
      }),
    );
    return found.sort();
  }

  /** Number of addresses that the datastore records for pods, once the daemon has no work left. */
  async recorded(): Promise<number> {
    return (await this.recordedAddresses()).length;
  }

  /** Host ends that are up. */
  async hostInterfaces(): Promise<string[]> {
    const { stdout } = await this.#lab.inNode(this.#bare.asNode, "ip", "-o", "link", "show", "up");
    return [...stdout.matchAll(/\d+: (cali[0-9a-f]+)@/g)].map((match) => match[1] ?? "");
  }

  /** Names of the files in the daemon's journal. */
  journal(): string[] {
    return readdirSync(this.#bare.journal).sort();
  }

  /** Removes the network namespaces. */
  async down(): Promise<void> {
    for (const name of this.#made) await execute(["ip", "netns", "del", name]);
  }
}

/** With prefix length. */
export function addressesIn(answer: Answer): string[] {
  return (answer.answer.ips ?? []).map((ip) => ip.address);
}
