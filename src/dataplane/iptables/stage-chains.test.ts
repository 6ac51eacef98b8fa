import { expect, test } from "bun:test";
import type { Policy, PolicyId, Stage } from "../../program/policy.ts";
import type { Continuation } from "../uses.ts";
import { lowerPlace } from "./stage-chains.ts";

const KEY = { kind: "GlobalNetworkPolicy", namespace: undefined, name: "p" } as const;
const POLICY: Policy = { source: KEY, tier: "default", ingress: [], egress: [], error: undefined };
const STAGE: Stage = {
  tiers: [{ tier: "default", policies: ["p" as PolicyId], otherwise: "deny" }],
  profiles: [],
  otherwise: "allow",
};

function placed(
  stage: Stage | undefined,
  staged: Stage | undefined,
  continuation: Continuation,
): Map<string, string[]> {
  const context = { direction: "ingress", continuation, policyOf: () => POLICY } as const;
  const chains = lowerPlace(stage, staged, { ...context, chain: (part) => `stage${part}` }, (part) => `staged${part}`);
  return new Map([...chains].map(([name, rules]) => [name, rules.map(({ text }) => text)]));
}

const CLEAR = "-j MARK --set-xmark 0x0/0x30000";

test.each(["accept", "continue", "untracked"] as const)(
  "what is counted before a stage that allows by %s leaves it as it was, and no mark behind",
  (continuation) => {
    const alone = placed(STAGE, undefined, continuation);
    const both = placed(STAGE, STAGE, continuation);
    expect(both.get("stage0")).toEqual(["-j staged0", ...(alone.get("stage0") ?? [])]);
    expect(both.get("stage0")?.[1]).toBe(CLEAR);
    // Nothing is asked that would clear the marks by itself.
    const open: Stage = { tiers: [], profiles: [], otherwise: "allow" };
    expect(placed(open, STAGE, continuation).get("stage0")?.slice(0, 2)).toEqual(["-j staged0", CLEAR]);
    // Where there is no stage the packet goes on.
    expect(placed(undefined, STAGE, continuation).get("stage0")).toEqual(["-j staged0", CLEAR]);
    const counting = [...both].flatMap(([name, rules]) => (name.startsWith("staged") ? rules : []));
    expect(counting.filter((text) => / (ACCEPT|DROP|CT)\b/.test(text))).toEqual([]);
    expect([...alone.keys()].filter((name) => name.startsWith("staged"))).toEqual([]);
  },
);
