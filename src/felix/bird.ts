/**
 * bird: keeps BIRD's configuration equal to what the calculation says of the cluster: a file and a `configure` out.
 *
 * Changes are gathered for a moment, and one after which the text is the same is written nowhere.
 * BIRD runs beside the daemon under its own supervisor. While it is away the file is written all the same, and it reads it
 * when it starts. A disk that refuses the file, and a BIRD that refuses it or is away, are tried again until they take it.
 */
import { parentOf } from "../lib/path.ts";
import { BirdError, configureBird } from "../bird/control.ts";
import { renderBirdConfiguration } from "../bird/configuration.ts";
import { birdInputOf } from "../bird/input.ts";
import type { Clock } from "../host/clock.ts";
import { FileError, type Files } from "../host/files.ts";
import type { Sockets } from "../host/sockets.ts";
import type { Bgp } from "../model/bgp.ts";
import type { NodePaths } from "./paths.ts";
import type { Report } from "../lib/report.ts";

/** How long changes are gathered: many nodes and blocks come and go together, and BIRD takes the whole file each time. */
const GATHER_MS = 100;
/** A BIRD that starts should have its configuration soon, and asking costs nothing; a disk is given time. */
const RETRY_MS = 500;
const DISK_RETRY_MOST_MS = 5_000;
/** Failures in a row before BIRD is worth a line: it starts a moment after its first configuration was written. */
const REPORT_AFTER = 10;

const NOTHING_KNOWN: Bgp = {
  addresses: { ipv4: undefined, ipv6: undefined },
  peers: new Map(),
  pools: new Map(),
  blocks: new Map(),
  borrowed: new Map(),
  machines: new Map(),
};

export class BirdConfigurator {
  readonly #node: string;
  readonly #paths: NodePaths;
  readonly #files: Files;
  readonly #sockets: Sockets;
  readonly #clock: Clock;
  readonly #report: Report;
  #bgp: Bgp | undefined;
  #dirty = false;
  #written: string | undefined;
  #applied: string | undefined;
  #wake: () => void = () => {};
  #reported: string | undefined;
  #failures = 0;
  #error: string | undefined;

  constructor(options: {
    node: string;
    paths: NodePaths;
    files: Files;
    sockets: Sockets;
    clock: Clock;
    report: Report;
  }) {
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

  /** Why BIRD does not have the newest configuration, as far as that is known. */
  get error(): string | undefined {
    return this.current ? undefined : this.#error;
  }

  /** To be called with what BIRD has to know whenever some of it changed; it is read later, as it is then. */
  observe(bgp: Bgp): void {
    this.#bgp = bgp;
    this.#dirty = true;
    this.#wake();
  }

  /** Writes and applies changes until the signal aborts; call when the datastore is in sync. */
  async run(signal: AbortSignal): Promise<void> {
    this.#applied = undefined;
    this.#dirty = true;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    while (!signal.aborted) {
      try {
        if (this.#dirty) await this.#write();
        if (this.#applied !== this.#written) await this.#apply();
        this.#error = undefined;
        this.#reported = undefined;
        this.#failures = 0;
      } catch (error) {
        if (!(error instanceof FileError) && !(error instanceof BirdError)) throw error;
        await this.#clock.sleep(this.#failed(error), signal);
        continue;
      }
      if (!this.#dirty && !signal.aborted) await new Promise<void>((resolve) => (this.#wake = resolve));
      await this.#clock.sleep(GATHER_MS, signal);
    }
  }

  async #write(): Promise<void> {
    this.#dirty = false;
    const text = renderBirdConfiguration(birdInputOf(this.#node, this.#bgp ?? NOTHING_KNOWN));
    if (text === this.#written) return;
    const { birdConfiguration: path } = this.#paths;
    try {
      const before = this.#written ?? (await this.#files.readText(path));
      if (before !== text) {
        await this.#files.makeDirectory(parentOf(path));
        await this.#files.writeText(path, text, 0o644);
      }
    } catch (error) {
      this.#dirty = true;
      throw error;
    }
    this.#written = text;
  }

  async #apply(): Promise<void> {
    const text = this.#written;
    await configureBird(this.#paths.birdSocket, { sockets: this.#sockets, clock: this.#clock });
    this.#applied = text;
  }

  /** Milliseconds until the next attempt. */
  #failed(error: FileError | BirdError): number {
    this.#failures++;
    this.#error = error.message;
    const isDisk = error instanceof FileError;
    if (error.message !== this.#reported && (isDisk || this.#failures >= REPORT_AFTER)) {
      this.#report(
        isDisk ? "cannot write BIRD's configuration: will retry" : "BIRD did not take its configuration: will retry",
        { error: error.message, socket: this.#paths.birdSocket },
      );
      this.#reported = error.message;
    }
    return isDisk ? Math.min(DISK_RETRY_MOST_MS, RETRY_MS * 2 ** Math.min(this.#failures - 1, 10)) : RETRY_MS;
  }
}
