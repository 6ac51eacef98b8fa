/** Two real BIRDs in two network namespaces with the configuration that the product writes: routes, restart, death. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type BirdInput, renderBirdConfiguration } from "../../src/bird/configuration.ts";
import { askBird, configureBird } from "../../src/bird/control.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openSockets } from "../../src/host/bun/sockets.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Prefix } from "../../src/net/prefix.ts";
import { execute } from "./fixture.ts";

const doors = { sockets: openSockets(), clock: openClock() };
const suffix = `${process.pid}-${Math.random().toString(36).slice(2, 6)}`;
const directory = mkdtempSync("/tmp/calico-bird-");
const MINUTE = 60_000;

interface Side {
  readonly namespace: string;
  readonly config: string;
  readonly socket: string;
  input: BirdInput;
  process: ReturnType<typeof Bun.spawn> | undefined;
}

function side(index: 1 | 2): Side {
  const input: BirdInput = {
    node: `n${index}`,
    addresses: { ipv4: `172.31.77.${index}` as Addr, ipv6: `fd00:77::${index}` as Addr },
    asNumber: 64512,
    peers: [
      { node: `n${3 - index}`, address: `172.31.77.${3 - index}` as Addr },
      { node: `n${3 - index}`, address: `fd00:77::${3 - index}` as Addr },
    ],
    pools: ["10.244.0.0/16", "fd00:244::/48"] as Prefix[],
    unexported: [],
    blocks: [`10.244.${index}.0/26`, `fd00:244::${index}00/122`] as Prefix[],
    single: [],
  };
  return {
    namespace: `calico-test-bird${index}-${suffix}`,
    config: `${directory}/n${index}.conf`,
    socket: `${directory}/n${index}.ctl`,
    input,
    process: undefined,
  };
}

const [one, two] = [side(1), side(2)];

function start(at: Side): void {
  writeFileSync(at.config, renderBirdConfiguration(at.input));
  at.process = Bun.spawn(["ip", "netns", "exec", at.namespace, "bird", "-f", "-R", "-c", at.config, "-s", at.socket], {
    stdout: "ignore",
    stderr: "ignore",
  });
}

async function kill(at: Side): Promise<void> {
  at.process?.kill("SIGKILL");
  await at.process?.exited;
}

/** Destinations of BIRD's routes in the kernel, with their next hops. */
function routes(at: Side): string[] {
  const texts = ["-4", "-6"].map((family) =>
    execute(["ip", "-n", at.namespace, family, "route", "show", "proto", "bird"]),
  );
  return texts
    .join("")
    .split("\n")
    .flatMap((line) => {
      const match = /^(?:unreachable )?(\S+).* via (\S+)/.exec(line);
      return match === null ? (line.trim() === "" ? [] : [line.trim()]) : [`${match[1]} via ${match[2]}`];
    })
    .sort();
}

async function until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 30_000): Promise<void> {
  for (const end = performance.now() + limitMs; !(await holds());) {
    if (performance.now() > end)
      throw new Error(
        `not within ${limitMs} ms: ${what}; n1 has ${routes(one).join(", ")}; n2 has ${routes(two).join(", ")}`,
      );
    await Bun.sleep(50);
  }
}

/** Whether BIRD has ended the recovery with which it starts. */
async function recovered(at: Side): Promise<boolean> {
  const status = await askBird(at.socket, "show status", doors);
  return !status.some(({ text }) => text.includes("Graceful restart"));
}

/** BGP sessions, by name: their state, when it began, and more. */
async function sessionsOf(at: Side): Promise<ReadonlyMap<string, string>> {
  const lines = await askBird(at.socket, "show protocols", doors);
  return new Map(
    lines.flatMap(({ text }) => {
      const [, name, rest] = /^(\S+)\s+BGP\s+(.*)$/.exec(text) ?? [];
      return name === undefined || rest === undefined ? [] : [[name, rest.trim()] as const];
    }),
  );
}

async function established(at: Side): Promise<number> {
  const sessions = await sessionsOf(at).catch(() => new Map<string, string>());
  return [...sessions.values()].filter((text) => text.endsWith(" Established")).length;
}

const has = (at: Side, wanted: readonly string[]) => (): boolean =>
  JSON.stringify(routes(at)) === JSON.stringify([...wanted].sort());
const FROM_2 = ["10.244.2.0/26 via 172.31.77.2", "fd00:244::200/122 via fd00:77::2"];
const FROM_1 = ["10.244.1.0/26 via 172.31.77.1", "fd00:244::100/122 via fd00:77::1"];

beforeAll(async () => {
  for (const at of [one, two]) {
    execute(["ip", "netns", "add", at.namespace]);
    execute(["ip", "-n", at.namespace, "link", "set", "lo", "up"]);
    execute(["ip", "netns", "exec", at.namespace, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"]);
  }
  execute([
    "ip",
    "-n",
    one.namespace,
    "link",
    "add",
    "wire",
    "type",
    "veth",
    "peer",
    "name",
    "wire",
    "netns",
    two.namespace,
  ]);
  for (const [index, at] of [
    [1, one],
    [2, two],
  ] as const) {
    execute(["ip", "-n", at.namespace, "addr", "add", `172.31.77.${index}/24`, "dev", "wire"]);
    execute(["ip", "-n", at.namespace, "addr", "add", `fd00:77::${index}/64`, "dev", "wire", "nodad"]);
    execute(["ip", "-n", at.namespace, "link", "set", "wire", "up"]);
  }
  start(one);
  start(two);
  await until("routes of both families on both sides", () => has(one, FROM_2)() && has(two, FROM_1)());
}, MINUTE);

afterAll(async () => {
  for (const at of [one, two]) {
    await kill(at);
    execute(["ip", "netns", "delete", at.namespace]);
  }
  rmSync(directory, { recursive: true });
});

test("sessions of both families are established and told by the control socket", async () => {
  const status = await askBird(one.socket, "show status", doors);
  expect(status.map(({ text }) => text)).toContain("Router ID is 172.31.77.1");
  expect([[...(await sessionsOf(one)).keys()], await established(one)]).toEqual([
    ["Mesh_172_31_77_2", "Mesh_fd00_77__2"],
    2,
  ]);
});

test(
  "a reload announces and withdraws without touching the session; what is outside the pools or our own is refused",
  async () => {
    const before = await sessionsOf(two);
    const reload = async (change: Partial<BirdInput>): Promise<void> => {
      writeFileSync(two.config, renderBirdConfiguration({ ...two.input, ...change }));
      await configureBird(two.socket, doors);
    };
    const extra = [
      "10.244.9.0/26",
      "192.168.0.0/24",
      "10.244.1.0/26",
      "10.244.1.0/25",
      "fd00:244::900/122",
      "fd00:999::/64",
      "fd00:244::100/121",
    ];
    await reload({
      blocks: [...two.input.blocks, ...extra] as Prefix[],
      single: ["10.244.1.7", "fd00:244::107"] as Addr[],
    });
    const added = [
      "10.244.9.0/26 via 172.31.77.2",
      "10.244.1.7 via 172.31.77.2",
      "fd00:244::900/122 via fd00:77::2",
      "fd00:244::107 via fd00:77::2",
    ];
    await until("the new routes", has(one, [...FROM_2, ...added]));
    await reload({});
    // While n2 claimed n1's block it refused n1's route to it; now it asks for that again.
    await until("the old routes on both sides", () => has(one, FROM_2)() && has(two, FROM_1)());
    expect(await sessionsOf(two)).toEqual(before);
  },
  MINUTE,
);

test("a wrong file is refused in BIRD's words and changes nothing", async () => {
  writeFileSync(two.config, "router id nonsense;");
  await expect(configureBird(two.socket, doors)).rejects.toMatchObject({
    code: 8002,
    message: expect.stringContaining("syntax error"),
  });
  writeFileSync(two.config, renderBirdConfiguration(two.input));
  expect(has(one, FROM_2)()).toBe(true);
});

test(
  "BIRD killed and started again: its own kernel and its peer's keep every route throughout",
  async () => {
    // A BIRD that starts does not wait for one that is starting too.
    await until("the end of both first recoveries", async () => (await recovered(one)) && (await recovered(two)));
    for (const at of [two, one]) {
      await kill(at);
      let lost = "";
      const watch = (): void => {
        if (!has(one, FROM_2)() || !has(two, FROM_1)()) lost = `n1: ${routes(one).join()}; n2: ${routes(two).join()}`;
      };
      watch();
      start(at);
      await until("sessions after the restart", async () => {
        watch();
        return (await established(at)) === 2;
      });
      await until("the end of the recovery", async () => (watch(), recovered(at)));
      watch();
      expect(lost).toBe("");
    }
  },
  2 * MINUTE,
);

test(
  "BIRD killed again and again, each time when its sessions are back and its routes are not yet told: every route stays",
  async () => {
    await until("the end of both recoveries", async () => (await recovered(one)) && (await recovered(two)));
    for (const [at, peer] of [
      [one, two],
      [two, one],
    ] as const) {
      let lost = "";
      const watch = (): void => {
        if (!has(one, FROM_2)() || !has(two, FROM_1)()) lost ||= `n1: ${routes(one).join()}; n2: ${routes(two).join()}`;
      };
      for (let kills = 0; kills < 3; kills++) {
        await kill(at);
        await until("the peer to miss it", async () => (watch(), (await established(peer)) < 2));
        start(at);
        await until("both sessions", async () => (watch(), (await established(peer)) === 2));
      }
      await until("the end of the recovery", async () => (watch(), recovered(at).catch(() => false)));
      expect(lost).toBe("");
    }
  },
  3 * MINUTE,
);

test(
  "a node that dies without a word: its routes are withdrawn when the hold time and the stale time have passed",
  async () => {
    // What was stale since an earlier death would go earlier.
    await until(
      "no stale routes",
      async () =>
        !(await askBird(one.socket, "show protocols all", doors)).some(({ text }) => /stale timer/i.test(text)),
    );
    const begin = performance.now();
    // The wire goes first, so that nothing of the death is heard.
    execute(["ip", "-n", two.namespace, "link", "set", "wire", "down"]);
    execute(["ip", "-n", one.namespace, "link", "set", "wire", "up"]);
    await kill(two);
    await until("no routes of the dead node", has(one, []), 45_000);
    expect(performance.now() - begin).toBeGreaterThan(20_000);
  },
  2 * MINUTE,
);
