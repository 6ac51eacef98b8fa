/**
 * bird: keeps BIRD's configuration equal to the cluster: nodes, blocks and pools in, a file and a `configure` out.
 *
 * BIRD runs beside the daemon under its own supervisor. While it is away the file is written all the same, and it reads it
 * when it starts.
 */
import { configureBird } from "../bird/control.ts";
import { renderBirdConfiguration } from "../bird/configuration.ts";
import { birdInputOf, type BirdSources } from "../bird/input.ts";
import type { Clock } from "../host/clock.ts";
import type { Files } from "../host/files.ts";
import type { Sockets } from "../host/sockets.ts";
import { formatKey } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";
import type { NodePaths } from "./paths.ts";
import type { Report } from "./pipeline.ts";

const RETRY_MS = 500;
/** Failures in a row before it is worth a line: BIRD starts a moment after its first configuration was written. */
const REPORT_AFTER = 10;

export class BirdConfigurator {
  readonly #sources: { nodes: Map<string, Resource<"Node">>; blocks: Map<string, Resource<"IPAMBlock">>; pools: Map<string, Resource<"IPPool">> } = {
    nodes: new Map(),
    blocks: new Map(),
    pools: new Map(),
  };
  readonly #node: string;
  readonly #paths: NodePaths;
  readonly #files: Files;
  readonly #sockets: Sockets;
  readonly #clock: Clock;
  readonly #report: Report;
  #dirty = false;
  #written: string | undefined;
  #applied: string | undefined;
  #wake: () => void = () => {};
  #reported: string | undefined;
  #failures = 0;

  constructor(options: { node: string; paths: NodePaths; files: Files; sockets: Sockets; clock: Clock; report: Report }) {
    this.#node = options.node;
    this.#paths = options.paths;
    this.#files = options.files;
    this.#sockets = options.sockets;
    this.#clock = options.clock;
    this.#report = options.report;
  }

  /** True when BIRD has loaded the newest configuration. */
  get current(): boolean {
    return this.#applied !== undefined && this.#applied === this.#written && !this.#dirty;
  }

  observe(updates: readonly Update[]): void {
    for (const update of updates) {
      const id = formatKey(update.key);
      if (update.kind === "Node") set(this.#sources.nodes, id, update.value);
      else if (update.kind === "IPAMBlock") set(this.#sources.blocks, id, update.value);
      else if (update.kind === "IPPool") set(this.#sources.pools, id, update.value);
      else continue;
      this.#dirty = true;
    }
    if (this.#dirty) this.#wake();
  }

  /** Writes and applies changes until the signal aborts; call when the datastore is in sync. */
  async run(signal: AbortSignal): Promise<void> {
    this.#applied = undefined;
    this.#dirty = true;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    while (!signal.aborted) {
      if (this.#dirty) await this.#write();
      if (this.#applied !== this.#written) await this.#apply();
      if (this.#applied !== this.#written) await this.#clock.sleep(RETRY_MS, signal);
      else if (!this.#dirty) await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async #write(): Promise<void> {
    this.#dirty = false;
    const sources: BirdSources = {
      nodes: [...this.#sources.nodes.values()],
      blocks: [...this.#sources.blocks.values()],
      pools: [...this.#sources.pools.values()],
    };
    const text = renderBirdConfiguration(birdInputOf(this.#node, sources));
    if (text === this.#written) return;
    const before = this.#written ?? (await this.#files.readText(this.#paths.birdConfiguration));
    if (before !== text) await this.#files.writeText(this.#paths.birdConfiguration, text, 0o644);
    this.#written = text;
  }

  async #apply(): Promise<void> {
    const text = this.#written;
    try {
      await configureBird(this.#paths.birdSocket, { sockets: this.#sockets, clock: this.#clock });
      this.#applied = text;
      this.#reported = undefined;
      this.#failures = 0;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#failures++;
      if (this.#failures < REPORT_AFTER || message === this.#reported) return;
      this.#report("BIRD did not take its configuration: will retry", { error: message, socket: this.#paths.birdSocket });
      this.#reported = message;
    }
  }
}

function set<V>(map: Map<string, V>, id: string, value: V | undefined): void {
  if (value === undefined) map.delete(id);
  else map.set(id, value);
}
