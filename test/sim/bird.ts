/**
 * Birds: BIRD on every machine, as far as the product's configuration uses it: it reads the file when told, announces its static routes to the
 * neighbours that it has and that have it, and writes what it learns from them into its kernel.
 */
import { RouteClient, type KernelRoute, MAIN_TABLE, SCOPE_UNIVERSE } from "../../src/kernel/route/client.ts";
import { KernelError } from "../../src/kernel/errno.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { parsePrefix, type Prefix, prefixContains, prefixAddr, prefixFamily } from "../../src/net/prefix.ts";
import { type SimNode, UPLINK } from "./machine.ts";
import type { World } from "./world.ts";

/** RTPROT_BIRD, and the metric of the product's configuration. */
export const PROTOCOL = 12;
const METRIC = 2048;
/** News take so long. */
const SPREAD_MS = 500;

interface Config {
  readonly neighbors: readonly string[];
  readonly announced: readonly Prefix[];
  readonly refused: readonly Prefix[];
  readonly accepted: readonly Prefix[];
}

export class Birds {
  readonly #world: World;
  readonly #configs = new Map<SimNode, Config>();

  constructor(world: World) {
    this.#world = world;
  }

  /** With the machine: it reads what the disk has, and then listens. */
  start(node: SimNode): void {
    this.#read(node);
    node.sockets.listen(node.paths.birdSocket, async (connection) => {
      const write = (text: string): Promise<void> => connection.write(new TextEncoder().encode(text));
      try {
        await write("0001 BIRD 2.0.12 ready.\n");
        for await (const chunk of connection.input) {
          const command = new TextDecoder().decode(chunk).trim();
          if (command !== "configure") return await write("9001 syntax error\n");
          this.#read(node);
          await write("0002-Reading configuration from bird.conf\n0003 Reconfigured\n");
        }
      } catch {
        // Whoever asked is gone.
      }
    });
  }

  #read(node: SimNode): void {
    const text = node.disk.read(node.paths.birdConfiguration);
    if (text === undefined) this.#configs.delete(node);
    else this.#configs.set(node, parse(text));
    this.#world.note(`${node.name} BIRD reads its configuration`);
    void this.#world.clock.sleep(SPREAD_MS).then(() => this.#spread());
  }

  /** What each machine learns. */
  #spread(): void {
    for (const node of this.#world.nodes) {
      const config = this.#configs.get(node);
      const wanted = config === undefined ? [] : this.#world.nodes.flatMap((peer) => this.#learned(node, config, peer));
      try {
        this.#install(node, wanted);
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        // It scans its tables again.
        void this.#world.clock.sleep(SPREAD_MS * 4).then(() => this.#spread());
      }
    }
  }

  #learned(node: SimNode, config: Config, peer: SimNode): KernelRoute[] {
    const theirs = this.#configs.get(peer);
    if (peer === node || theirs === undefined) return [];
    return theirs.announced.flatMap((destination): KernelRoute[] => {
      const at = prefixFamily(destination) === 4 ? 0 : 1;
      const isUp = config.neighbors.includes(peer.addresses[at]) && theirs.neighbors.includes(node.addresses[at]);
      const isOurs = config.refused.some((own) => prefixContains(destination, prefixAddr(own)));
      const isWanted = config.accepted.some((pool) => prefixContains(pool, prefixAddr(destination)));
      if (!isUp || isOurs || !isWanted) return [];
      return [
        {
          destination,
          table: MAIN_TABLE,
          protocol: PROTOCOL,
          type: "unicast",
          scope: SCOPE_UNIVERSE,
          gateway: unwrap(parseAddr(peer.addresses[at])),
          metric: METRIC,
        },
      ];
    });
  }

  #install(node: SimNode, wanted: readonly KernelRoute[]): void {
    const process = node.kernel.startProcess("bird");
    try {
      const client = new RouteClient(process.sys);
      const interfaceIndex = client.linkByName(UPLINK)?.index ?? 0;
      const name = (route: KernelRoute): string => `${route.destination} via ${route.gateway}`;
      const have = client.routes({ table: MAIN_TABLE }).filter(({ protocol }) => protocol === PROTOCOL);
      for (const route of have) if (!wanted.some((one) => name(one) === name(route))) client.deleteRoute(route);
      for (const route of wanted)
        if (!have.some((one) => name(one) === name(route))) client.replaceRoute({ ...route, interfaceIndex });
    } finally {
      process.end();
    }
  }
}

function parse(text: string): Config {
  const prefixes = (pattern: RegExp): Prefix[] =>
    [...text.matchAll(pattern)].map(([, prefix = ""]) => unwrap(parsePrefix(prefix)));
  const lists = (verdict: "accept" | "reject"): Prefix[] =>
    [...text.matchAll(new RegExp(`if net ~ \\[ (.*) \\] then ${verdict};`, "g"))].flatMap(([, list = ""]) =>
      list.split(", ").map((entry) => unwrap(parsePrefix(entry.replace(/[+-]$/, "")))),
    );
  return {
    neighbors: [...text.matchAll(/^ {2}neighbor (\S+) as/gm)].map(([, addr = ""]) => addr),
    announced: prefixes(/^ {2}route (\S+) blackhole;/gm),
    refused: lists("reject"),
    accepted: lists("accept"),
  };
}
