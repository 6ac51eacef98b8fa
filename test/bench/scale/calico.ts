/**
 * calico: the scenario's policies in Calico's own kinds: the same selections and ports as global policies in three tiers, and beside
 * them a set of 10,000 nets that one policy names.
 */
import { APPS, peerOf, POLICY_NAMESPACE, uidOf } from "./scenario.ts";

const API_VERSION = "projectcalico.org/v3";
/** The first two pass on what none of their policies decides. */
export const TIERS = ["t0", "t1", "t2"] as const;
export const SET_NETS = 10_000;
export const SET_NAME = "nets";

export function tiersOf(): readonly object[] {
  return TIERS.map((name, i) => ({
    apiVersion: API_VERSION,
    kind: "Tier",
    metadata: { name, uid: uidOf(20, i) },
    spec: { order: 100 * (i + 1), defaultAction: i === 2 ? "Deny" : "Pass" },
  }));
}

/** Policy k selects and allows what policy k of Kubernetes' kind does; policy 0 also what the set holds. */
export function calicoPolicyOf(k: number): object {
  return {
    apiVersion: API_VERSION,
    kind: "GlobalNetworkPolicy",
    metadata: { name: `policy-${k}`, uid: uidOf(21, k) },
    spec: {
      tier: TIERS[k % TIERS.length],
      order: k,
      selector: `app == 'a${k % APPS}' && projectcalico.org/namespace == '${POLICY_NAMESPACE}'`,
      types: ["Ingress"],
      ingress: [
        {
          action: "Allow",
          protocol: "TCP",
          source: { selector: `app == 'a${peerOf(k)}'`, namespaceSelector: "all()" },
          destination: { ports: [8080, 9090] },
        },
        ...(k === 0 ? [{ action: "Allow", source: { selector: "set == 'nets'" } }] : []),
      ],
    },
  };
}

/** `extra`: the number of nets beyond `SET_NETS`. */
export function setOf(extra: number): object {
  const nets = Array.from(
    { length: SET_NETS + extra },
    (_, i) => `100.${64 + (i >> 13)}.${(i >> 5) & 255}.${(i & 31) * 8}/30`,
  );
  return {
    apiVersion: API_VERSION,
    kind: "GlobalNetworkSet",
    metadata: { name: SET_NAME, uid: uidOf(22, 0), labels: { set: "nets" } },
    spec: { nets },
  };
}
