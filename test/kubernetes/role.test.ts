/** The role in `manifests/calico-node.yaml`: everything that `calico node` asked of the API was allowed, and nothing is granted that it never asked. */
import { beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { attachCluster, type Cluster, clusterLayouts } from "./cluster/cluster.ts";

let cluster: Cluster;
/** What was asked in each cluster of the run. */
let asked: readonly (readonly AuditEvent[])[];

interface AuditEvent {
  readonly verb: string;
  readonly requestURI: string;
  readonly objectRef?: { readonly resource?: string; readonly apiGroup?: string; readonly subresource?: string };
  readonly responseStatus?: { readonly code?: number };
}

interface Role {
  readonly rules: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly verbs: readonly string[];
  }[];
}

beforeAll(async () => {
  cluster = await attachCluster();
  asked = clusterLayouts().map(({ auditLog }) =>
    readFileSync(auditLog, "utf8")
      .split("\n")
      .flatMap((line) => (line === "" ? [] : [JSON.parse(line) as AuditEvent])),
  );
});

function rightOf({ verb, objectRef }: AuditEvent): string {
  const resource = `${objectRef?.resource ?? ""}${objectRef?.subresource === undefined ? "" : `/${objectRef.subresource}`}`;
  return `${verb} ${resource}${objectRef?.apiGroup === undefined ? "" : `.${objectRef.apiGroup}`}`;
}

describe("the role of calico node", () => {
  test("is enough: nothing that it asked was forbidden", () => {
    expect(asked.flat().length).toBeGreaterThan(100);
    for (const events of asked) {
      // An API server that has just started refuses everybody until it has read the roles; then it must allow what it refused.
      const lastAnswer = new Map(events.map((event) => [rightOf(event), event.responseStatus?.code]));
      expect([...lastAnswer].filter(([, code]) => code === 403).map(([right]) => right)).toEqual([]);
    }
  });

  test("is the smallest: each right was used", async () => {
    const role = await cluster.get<Role>(["clusterrole", "calico-node"]);
    const granted = role.rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}${group === "" ? "" : `.${group}`}`)),
      ),
    );
    const used = new Map(asked.flat().map((event) => [rightOf(event), event.requestURI]));
    for (const right of granted) if (used.has(right)) console.log(`  ${right}: ${used.get(right)}`);
    expect(granted.filter((right) => !used.has(right))).toEqual([]);
  });
});
