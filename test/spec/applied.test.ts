/** What the definition says that it applied: all of a rule that matched, of one that did not the condition that failed, of alternatives the one that held. */
import { expect, test } from "bun:test";
import { keyOf } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { TCP } from "../../src/net/protocol.ts";
import { Applied, type RuleNumber } from "../../src/semantics/applied.ts";
import { decide } from "../../src/semantics/decide.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { resourcesOf } from "./dsl.ts";

const RULE = "{from: [{ipBlock: {cidr: 192.0.2.0/24}}, {podSelector: {}}], ports: [{port: 80}]}";

/** The rules of conditions that reaching alpha/server from there, at that port, has applied. */
function applied(source: string, destinationPort: number): readonly RuleNumber[] {
  const resources = resourcesOf({
    namespaces: { alpha: {} },
    pods: {
      "alpha/server": { addresses: ["10.0.0.1"] },
      "alpha/web": { addresses: ["10.0.0.2"] },
    },
    policies: { "alpha/p": `{podSelector: {}, ingress: [${RULE}]}` },
  });
  const [server] = resources.pods;
  if (server === undefined) throw new Error("there is no pod");
  const packet = {
    source: source as Addr,
    destination: "10.0.0.1" as Addr,
    protocol: TCP,
    sourcePort: 1,
    destinationPort,
  };
  const found = new Applied();
  decide(
    clusterOf(resources),
    packet,
    { endpoint: keyOf("Pod", server), direction: "ingress", fromOwnNode: false },
    found,
  );
  return (["POL-12", "POL-14", "POL-16"] as const).filter((rule) => found.rules.has(rule));
}

test("a rule that matches applies the alternatives that held; one that does not the condition that failed", () => {
  expect(applied("10.0.0.2", 80)).toEqual(["POL-12", "POL-16"]);
  expect(applied("192.0.2.7", 80)).toEqual(["POL-14", "POL-16"]);
  expect(applied("10.0.0.2", 81)).toEqual(["POL-16"]);
  expect(applied("203.0.113.1", 80)).toEqual(["POL-12", "POL-14"]);
});
