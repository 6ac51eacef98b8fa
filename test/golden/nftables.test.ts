/**
 * Goldens of the nftables backend: resources in YAML, through the graph and the driver into a real kernel, printed by `nft` itself.
 * UPDATE_GOLDENS=1 writes them anew; read the difference before it is kept.
 */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { load } from "js-yaml";
import { Graph } from "../../src/calc/graph.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Kind } from "../../src/model/kind.ts";
import { type RowUpdate, rowsFor } from "../../src/model/convert/rows.ts";
import type { Update } from "../../src/model/update.ts";
import type { Addr } from "../../src/net/addr.ts";
import { sys, withNamespaces } from "../kernel/fixture.ts";

const DIRECTORY = `${import.meta.dir}/nftables`;
const KIND_OF: Readonly<Record<string, Kind>> = {
  NetworkPolicy: "KubernetesNetworkPolicy",
  Pod: "Pod",
  Namespace: "Namespace",
  Tier: "Tier",
  GlobalNetworkPolicy: "GlobalNetworkPolicy",
  GlobalNetworkSet: "GlobalNetworkSet",
  StagedGlobalNetworkPolicy: "StagedGlobalNetworkPolicy",
  FelixConfiguration: "FelixConfiguration",
};

function updateOf(resource: Resource): RowUpdate {
  const kind = KIND_OF[resource.kind];
  if (kind === undefined) throw new Error(`the golden has an object of kind ${resource.kind}`);
  return rowsFor("n1")({
    kind,
    key: keyOf(kind, resource),
    value: resource,
    origin: { revision: "1", generation: 1, seenAt: 0 },
  } as Update);
}

/** A pod of node n1 has been wired: its record, as ADD would write it. */
function wire(graph: Graph, resource: Resource): void {
  if (resource.kind !== "Pod") return;
  const pod = resource as Resource<"Pod">;
  if (pod.spec?.nodeName !== "n1") return;
  const addresses = (pod.status?.podIPs ?? []).map((entry) => entry.ip as Addr);
  graph.setCniRecord({
    containerId: pod.metadata.name,
    pod: keyOf("Pod", pod),
    interface: `cali-${pod.metadata.name}`,
    addresses,
    mac: "",
    netns: "",
    podInterface: "eth0",
  });
}

/** Elements of hash sets come in the kernel's order, which differs from run to run. */
function sortElements(text: string): string {
  return text.replace(/elements = \{([^}]*)\}/g, (_, list: string) => {
    const elements = list
      .split(",")
      .map((element) => element.trim())
      .sort();
    return `elements = { ${elements.join(", ")} }`;
  });
}

for (const file of readdirSync(DIRECTORY).filter((name) => name.endsWith(".yaml"))) {
  test(file, () => {
    const resources = load(readFileSync(`${DIRECTORY}/${file}`, "utf8")) as Resource[];
    const graph = new Graph({ node: "n1" });
    graph.update(resources.map(updateOf));
    for (const resource of resources) wire(graph, resource);
    let printed = "";
    withNamespaces(["golden"], (namespace) => {
      const driver = namespace.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
      driver.lower(graph.program, graph.flush());
      driver.read();
      driver.commit();
      driver.read();
      expect(driver.pending).toBe(0);
      driver.close();
      printed = sortElements(namespace.run(["nft", "-s", "list", "table", "inet", "calico"]));
    });
    const golden = `${DIRECTORY}/${file.replace(".yaml", ".nft")}`;
    if (process.env["UPDATE_GOLDENS"] === "1") writeFileSync(golden, printed);
    expect(printed).toBe(readFileSync(golden, "utf8"));
  });
}
