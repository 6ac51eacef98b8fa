/**
 * SimNode: one machine of the cluster: its kernel, disk and sockets, and the daemon on it, which a supervisor starts again when it ends.
 */
import { EBUSY, ENOBUFS } from "../../src/kernel/errno.ts";
import type { FakeRequest } from "../../src/kernel/fake/faults.ts";
import { FakeKernel } from "../../src/kernel/fake/kernel.ts";
import { openNamespace } from "../../src/kernel/netns.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { SimDisk } from "../../src/host/sim/files.ts";
import { openSimHost } from "../../src/host/sim/host.ts";
import { SimProcess, Stopped } from "../../src/host/sim/process.ts";
import { SimRandom } from "../../src/host/sim/random.ts";
import { SimSockets } from "../../src/host/sim/sockets.ts";
import { SocketError } from "../../src/host/sockets.ts";
import { isFailure } from "../../src/felix/failures.ts";
import { runNode } from "../../src/felix/node.ts";
import { nodePaths } from "../../src/felix/paths.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { type Refused, refuses } from "./culprits.ts";
import { openSimStore } from "./store.ts";
import type { World } from "./world.ts";

export const ROOT = "/node";
export const UPLINK = "eth0";
const SUPERVISOR_MOST_MS = 1_500;
const AUDIT_MS = 30_000;
const ENOMEM = 12;

export class SimNode {
  readonly name: string;
  readonly addresses: readonly [string, string];
  readonly disk = new SimDisk();
  readonly paths = nodePaths(ROOT);
  readonly #world: World;
  readonly #random: SimRandom;
  sockets = new SimSockets();
  kernel: FakeKernel;
  /** Counts boots: what began in an earlier one is of no meaning. */
  boot = 0;
  /** Ends the daemon before its operation of that number. */
  killAt: number | undefined;
  operations = 0;
  /** When somebody else changed our table, until it is closed again; undefined: nobody has. */
  tamperedAtMs: number | undefined;
  /** What its kernel refuses of somebody; undefined: nothing. */
  refused: Refused | undefined;
  /** How many requests of a hundred its kernel refuses, of whomever. */
  #refusesPercent = 0;
  /** Since when its daemon is in sync; Infinity while it is not. */
  inSyncSinceMs = Infinity;
  #daemon: SimProcess | undefined;
  #termination = new AbortController();

  constructor(world: World, ordinal: number) {
    this.#world = world;
    this.name = `n${ordinal}`;
    this.addresses = [`192.168.0.${ordinal}`, `fd00:168::${ordinal}`];
    this.#random = new SimRandom(world.seed * 100 + ordinal);
    this.kernel = this.#newKernel();
  }

  /** Whether nothing is wrong with the machine itself. */
  get isWell(): boolean {
    return (
      this.inSyncSinceMs !== Infinity &&
      this.#refusesPercent === 0 &&
      this.refused === undefined &&
      this.disk.takes === "everything"
    );
  }

  get refusesPercent(): number {
    return this.#refusesPercent;
  }

  set refusesPercent(percent: number) {
    this.#refusesPercent = percent;
    const { choices } = this.#world;
    this.kernel.faults = {
      ...this.kernel.faults,
      call: (name) => (name === "recv" && percent > 0 && choices.below(1000) < percent ? ENOBUFS : undefined),
    };
  }

  #errnoOf(request: FakeRequest): number | undefined {
    const { choices } = this.#world;
    if (this.refused !== undefined && refuses(this.#world, this.refused, request)) return this.refused.errno;
    if (this.#refusesPercent === 0 || !choices.chance(this.#refusesPercent)) return undefined;
    return choices.pick([ENOMEM, EBUSY]);
  }

  #newKernel(): FakeKernel {
    const kernel = new FakeKernel({ ownsTables: !this.#world.faults.has("others") });
    kernel.addNamespace("/switch");
    const setup = kernel.startProcess("setup");
    const client = new RouteClient(setup.sys);
    const fd = openNamespace(setup.sys, "/switch");
    client.createVeth({
      name: UPLINK,
      mac: "02:00:00:00:00:01",
      mtuBytes: 1500,
      up: true,
      peerName: "port",
      peerMac: undefined,
      peerNamespaceFd: fd,
    });
    const index = client.linkByName(UPLINK)?.index ?? 0;
    client.addAddress(index, unwrap(parseAddr(this.addresses[0])), 24);
    client.addAddress(index, unwrap(parseAddr(this.addresses[1])), 64, { noDad: true });
    client.close();
    setup.end();
    kernel.faults = { request: (request) => this.#errnoOf(request) };
    return kernel;
  }

  /** Infinity while there is no daemon. */
  runningSinceMs = Infinity;

  /** The daemon, again and again, until the machine reboots. */
  async supervise(): Promise<void> {
    const { boot } = this;
    while (this.boot === boot && !this.#world.ended) {
      await this.#runDaemon();
      await this.#world.clock.sleep(1 + this.#world.network.below(SUPERVISOR_MOST_MS));
    }
  }

  #runDaemon(): Promise<void> {
    const world = this.#world;
    const { kernel } = this;
    const process = kernel.startProcess("calico");
    const daemon = new SimProcess((operation) => this.#strikes(operation));
    daemon.atEnd(() => process.end());
    this.#daemon = daemon;
    this.#termination = new AbortController();
    this.operations = 0;
    const { clock } = world;
    const host = openSimHost(
      {
        clock,
        random: this.#random,
        disk: this.disk,
        sockets: this.sockets,
        sys: process.sys,
        whenReadable: (fd, run) => process.whenReadable(fd, run),
      },
      daemon,
    );
    const store = openSimStore({
      store: world.store,
      clock,
      random: world.network,
      owner: daemon,
      trouble: () => world.trouble,
    });
    world.say(`${this.name} daemon starts`);
    this.runningSinceMs = clock.monotonicMs();
    return new Promise((resolve) => {
      daemon.atEnd(() => {
        this.runningSinceMs = Infinity;
        this.inSyncSinceMs = Infinity;
        world.say(`${this.name} daemon ended after ${this.operations} operations`);
        resolve();
      });
      runNode(
        {
          node: this.name,
          version: "v0.0.0",
          root: ROOT,
          store,
          host,
          report: (message, fields) => {
            if (message.startsWith("in sync")) this.inSyncSinceMs = clock.monotonicMs();
            world.note(`${this.name} reports ${message} ${JSON.stringify(fields)}`);
          },
          health: { host: "127.0.0.1", port: 0 },
          auditIntervalMs: AUDIT_MS,
          cutsFlows: true,
        },
        this.#termination.signal,
      )
        .catch((error: unknown) => {
          if (!(error instanceof Stopped) && !isFailure(error) && !(error instanceof SocketError)) world.mistake(error);
          else if (!daemon.stopped) world.say(`${this.name} daemon cannot start: ${String(error)}`);
        })
        .then(() => daemon.stop());
    });
  }

  #strikes(operation: string): boolean {
    this.operations++;
    this.#world.observe(this, operation);
    if (this.operations !== this.killAt) return false;
    this.killAt = undefined;
    this.#world.say(`${this.name} daemon is killed before ${operation}`);
    return true;
  }

  kill(): void {
    this.#daemon?.stop();
  }

  /** As a supervisor asks a process to end: it has so long, else it hangs. */
  async terminate(mostMs: number): Promise<void> {
    const daemon = this.#daemon;
    this.#termination.abort();
    await this.#world.clock.sleep(mostMs);
    if (daemon?.stopped === false) this.#world.violate(`the daemon of ${this.name} does not end when it is asked to`);
  }

  /** Power fails and comes back: the kernel is new, and of the disk's files what was synced. */
  reboot(survives: () => boolean): void {
    this.boot++;
    this.killAt = undefined;
    this.kill();
    this.tamperedAtMs = undefined;
    this.disk.crash(`${ROOT}/var/run`, survives);
    this.sockets = new SimSockets();
    this.kernel = this.#newKernel();
    this.refusesPercent = 0;
  }
}
