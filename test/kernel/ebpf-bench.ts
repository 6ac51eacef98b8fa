/**
 * ebpf-bench: a node on the eBPF path, others beyond its interfaces, whose kernels say nothing of their own, and raw packets between them. A packet is known
 * by its marker, the last four bytes.
 */
import { finishSteps } from "../../src/dataplane/driver.ts";
import type { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import type { Program } from "../../src/program/program.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { openEbpf } from "./ebpf-driver.ts";
import { packetsDropped } from "./ebpf-drops.ts";
import { makeNamespace, type Namespace, removeNamespace } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, routePod } from "./pods.ts";
import { Port } from "./wire.ts";

/** An interface of the node, and the addresses that are routed there. */
export interface Beyond {
  readonly interface: string;
  readonly addresses: readonly string[];
}

const FIRST_MARKER = 0xca15_0000;

export class EbpfBench {
  readonly node: Namespace;
  /** In the order of the interfaces. */
  readonly others: readonly Namespace[];
  readonly ports: readonly Port[];
  readonly fs: BpfFs;
  /** It has read. */
  driver: EbpfDriver;
  #marker = FIRST_MARKER;

  /** `prepare` is run on the node before the driver reads. */
  constructor(beyond: readonly Beyond[], prepare: (node: Namespace) => void = () => {}) {
    this.fs = makeBpfFs();
    this.node = makeNamespace("node");
    makeRouter(this.node);
    this.others = beyond.map((each) => this.#connect(each));
    this.ports = this.others.map((other) => new Port(other, "eth0", HOST_MAC));
    prepare(this.node);
    this.driver = openEbpf(this.node, this.fs.path);
  }

  #connect({ interface: name, addresses }: Beyond): Namespace {
    const other = makeNamespace(name);
    connect(this.node, name, other);
    for (const addr of addresses) routePod(this.node, name, addr);
    other.run(
      ["nft", "-f", "-"],
      "table inet silence { chain o { type filter hook output priority 0; policy drop; }; }",
    );
    return other;
  }

  close(): void {
    this.driver.close();
    for (const port of this.ports) port.close();
    for (const namespace of [this.node, ...this.others]) removeNamespace(namespace);
    this.fs.remove();
  }

  /** By place in the list of interfaces. */
  port(i: number): Port {
    const port = this.ports[i];
    if (port === undefined) throw new Error(`no port ${i}`);
    return port;
  }

  nextMarker(): number {
    return this.#marker++;
  }

  /** It has been given out. */
  isMarker(marker: number): boolean {
    return marker >= FIRST_MARKER && marker < this.#marker;
  }

  lower(program: Program): void {
    this.driver.lower(program, { ...program, members: new Map() });
  }

  commit(program: Program): void {
    this.lower(program);
    finishSteps(this.driver.committing());
  }

  forgetFlows(): void {
    const { connections } = this.driver.maps;
    connections.deleteAll(connections.entries().map(({ key }) => key));
  }

  /** Sends the packet that ends with the marker: whether it arrives; what does not has been dropped by the path, and counted. */
  async passes(from: number, to: number, encode: (marker: number) => Uint8Array): Promise<boolean> {
    const [marker, before] = [this.nextMarker(), packetsDropped(this.driver)];
    this.port(from).sendBody(encode(marker));
    for (const end = performance.now() + 5000; ;) {
      if (this.port(to).markers().includes(marker)) return true;
      if (packetsDropped(this.driver) > before) return false;
      if (performance.now() > end) throw new Error("the packet has neither arrived nor been dropped");
      await Bun.sleep(0);
    }
  }
}
