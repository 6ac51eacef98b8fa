/** The roles in `manifests/`: everything that a program asked of the API was allowed, and nothing is granted that it never asked. */
import { beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { attachCluster, type Cluster, clusterLayouts } from "./cluster/cluster.ts";

let cluster: Cluster;
/** What was asked in each cluster of the run. */
let asked: readonly (readonly AuditEvent[])[];

interface AuditEvent {
  readonly verb: string;
  readonly requestURI: string;
  readonly user: { readonly username: string };
  readonly objectRef?: { readonly resource?: string; readonly apiGroup?: string; readonly subresource?: string };
  readonly responseStatus?: { readonly code?: number };
  readonly annotations?: Readonly<Record<string, string>>;
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

/** For want of a right; a namespace that is being deleted answers 403 too, to those who have it. */
function isRefused({ responseStatus, annotations }: AuditEvent): boolean {
  return responseStatus?.code === 403 && annotations?.["authorization.k8s.io/decision"] !== "allow";
}

function rightOf({ verb, objectRef }: AuditEvent): string {
  const resource = `${objectRef?.resource ?? ""}${objectRef?.subresource === undefined ? "" : `/${objectRef.subresource}`}`;
  return `${verb} ${resource}${objectRef?.apiGroup === undefined ? "" : `.${objectRef.apiGroup}`}`;
}

describe.each(["calico-node", "calico-controllers"])("the role %s", (name) => {
  const askedByIt = (): readonly (readonly AuditEvent[])[] =>
    asked.map((events) => events.filter(({ user }) => user.username.endsWith(`:${name}`)));

  test("is enough: nothing that was asked was forbidden", () => {
    expect(askedByIt().flat().length).toBeGreaterThan(20);
    for (const events of askedByIt()) {
      // An API server that has just started refuses everybody until it has read the roles; then it must allow what it refused.
      const lastRefused = new Map(events.map((event) => [rightOf(event), isRefused(event)]));
      expect([...lastRefused].filter(([, refused]) => refused).map(([right]) => right)).toEqual([]);
    }
  });

  test("is the smallest: each right was used", async () => {
    const roles = [
      await cluster.get<Role>(["clusterrole", name]),
      ...(
        await cluster.get<{ items: readonly (Role & { readonly metadata: { readonly name: string } })[] }>([
          "role",
          "-n",
          "kube-system",
        ])
      ).items.filter(({ metadata }) => metadata.name === name),
    ];
    const granted = roles
      .flatMap(({ rules }) => rules)
      .flatMap(({ apiGroups, resources, verbs }) =>
        apiGroups.flatMap((group) =>
          resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}${group === "" ? "" : `.${group}`}`)),
        ),
      );
    const used = new Map(
      askedByIt()
        .flat()
        .map((event) => [rightOf(event), event.requestURI]),
    );
    for (const right of granted) if (used.has(right)) console.log(`  ${right}: ${used.get(right)}`);
    expect(granted.filter((right) => !used.has(right))).toEqual([]);
  });
});
