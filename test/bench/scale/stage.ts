/**
 * stage: where a run of the scale bench happens: network namespaces, a directory in memory and a cgroup, all under one name.
 *
 * A file for each stage says whose it is. What a run leaves that was killed is removed by the next one: it belongs to no process that lives.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { killCgroup } from "../../../lab/cluster/cgroup.ts";
import { netnsPath } from "../../../lab/cluster/layout.ts";
import { run, tryRun } from "../../../lab/cluster/run.ts";
import { unmountBelow } from "../../conformance/fixture.ts";
import { describeProcess } from "../../processes.ts";

const OWNERS = "/run/calico-bench-scale";
const MEMORY = "/dev/shm";
export const WORLD_ADDRESS = "172.30.0.1";
export const NODE_ADDRESS = "172.30.0.2";

export class Stage {
  readonly id: string;

  constructor(id: string) {
    this.id = id;
  }

  /** Name of a network namespace. */
  name(purpose: string): string {
    return `${this.id}-${purpose}`;
  }

  netns(purpose: string): string {
    return netnsPath(this.name(purpose));
  }

  get directory(): string {
    return `${MEMORY}/${this.id}`;
  }

  get cgroup(): string {
    return this.id;
  }

  /** Network namespaces, with their loopback up. */
  addNamespaces(purposes: readonly string[]): void {
    run(["ip", "-batch", "-"], purposes.map((purpose) => `netns add ${this.name(purpose)}\n`).join(""));
    for (const purpose of purposes)
      if (!/^[pq]\d/.test(purpose)) run(["ip", "-n", this.name(purpose), "link", "set", "lo", "up"]);
  }

  /** A veth pair between two of them; the addresses have their lengths. */
  connect(
    one: string,
    oneLink: string,
    oneAddress: string,
    other: string,
    otherLink: string,
    otherAddress: string,
  ): void {
    const [a, b] = [this.name(one), this.name(other)];
    run(["ip", "-n", a, "link", "add", oneLink, "type", "veth", "peer", "name", otherLink, "netns", b]);
    for (const [netns, link, address] of [
      [a, oneLink, oneAddress],
      [b, otherLink, otherAddress],
    ] as const)
      run(["ip", "-n", netns, "-batch", "-"], `addr add ${address} dev ${link}\nlink set ${link} up\n`);
  }

  in(purpose: string, ...command: readonly string[]): string {
    return run(["nsenter", `--net=${this.netns(purpose)}`, "--", ...command]);
  }
}

/** A new one, with the node's network namespace and that of the rest of the world. */
export function makeStage(): Stage {
  const stage = new Stage(`scale${process.pid}-${randomBytes(2).toString("hex")}`);
  mkdirSync(OWNERS, { recursive: true });
  writeFileSync(`${OWNERS}/${stage.id}`, describeProcess(process.pid) ?? "");
  mkdirSync(stage.directory);
  stage.addNamespaces(["node", "world"]);
  stage.connect("world", "eth0", `${WORLD_ADDRESS}/16`, "node", "eth0", `${NODE_ADDRESS}/16`);
  return stage;
}

/** Its processes first, and whatever of it is there. */
export async function removeStage(id: string): Promise<void> {
  const stage = new Stage(id);
  await killCgroup(stage.cgroup);
  const left = (existsSync("/run/netns") ? readdirSync("/run/netns") : []).filter((name) => name.startsWith(`${id}-`));
  tryRun(["ip", "-force", "-batch", "-"], left.map((name) => `netns del ${name}\n`).join(""));
  await unmountBelow(stage.directory);
  rmSync(stage.directory, { recursive: true, force: true });
  rmSync(`${OWNERS}/${id}`, { force: true });
}

export async function removeAbandoned(): Promise<void> {
  for (const id of existsSync(OWNERS) ? readdirSync(OWNERS) : []) {
    const owner = readOwner(id);
    // Empty: written, or removed by another run, at this moment.
    if (owner === "" || describeProcess(Number.parseInt(owner, 10)) === owner) continue;
    console.error(`removing what a run that was killed left: ${id}`);
    await removeStage(id);
  }
}

function readOwner(id: string): string {
  try {
    return readFileSync(`${OWNERS}/${id}`, "utf8");
  } catch {
    return "";
  }
}
