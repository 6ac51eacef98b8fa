/** The routes driver on a real kernel: both families, adoption by a second process, foreign routes left alone, drift repaired. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { expect, test } from "bun:test";
import { RoutesDriver } from "../../src/dataplane/routes/driver.ts";
import type { EndpointId, Program, ProgramDelta } from "../../src/program/program.ts";
import { blackholeRoute, localRoute, type Route, type RouteId, routeIdOf } from "../../src/program/route.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import type { Prefix } from "../../src/net/prefix.ts";
import type { Sys } from "../../src/host/sys.ts";
import { type Namespace, onBothKernels } from "./fixture.ts";

const ROUTES: ReadonlyMap<RouteId, Route> = new Map(
  [
    localRoute("10.65.0.1/32" as Prefix, "cali1"),
    localRoute("fd00:65::1/128" as Prefix, "cali1"),
    blackholeRoute("10.65.0.0/26" as Prefix),
    blackholeRoute("fd00:65::/122" as Prefix),
  ].map((route) => [routeIdOf(route), route]),
);
let nowMs = 0;
const clock = { monotonicMs: () => nowMs, wallMs: () => nowMs };
const EMPTY: Program = {
  settings: DEFAULT_SETTINGS,
  sets: new Map(),
  policies: new Map(),
  endpoints: new Map(),
  routes: new Map(),
};

function delta(routes: ProgramDelta["routes"]): ProgramDelta {
  return { sets: new Map(), policies: new Map(), endpoints: new Map(), routes, members: new Map() };
}

onBothKernels(({ name: kernel, sys, withNamespaces }) => {
  function open(namespace: Namespace, routes: ProgramDelta["routes"]): RoutesDriver {
    const driver = namespace.enter(() => new RoutesDriver(sys, clock));
    driver.lower(EMPTY, delta(routes));
    driver.read();
    driver.commit();
    return driver;
  }

  function shown(namespace: Namespace): string[] {
    const lines = [
      ...namespace.run(["ip", "route", "show", "proto", "80"]).split("\n"),
      ...namespace.run(["ip", "-6", "route", "show", "proto", "80"]).split("\n"),
    ];
    return lines
      .map((line) =>
        line
          .replace(/ dev lo\b| metric 1024| pref medium| error -?\d+/g, " ")
          .replace(/\s+/g, " ")
          .trim(),
      )
      .filter((line) => line !== "")
      .sort();
  }

  test("programs, adopts, repairs and removes routes", () => {
    withNamespaces(["routes"], (namespace) => {
      namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
      namespace.run(["ip", "link", "set", "cali1", "up"]);
      namespace.run(["ip", "link", "set", "peer", "up"]);
      namespace.run(["ip", "route", "add", "10.65.0.64/26", "dev", "peer", "proto", "bird"]);
      const first = open(namespace, ROUTES);
      expect(first.pending).toBe(0);
      const all = [
        "10.65.0.1 dev cali1 scope link",
        "blackhole 10.65.0.0/26",
        "blackhole fd00:65::/122",
        "fd00:65::1 dev cali1",
      ].sort();
      expect(shown(namespace)).toEqual(all);
      const second = open(namespace, ROUTES);
      expect(second.writes).toBe(0);
      namespace.run(["ip", "route", "del", "10.65.0.1/32", "dev", "cali1"]);
      namespace.run(["ip", "route", "add", "10.65.0.9/32", "dev", "cali1", "proto", "80"]);
      second.read();
      expect(second.pending).toBe(2);
      second.commit();
      expect(shown(namespace)).toEqual(all);
      second.lower(EMPTY, delta(new Map([...ROUTES.keys()].map((id) => [id, undefined]))));
      second.commit();
      expect(shown(namespace)).toEqual(LEFT);
      nowMs += 30_000;
      second.commit();
      expect(shown(namespace)).toEqual([]);
      expect(namespace.run(["ip", "route", "show", "proto", "bird"])).toContain("10.65.0.64/26");
      for (const driver of [first, second]) driver.close();
    });
  });

  /** What the blocks of `ROUTES` leave. */
  const LEFT = ["blackhole 10.65.0.0/26 metric 4294967295", "blackhole fd00:65::/122 metric 4294967295"];

  test("a block that is given up swallows what still comes for it, unless another node has it; after a while it is gone", () => {
    withNamespaces(["leaving"], (namespace) => {
      namespace.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "peer"]);
      for (const link of ["uplink", "peer"]) namespace.run(["ip", "link", "set", link, "up"]);
      namespace.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "uplink"]);
      namespace.run(["ip", "route", "add", "default", "via", "192.0.2.2"]);
      namespace.run(["ip", "-6", "route", "add", "default", "dev", "uplink"]);
      const blocks = new Map([...ROUTES].filter(([, { type }]) => type === "blackhole"));
      const goes = (address: string): string => {
        try {
          return /dev (\S+)/.exec(namespace.run(["ip", "route", "get", address]))?.[1] ?? "";
        } catch {
          return "nowhere";
        }
      };
      const ways = (): string[] => ["10.65.0.5", "fd00:65::5"].map(goes);
      const driver = open(namespace, blocks);
      expect(ways()).toEqual(["nowhere", "nowhere"]);
      driver.lower(EMPTY, delta(new Map([...blocks.keys()].map((id) => [id, undefined]))));
      driver.commit();
      expect([shown(namespace), ways(), driver.pending]).toEqual([LEFT, ["nowhere", "nowhere"], 0]);
      // An audit leaves it alone.
      driver.read();
      expect(driver.pending).toBe(0);
      namespace.run(["ip", "route", "add", "10.65.0.0/26", "via", "192.0.2.3", "proto", "bird", "metric", "2048"]);
      namespace.run(["ip", "-6", "route", "add", "fd00:65::/122", "dev", "peer", "proto", "bird", "metric", "2048"]);
      expect(ways()).toEqual(["uplink", "peer"]);
      nowMs += 29_999;
      expect(driver.pending).toBe(0);
      // Its own again, and given up again, in the meantime.
      driver.lower(EMPTY, delta(blocks));
      driver.commit();
      expect(ways()).toEqual(["nowhere", "nowhere"]);
      driver.lower(EMPTY, delta(new Map([...blocks.keys()].map((id) => [id, undefined]))));
      driver.commit();
      nowMs += 1;
      expect([shown(namespace), driver.pending]).toEqual([LEFT, 0]);
      nowMs += 30_000;
      expect(driver.pending).toBe(2);
      driver.commit();
      expect([shown(namespace), ways(), driver.pending]).toEqual([[], ["uplink", "peer"], 0]);
      driver.close();
    });
  });

  // The fake kernel tells of no routes.
  const hears = kernel === "real" ? test : (): void => {};
  hears("what a block leaves is there before its own route goes", () => {
    withNamespaces(["order"], (namespace) => {
      const blocks = new Map([...ROUTES].filter(([, { type }]) => type === "blackhole"));
      const driver = open(namespace, blocks);
      const directory = mkdtempSync("/dev/shm/calico-routes-");
      const monitor = Bun.spawn(["ip", "-n", namespace.name, "monitor", "route"], {
        stdout: Bun.file(`${directory}/seen`),
        stderr: "ignore",
      });
      const seen = (): string[] => readFileSync(`${directory}/seen`, "utf8").split("\n");
      /** Adds routes until the monitor has told of one: it may not listen yet, and the kernel tells nothing of a route that was there. */
      const awaitMark = (mark: string): void => {
        for (let tries = 0; !seen().some((line) => line.includes(mark)); tries++) {
          if (tries > 500) throw new Error("the monitor tells nothing");
          namespace.run(["ip", "route", "add", "blackhole", mark, "metric", String(tries)]);
          Bun.sleepSync(10);
        }
      };
      try {
        awaitMark("198.51.100.1");
        driver.lower(EMPTY, delta(new Map([...blocks.keys()].map((id) => [id, undefined]))));
        driver.commit();
        awaitMark("198.51.100.2");
        for (const block of blocks.keys()) {
          const lines = seen().filter((line) => line.includes(block));
          expect(
            lines.map((line) => (line.startsWith("Deleted") ? "goes" : /metric 4294967295/.test(line) ? "left" : line)),
          ).toEqual(["left", "goes"]);
        }
      } finally {
        monitor.kill();
        rmSync(directory, { recursive: true });
        driver.close();
      }
    });
  });

  test("what a block left stays for a while also when another process begins; a block that went while there was none leaves it too", () => {
    withNamespaces(["leaving"], (namespace) => {
      const blocks = new Map([...ROUTES].filter(([, { type }]) => type === "blackhole"));
      open(namespace, blocks).close();
      open(namespace, new Map()).close();
      expect(shown(namespace)).toEqual(LEFT);
      const next = open(namespace, new Map());
      expect([shown(namespace), next.writes]).toEqual([LEFT, 0]);
      nowMs += 10_000;
      // An audit does not prolong it.
      next.read();
      nowMs += 19_999;
      expect(next.pending).toBe(0);
      nowMs += 1;
      expect(next.pending).toBe(2);
      next.commit();
      next.read();
      expect([shown(namespace), next.pending]).toEqual([[], 0]);
      next.close();
    });
  });

  test("a route whose interface does not exist waits for it and blocks nothing else", () => {
    withNamespaces(["routes"], (namespace) => {
      const driver = open(namespace, ROUTES);
      expect(driver.pending).toBe(2);
      expect(driver.isProgrammed("cali1" as EndpointId)).toBe(false);
      namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
      namespace.run(["ip", "link", "set", "cali1", "up"]);
      namespace.run(["ip", "link", "set", "peer", "up"]);
      driver.commit();
      expect(driver.pending).toBe(0);
      expect(driver.isProgrammed("cali1" as EndpointId)).toBe(true);
      driver.close();
    });
  });

  /** All of the main table's routes to the destination, whosever they are. */
  function allTo(namespace: Namespace, destination: string): string[] {
    const family = destination.includes(":") ? "-6" : "-4";
    return namespace
      .run(["ip", family, "route", "show", destination])
      .split("\n")
      .map((line) =>
        line
          .replace(/ metric 1024| pref medium| dev lo\b| error -?\d+/g, " ")
          .replace(/\s+/g, " ")
          .trim(),
      )
      .filter((line) => line !== "");
  }

  function withLinks(run: (namespace: Namespace) => void): void {
    withNamespaces(["routes"], (namespace) => {
      namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
      for (const link of ["cali1", "peer"]) namespace.run(["ip", "link", "set", link, "up"]);
      run(namespace);
    });
  }

  const SURPLUS: readonly (readonly string[])[] = [
    ["add", "10.65.0.1/32", "dev", "cali1", "metric", "7"],
    ["add", "10.65.0.1/32", "dev", "peer", "metric", "7"],
    ["append", "10.65.0.1/32", "dev", "peer"],
    ["prepend", "10.65.0.1/32", "dev", "peer"],
    ["add", "10.65.0.1/32", "dev", "cali1", "tos", "0x10"],
    ["add", "blackhole", "10.65.0.0/26", "metric", "7"],
    ["add", "blackhole", "10.65.0.0/26", "tos", "0x08"],
    ["add", "unreachable", "10.65.0.0/26", "metric", "9"],
    ["add", "fd00:65::1/128", "dev", "cali1", "metric", "7"],
    ["append", "fd00:65::1/128", "dev", "peer"],
    ["add", "blackhole", "fd00:65::/122", "metric", "7"],
  ];

  for (const [verb = "", ...words] of SURPLUS) {
    const what = words.join(" ");
    test(`a second route of our protocol goes, and ours stays: ${verb} ${what}`, () => {
      withLinks((namespace) => {
        const driver = open(namespace, ROUTES);
        const before = shown(namespace);
        namespace.run(["ip", what.includes("::") ? "-6" : "-4", "route", verb, ...words, "proto", "80"]);
        expect(shown(namespace)).not.toEqual(before);
        driver.read();
        driver.commit();
        driver.read();
        expect([shown(namespace), driver.pending]).toEqual([before, 0]);
        driver.close();
      });
    });
  }

  const FOREIGN: readonly (readonly [string, readonly string[]])[] = [
    ["10.65.0.1/32", ["10.65.0.1/32", "dev", "peer", "proto", "static"]],
    ["fd00:65::1/128", ["fd00:65::1/128", "dev", "peer", "proto", "static"]],
    ["10.65.0.0/26", ["unreachable", "10.65.0.0/26", "proto", "static"]],
    ["fd00:65::/122", ["unreachable", "fd00:65::/122", "proto", "static"]],
  ];

  for (const [destination, words] of FOREIGN) {
    const family = destination.includes(":") ? "-6" : "-4";

    test(`somebody else's route to ${destination} stays, is named, keeps nothing else from being written, and ours is written once it is gone`, () => {
      withLinks((namespace) => {
        namespace.run(["ip", family, "route", "add", ...words]);
        const foreign = allTo(namespace, destination);
        const driver = namespace.enter(() => new RoutesDriver(sys, clock));
        driver.lower(EMPTY, delta(ROUTES));
        driver.read();
        for (let i = 0; i < 2; i++)
          expect(() => driver.commit()).toThrow(
            new RegExp(`Cannot add route.*${destination}.*EEXIST.*another's route is there.*protocol 4`),
          );
        expect([allTo(namespace, destination), driver.pending, shown(namespace).length]).toEqual([foreign, 1, 3]);
        namespace.run(["ip", family, "route", "del", ...words]);
        driver.commit();
        expect([shown(namespace).length, driver.pending]).toEqual([4, 0]);
        driver.close();
      });
    });

    test(`somebody who put his route to ${destination} in place of ours keeps it, whatever ours becomes`, () => {
      withLinks((namespace) => {
        const driver = open(namespace, ROUTES);
        namespace.run(["ip", family, "route", "replace", ...words]);
        const foreign = allTo(namespace, destination);
        // The driver has not read since.
        const isBlock = destination.endsWith("/26") || destination.endsWith("/122");
        const other = localRoute(destination as Prefix, isBlock ? "cali1" : "peer");
        driver.lower(EMPTY, delta(new Map([[destination as RouteId, other]])));
        expect(() => driver.commit()).toThrow("another's route is there");
        expect(allTo(namespace, destination)).toEqual(foreign);
        driver.lower(EMPTY, delta(new Map([[destination as RouteId, undefined]])));
        driver.commit();
        driver.read();
        driver.commit();
        expect(allTo(namespace, destination).filter((line) => line.includes("static"))).toEqual(foreign);
        driver.close();
      });
    });
  }

  test("a route that ADD wrote a moment ago is taken for what it is, one of ours to another interface is not", () => {
    withLinks((namespace) => {
      const driver = namespace.enter(() => new RoutesDriver(sys, clock));
      driver.read();
      for (const [family, addr] of [
        ["-4", "10.65.0.1"],
        ["-6", "fd00:65::1"],
      ] as const)
        namespace.run([
          "ip",
          family,
          "route",
          "add",
          addr,
          "dev",
          "cali1",
          "proto",
          "80",
          ...(family === "-4" ? ["scope", "link"] : []),
        ]);
      const local = new Map([...ROUTES].filter(([, { type }]) => type === "unicast"));
      driver.lower(EMPTY, delta(local));
      driver.commit();
      expect([driver.pending, shown(namespace)]).toEqual([
        0,
        ["10.65.0.1 dev cali1 scope link", "fd00:65::1 dev cali1"],
      ]);
      driver.lower(EMPTY, delta(new Map([...local.keys()].map((id) => [id, undefined]))));
      driver.commit();
      expect(shown(namespace)).toEqual([]);
      for (const [family, addr] of [
        ["-4", "10.65.0.1"],
        ["-6", "fd00:65::1"],
      ] as const)
        namespace.run(["ip", family, "route", "add", addr, "dev", "peer", "proto", "80"]);
      driver.lower(EMPTY, delta(local));
      expect(() => driver.commit()).toThrow("EEXIST");
      // As the loop does after a failure.
      driver.read();
      driver.commit();
      expect([driver.pending, shown(namespace)]).toEqual([
        0,
        ["10.65.0.1 dev cali1 scope link", "fd00:65::1 dev cali1"],
      ]);
      driver.close();
    });
  });

  /** As a kernel without IPv6: it asks all families for their routes when IPv6's are wanted, and takes no routes of IPv6. */
  const WITHOUT_IPV6: Sys = {
    ...sys,
    send: (fd, bytes, flags, address) => {
      const RTM_GETROUTE = 26;
      const copy = bytes.slice();
      if (new DataView(copy.buffer).getUint16(4, true) === RTM_GETROUTE && copy[16] === 10) copy[16] = 0;
      return sys.send(fd, copy, flags, address);
    },
  };

  test("where the kernel has no IPv6, IPv4 goes on: its routes are not taken for surplus, and blocks of IPv6 are not waited for", () => {
    withLinks((namespace) => {
      const driver = namespace.enter(() => new RoutesDriver(WITHOUT_IPV6, clock, new Set([4])));
      driver.lower(
        EMPTY,
        delta(new Map([...ROUTES].filter(([id, { type }]) => type === "blackhole" || !id.includes(":")))),
      );
      for (let i = 0; i < 2; i++) {
        driver.read();
        driver.commit();
      }
      const writes = driver.writes;
      driver.read();
      driver.commit();
      expect([driver.pending, driver.writes - writes, shown(namespace)]).toEqual([
        0,
        0,
        ["10.65.0.1 dev cali1 scope link", "blackhole 10.65.0.0/26"],
      ]);
      driver.close();
    });
  });
});
