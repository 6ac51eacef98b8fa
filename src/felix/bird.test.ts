import { expect, test } from "bun:test";
import { FileError, type Files } from "../host/files.ts";
import { type Connection, SocketError, type Sockets } from "../host/sockets.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { Bgp } from "../model/bgp.ts";
import type { KeyText } from "../model/key.ts";
import type { Prefix } from "../net/prefix.ts";
import { BirdConfigurator } from "./bird.ts";
import { writeNodename } from "./node.ts";
import { nodePaths } from "./paths.ts";

const PATHS = nodePaths("/n");

/** A disk of files by path that refuses with that errno name while it is set. */
class Disk {
  readonly files = new Map<string, string>();
  refuse: string | Error | undefined;
  attempts = 0;

  get door(): Files {
    const door = {
      readText: (path: string) => Promise.resolve(this.files.get(path)),
      makeDirectory: () => Promise.resolve(),
      writeText: (path: string, text: string) => {
        this.attempts++;
        if (this.refuse instanceof Error) return Promise.reject(this.refuse);
        if (this.refuse !== undefined) return Promise.reject(new FileError("write", path, this.refuse));
        this.files.set(path, text);
        return Promise.resolve();
      },
    };
    return door as unknown as Files;
  }
}

/** A BIRD that takes every configuration; or nobody, or somebody who breaks the connection, or a bug of ours. */
class Bird {
  state: "there" | "away" | "breaks" | "bug" = "there";
  configured = 0;

  get door(): Sockets {
    return { connect: (path: string) => this.#connect(path) } as unknown as Sockets;
  }

  async #connect(path: string): Promise<Connection> {
    if (this.state === "away") throw new SocketError("connect to", path, "ENOENT");
    if (this.state === "bug") throw new TypeError("undefined is not an object");
    let asked: () => void = () => {};
    const question = new Promise<void>((resolve) => (asked = resolve));
    const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
    async function* input(): AsyncGenerator<Uint8Array> {
      yield encode("0001 BIRD ready.\n");
      await question;
      yield encode("0003 Reconfigured\n");
    }
    return {
      input: input(),
      write: async () => {
        if (this.state === "breaks") throw new SocketError("write to", path, "EPIPE");
        this.configured++;
        asked();
      },
      end: () => {},
    };
  }
}

/** A cluster of which only the pools are known. */
function bgp(...pools: readonly string[]): Bgp {
  return {
    addresses: { ipv4: undefined, ipv6: undefined },
    peers: new Map(),
    pools: new Map(pools.map((cidr) => [cidr as KeyText, { prefix: cidr as Prefix, exported: true }])),
    blocks: new Map(),
    borrowed: new Map(),
    machines: new Map(),
  };
}

function setUp() {
  const [disk, bird, clock] = [new Disk(), new Bird(), new VirtualClock()];
  const reports: string[] = [];
  const configurator = new BirdConfigurator({
    node: "n1",
    paths: PATHS,
    files: disk.door,
    sockets: bird.door,
    clock,
    report: (message, fields) => reports.push(`${message}: ${String(fields["error"])}`),
  });
  return { disk, bird, clock, reports, configurator };
}

/** Runs the configurator through the body and ends it; its own end is what `run` makes of it. */
async function running({ configurator, clock }: ReturnType<typeof setUp>, body: () => Promise<void>): Promise<void> {
  const abort = new AbortController();
  const run = configurator.run(abort.signal);
  await body();
  abort.abort();
  await clock.advance(0);
  await run;
}

for (const errno of ["ENOSPC", "EROFS"]) {
  test(`a disk that refuses (${errno}) is tried again ever more slowly, said once, and BIRD has its file when there is room`, async () => {
    const all = setUp();
    const { disk, bird, clock, reports, configurator } = all;
    disk.refuse = errno;
    await running(all, async () => {
      await clock.advance(60_000);
      expect([configurator.current, configurator.error]).toEqual([
        false,
        `Cannot write "/n/etc/calico/bird.conf": ${errno}`,
      ]);
      expect(reports).toEqual([
        `cannot write BIRD's configuration: will retry: Cannot write "/n/etc/calico/bird.conf": ${errno}`,
      ]);
      expect(disk.attempts).toBeGreaterThan(10);
      expect(disk.attempts).toBeLessThan(20);
      disk.refuse = undefined;
      await clock.advance(5_000);
      expect([configurator.current, configurator.error, bird.configured]).toEqual([true, undefined, 1]);
      // The newest configuration, and what comes later too.
      configurator.observe(bgp("10.65.0.0/16"));
      await clock.advance(100);
      expect(disk.files.get(PATHS.birdConfiguration)).toContain("10.65.0.0/16+");
      expect([configurator.current, bird.configured]).toEqual([true, 2]);
    });
  });
}

test("what changes while the disk refuses is in the file that it takes at last", async () => {
  const all = setUp();
  const { disk, clock, configurator } = all;
  await running(all, async () => {
    await clock.advance(0);
    disk.refuse = "ENOSPC";
    configurator.observe(bgp("10.65.0.0/16"));
    await clock.advance(1_000);
    configurator.observe(bgp("10.65.0.0/16", "10.66.0.0/16"));
    await clock.advance(1_000);
    disk.refuse = undefined;
    await clock.advance(5_000);
    expect(disk.files.get(PATHS.birdConfiguration)).toContain("10.65.0.0/16+, 10.66.0.0/16+");
    expect(configurator.current).toBe(true);
  });
});

test("changes are gathered for a moment, and one that leaves the text as it is asks BIRD for nothing", async () => {
  const all = setUp();
  const { disk, bird, clock, configurator } = all;
  configurator.observe(bgp("10.65.0.0/16"));
  await running(all, async () => {
    // What is known at the start waits for nothing.
    await clock.advance(0);
    expect([configurator.current, bird.configured, disk.attempts]).toEqual([true, 1, 1]);
    for (let i = 0; i < 9; i++) {
      configurator.observe(bgp("10.65.0.0/16", `10.${66 + i}.0.0/16`));
      await clock.advance(10);
    }
    expect([configurator.current, bird.configured]).toEqual([false, 1]);
    await clock.advance(100);
    expect([configurator.current, bird.configured, disk.attempts]).toEqual([true, 2, 2]);
    expect(disk.files.get(PATHS.birdConfiguration)).toContain("10.65.0.0/16+, 10.74.0.0/16+");
    configurator.observe(bgp("10.74.0.0/16", "10.65.0.0/16"));
    await clock.advance(1_000);
    expect([configurator.current, bird.configured, disk.attempts]).toEqual([true, 2, 2]);
  });
});

test("a BIRD that is away or breaks off is asked again every half second, and is said after five", async () => {
  for (const state of ["away", "breaks"] as const) {
    const all = setUp();
    const { bird, clock, reports, configurator } = all;
    bird.state = state;
    await running(all, async () => {
      await clock.advance(4_000);
      expect([reports.length, configurator.current]).toEqual([0, false]);
      expect(configurator.error).toContain(state === "away" ? "ENOENT" : "EPIPE");
      await clock.advance(2_000);
      expect(reports.length).toBe(1);
      bird.state = "there";
      await clock.advance(500);
      expect([configurator.current, configurator.error]).toEqual([true, undefined]);
    });
  }
});

test("a bug is nobody's to retry: it ends the configurator, and so the process", async () => {
  for (const where of ["disk", "bird"] as const) {
    const { disk, bird, configurator } = setUp();
    if (where === "disk") disk.refuse = new TypeError("undefined is not an object");
    else bird.state = "bug";
    await expect(configurator.run(new AbortController().signal)).rejects.toBeInstanceOf(TypeError);
  }
});

test("the node's name is written where it can be, and only if it is not there", async () => {
  const disk = new Disk();
  const reports: string[] = [];
  const write = (): Promise<void> => writeNodename(disk.door, PATHS.nodename, "n1", (message) => reports.push(message));
  disk.refuse = "EROFS";
  await write();
  expect(reports).toEqual(["cannot write the node's name for other tools: going on without"]);
  disk.refuse = undefined;
  await write();
  await write();
  expect([disk.files.get(PATHS.nodename), disk.attempts]).toEqual(["n1", 2]);
});
