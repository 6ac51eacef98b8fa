import { expect, test } from "bun:test";
import { deleteFlows, deleteFlowsOf } from "../../src/kernel/conntrack.ts";
import { unwrap } from "../../src/lib/result.ts";
import { parseAddr } from "../../src/net/addr.ts";
import { type Namespace, onBothKernels } from "./fixture.ts";

const addr = (text: string) => unwrap(parseAddr(text));

/** Inserts an entry; `-g` (destination NAT) is where the reply comes from. */
function insert(
  namespace: Namespace,
  protocol: "tcp" | "udp",
  source: string,
  destination: string,
  nat: readonly string[] = [],
): void {
  const state = protocol === "tcp" ? ["--state", "ESTABLISHED"] : [];
  namespace.run([
    "conntrack",
    "-I",
    "-p",
    protocol,
    "-s",
    source,
    "-d",
    destination,
    "--sport",
    "1000",
    "--dport",
    "80",
    "--timeout",
    "1000",
    ...state,
    ...nat,
  ]);
}

function flows(namespace: Namespace): string[] {
  const list = namespace.run(["conntrack", "-L", "-f", "ipv4"]) + namespace.run(["conntrack", "-L", "-f", "ipv6"]);
  return [
    ...new Set([...list.matchAll(/src=(\S+) dst=(\S+)/g)].map(([, source, destination]) => `${source}>${destination}`)),
  ].sort();
}

onBothKernels(({ sys, withNamespaces }) => {
  test("connections from, to and behind an address end; others stay", () => {
    withNamespaces(["ct"], (namespace) => {
      for (const net of ["10.0.0.", "fd00::"]) {
        insert(namespace, "tcp", `${net}1`, `${net}9`);
        insert(namespace, "udp", `${net}9`, `${net}1`);
        insert(namespace, "udp", `${net}2`, `${net}9`);
        insert(namespace, "tcp", `${net}7`, `${net}8`, ["-g", `${net}1`]);
      }
      for (const net of ["10.0.0.", "fd00::"]) {
        expect(namespace.enter(() => deleteFlowsOf(sys, addr(`${net}1`)))).toBe(3);
        expect(namespace.enter(() => deleteFlowsOf(sys, addr(`${net}1`)))).toBe(0);
      }
      expect(flows(namespace)).toEqual([
        "10.0.0.2>10.0.0.9",
        "10.0.0.9>10.0.0.2",
        "fd00::2>fd00::9",
        "fd00::9>fd00::2",
      ]);
    });
  });

  test("several addresses of both families in one pass, and an empty table", () => {
    withNamespaces(["ct"], (namespace) => {
      const both = [addr("10.0.0.1"), addr("fd00::1")];
      expect(namespace.enter(() => deleteFlows(sys, both))).toBe(0);
      for (let i = 1; i <= 3; i++) {
        insert(namespace, "udp", `10.0.0.${i}`, "10.0.0.9");
        insert(namespace, "udp", `fd00::${i}`, "fd00::9");
      }
      expect(namespace.enter(() => deleteFlows(sys, []))).toBe(0);
      expect(namespace.enter(() => deleteFlows(sys, both))).toBe(2);
      expect(namespace.enter(() => deleteFlows(sys, both))).toBe(0);
      expect(flows(namespace).length).toBe(8);
    });
  });
});
