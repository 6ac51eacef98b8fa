/** Our table, owned by the driver's socket: nobody else changes it, and it outlives the socket. For kernels that can; the others repair. */
import { describe, expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { TABLE } from "../../src/dataplane/nftables/names.ts";
import type { Sys } from "../../src/host/sys.ts";
import { EPERM, KernelError } from "../../src/kernel/errno.ts";
import { canOwnTables, NftablesClient } from "../../src/kernel/nftables/client.ts";
import type { NftBaseChain, NftCommand, NftTableHold, NftTableState } from "../../src/kernel/nftables/objects.ts";
import { type Kernel, kernelOwnsTables, type Namespace, onBothKernels } from "./fixture.ts";

class Bench {
  readonly namespace: Namespace;
  readonly #sys: Sys;
  readonly #open = new Set<NftablesDriver>();

  constructor(sys: Sys, namespace: Namespace) {
    this.#sys = sys;
    this.namespace = namespace;
  }

  driver(ownsTable = true): NftablesDriver {
    const graph = new Graph({ node: "n1" });
    const driver = this.namespace.enter(() => new NftablesDriver(this.#sys, { ownsTable, clock: openClock() }));
    this.#open.add(driver);
    driver.lower(graph.program, graph.flush());
    return driver;
  }

  /** A driver that has made the kernel agree. */
  settled(ownsTable = true): NftablesDriver {
    const driver = this.driver(ownsTable);
    driver.read();
    driver.commit();
    return driver;
  }

  hold(): NftTableHold | undefined {
    return this.#read();
  }

  #read(): NftTableState | undefined {
    const client = this.namespace.enter(() => new NftablesClient(this.#sys, TABLE));
    try {
      return client.read();
    } finally {
      client.close();
    }
  }

  /** Chains with their rules, which have handles that no other rule of the table has had; sets with their elements. Not its flags and owner. */
  contents(): string {
    const { chains, sets } = this.#read() ?? {};
    const text = (_key: string, value: unknown): unknown =>
      value instanceof Map ? [...value] : typeof value === "bigint" ? String(value) : value;
    return JSON.stringify([chains, sets], text, 1);
  }

  /** Somebody else's transaction; why it is refused, empty when it is not. */
  other(...commands: readonly NftCommand[]): string {
    const client = this.namespace.enter(() => new NftablesClient(this.#sys, TABLE));
    try {
      client.commit(commands);
      return "";
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      return error.message;
    } finally {
      client.close();
    }
  }

  /** `nft` with that; its standard error, empty on success. */
  nft(...words: readonly string[]): string {
    const { exitCode, stderr } = Bun.spawnSync(["ip", "netns", "exec", this.namespace.name, "nft", ...words]);
    return exitCode === 0 ? "" : stderr.toString();
  }

  /** The driver's process ends. */
  end(driver: NftablesDriver): void {
    if (this.#open.delete(driver)) driver.close();
  }

  close(): void {
    for (const driver of this.#open) this.end(driver);
  }
}

function withBenchOf({ sys, withNamespaces }: Kernel, run: (bench: Bench) => void): void {
  withNamespaces(["owned"], (namespace) => {
    const bench = new Bench(sys, namespace);
    try {
      run(bench);
    } finally {
      bench.close();
    }
  });
}

const OWNED = ["owner", "persist"] as const;

onBothKernels((kernel) => {
  const { name: kernelName, sys, withNamespaces } = kernel;
  const CAN_OWN = kernelOwnsTables(kernel);
  const withBench = (run: (bench: Bench) => void): void => withBenchOf(kernel, run);

  describe("whether the kernel can", () => {
    const NFTA_TABLE_FLAGS = 2;

    /** The kernel, asked with one flag more that none knows, as one that does not know the two flags is. */
    const ignorant: Sys = {
      ...sys,
      send: (fd, bytes, flags) => {
        const asked = bytes.slice();
        const at = Buffer.from(asked).indexOf(Buffer.from([8, 0, NFTA_TABLE_FLAGS, 0, 0, 0, 0, 6]));
        if (at >= 0) asked[at + 4] = 0x40;
        return sys.send(fd, asked, flags);
      },
    };

    test("is asked of it, and nothing is left of the question", () => {
      withNamespaces(["probe"], (namespace) => {
        expect(namespace.enter(() => canOwnTables(ignorant))).toBe(false);
        expect(namespace.enter(() => canOwnTables(sys))).toBe(CAN_OWN);
        if (kernelName === "real") expect(namespace.run(["nft", "list", "ruleset"])).toBe("");
        expect(() => namespace.enter(() => canOwnTables({ ...sys, send: () => -EPERM }))).toThrow(KernelError);
      });
    });
  });

  describe.skipIf(!CAN_OWN)("a table that we own", () => {
    test("is changed by nobody else, and anybody may look at it", () => {
      withBench((bench) => {
        const driver = bench.settled();
        expect(bench.hold()?.flags).toEqual([...OWNED]);
        const before = bench.contents();
        expect(before).toContain("cali-to-workload");
        const commands: readonly NftCommand[] = [
          { do: "delete-table" },
          { do: "flush-chain", chain: "forward" },
          { do: "add-chain", chain: "other", base: undefined },
          { do: "own-table" },
        ];
        for (const command of commands)
          expect([command.do, bench.other(command)]).toEqual([command.do, expect.stringContaining("EPERM")]);
        if (kernelName === "real") expect(bench.nft("flush", "ruleset")).toBe("");
        for (const command of kernelName === "fake"
          ? []
          : [
              "delete table inet calico",
              "flush table inet calico",
              "flush chain inet calico forward",
              "insert rule inet calico forward accept",
              "add chain inet calico other",
              "add table inet calico { flags dormant; }",
              "delete table inet calico; add table inet calico { flags owner; }",
            ]) {
          expect([command, bench.nft(command)]).toEqual([command, expect.stringContaining("Operation not permitted")]);
        }
        expect(bench.contents()).toBe(before);
        driver.read();
        expect([driver.pending, driver.writes]).toEqual([0, 1]);
      });
    });

    test("stays when its socket closes, and the next takes it as it is, in one write", () => {
      withBench((bench) => {
        bench.end(bench.settled());
        expect(bench.hold()).toMatchObject({ flags: ["persist"], owner: undefined });
        const before = bench.contents();
        const next = bench.driver();
        next.read();
        expect(next.pending).toBe(1);
        next.commit();
        expect([next.pending, next.writes, bench.contents()]).toEqual([0, 1, before]);
        expect(bench.hold()?.flags).toEqual([...OWNED]);
        next.read();
        next.commit();
        expect(next.writes).toBe(1);
      });
    });

    test("is refused a base chain by the transaction that takes it: the next takes it first", () => {
      withBench((bench) => {
        bench.end(bench.settled());
        const hook: NftBaseChain = { hook: "postrouting", priority: 0, policy: "accept" };
        expect(bench.other({ do: "own-table" }, { do: "add-chain", chain: "hook", base: hook })).toContain("EINVAL");
        expect(bench.other({ do: "flush-chain", chain: "forward" }, { do: "delete-chain", chain: "forward" })).toBe("");
        const next = bench.settled();
        expect([next.pending, next.writes]).toEqual([0, 2]);
        expect(bench.contents()).toContain("forward");
      });
    });

    for (const [name, ...commands] of kernelName === "fake"
      ? []
      : ([
          [
            "made by a version that did not own it",
            "delete table inet calico",
            "add table inet calico { chain forward { type filter hook forward priority 0; }; }",
          ],
          ["asleep", "delete table inet calico", "add table inet calico { flags dormant; }"],
          ["deleted", "delete table inet calico"],
        ] as const)) {
      test(`is made anew in one write when the next finds it ${name}`, () => {
        withBench((bench) => {
          bench.end(bench.settled());
          for (const command of commands) expect(bench.nft(command)).toBe("");
          const next = bench.settled();
          expect([next.pending, next.writes]).toEqual([0, 1]);
          expect(bench.hold()?.flags).toEqual([...OWNED]);
          expect(bench.contents()).toContain("cali-to-workload");
          next.read();
          expect(next.pending).toBe(0);
        });
      });
    }

    test.skipIf(kernelName === "fake")("loses what we have no word for once the next has taken it", () => {
      withBench((bench) => {
        bench.end(bench.settled());
        expect(bench.nft("add chain inet calico nat { type nat hook postrouting priority 100; }")).toBe("");
        const next = bench.settled();
        expect([next.pending, next.writes]).toEqual([0, 2]);
        expect(bench.contents()).not.toContain("postrouting");
      });
    });

    test("is made anew in one write when the next finds it made by a version that did not own it, or deleted", () => {
      for (const leaves of [
        [{ do: "delete-table" }, { do: "add-table" }, { do: "add-chain", chain: "forward", base: undefined }],
        [{ do: "delete-table" }],
      ] satisfies readonly (readonly NftCommand[])[])
        withBench((bench) => {
          bench.end(bench.settled());
          expect(bench.other(...leaves)).toBe("");
          const next = bench.settled();
          expect([next.pending, next.writes, bench.hold()?.flags]).toEqual([0, 1, [...OWNED]]);
          expect(bench.contents()).toContain("cali-to-workload");
        });
    });

    test("is owned by one at a time: the other says who, and takes it when that one has ended", () => {
      withBench((bench) => {
        const first = bench.settled();
        const before = bench.contents();
        for (const ownsTable of [true, false]) {
          const second = bench.driver(ownsTable);
          second.read();
          const { owner } = bench.hold() ?? {};
          expect(() => second.commit()).toThrow(
            `Cannot change table inet calico: EPERM (operation not permitted): another process owns the table, by its netlink socket of port id ${owner} (as a rule its process id): only that process can change it, until it ends`,
          );
          expect(second.pending).toBeGreaterThan(0);
        }
        const third = bench.driver();
        third.read();
        bench.end(first);
        third.read();
        third.commit();
        expect([third.pending, bench.contents()]).toEqual([0, before]);
      });
    });
  });
});
