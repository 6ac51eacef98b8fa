/** The routes driver on a real kernel: both families, adoption by a second process, foreign routes left alone, drift repaired. */
import { expect, test } from "bun:test";
import { RoutesDriver } from "../../src/dataplane/routes/driver.ts";
import type { EndpointId, Program, ProgramDelta, Route, RouteId } from "../../src/program/program.ts";
import { type Namespace, sys, withNamespaces } from "./fixture.ts";

const ROUTES: ReadonlyMap<RouteId, Route> = new Map<RouteId, Route>([
  ["10.65.0.1/32" as RouteId, { type: "local", interface: "cali1" }],
  ["fd00:65::1/128" as RouteId, { type: "local", interface: "cali1" }],
  ["10.65.0.0/26" as RouteId, { type: "blackhole" }],
  ["fd00:65::/122" as RouteId, { type: "blackhole" }],
]);
const EMPTY: Program = { sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map() };

function delta(routes: ProgramDelta["routes"]): ProgramDelta {
  return { sets: new Map(), policies: new Map(), endpoints: new Map(), routes, members: new Map() };
}

function open(namespace: Namespace, routes: ProgramDelta["routes"]): RoutesDriver {
  const driver = namespace.enter(() => new RoutesDriver(sys));
  driver.lower(EMPTY, delta(routes));
  driver.read();
  driver.commit();
  return driver;
}

function shown(namespace: Namespace): string[] {
  const lines = [...namespace.run(["ip", "route", "show", "proto", "80"]).split("\n"), ...namespace.run(["ip", "-6", "route", "show", "proto", "80"]).split("\n")];
  return lines.map((line) => line.replace(/ dev lo\b| metric 1024| pref medium| error -?\d+/g, " ").replace(/\s+/g, " ").trim()).filter((line) => line !== "").sort();
}

test("programs, adopts, repairs and removes routes", () => {
  withNamespaces(["routes"], (namespace) => {
    namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
    namespace.run(["ip", "link", "set", "cali1", "up"]);
    namespace.run(["ip", "link", "set", "peer", "up"]);
    namespace.run(["ip", "route", "add", "10.65.0.64/26", "dev", "peer", "proto", "bird"]);
    const first = open(namespace, ROUTES);
    expect(first.pending).toBe(0);
    const all = ["10.65.0.1 dev cali1 scope link", "blackhole 10.65.0.0/26", "blackhole fd00:65::/122", "fd00:65::1 dev cali1"].sort();
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
    expect(shown(namespace)).toEqual([]);
    expect(namespace.run(["ip", "route", "show", "proto", "bird"])).toContain("10.65.0.64/26");
    for (const driver of [first, second]) driver.close();
  });
});

test("a route whose interface does not exist waits for it and blocks nothing else", () => {
  withNamespaces(["routes"], (namespace) => {
    const driver = open(namespace, ROUTES);
    expect(driver.pending).toBe(2);
    const endpoint = { source: { kind: "Pod", namespace: "a", name: "b" }, addresses: ["10.65.0.1"], ingress: { tiers: [], otherwise: "allow" }, egress: { tiers: [], otherwise: "allow" } } as const;
    const program = { ...EMPTY, endpoints: new Map([["cali1" as EndpointId, endpoint]]) } as unknown as Program;
    expect(driver.isProgrammed("cali1" as EndpointId, program)).toBe(false);
    namespace.run(["ip", "link", "add", "cali1", "type", "veth", "peer", "name", "peer"]);
    namespace.run(["ip", "link", "set", "cali1", "up"]);
    namespace.run(["ip", "link", "set", "peer", "up"]);
    driver.commit();
    expect(driver.pending).toBe(0);
    expect(driver.isProgrammed("cali1" as EndpointId, program)).toBe(true);
    driver.close();
  });
});
