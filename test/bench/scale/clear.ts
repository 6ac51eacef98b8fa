/**
 * clear: takes everything of a dataplane out of the kernel while its daemon is away, pods or not, so that the next start finds an empty one. Runs in the
 * network namespace of the node.
 * Usage: bun clear.ts nftables|iptables-nft|iptables-legacy|ebpf ROOT
 */
import { backendsOf } from "../../../src/dataplane/backends.ts";
import { awaitSteps } from "../../../src/dataplane/driver.ts";
import { nodePaths } from "../../../src/felix/paths.ts";
import { readFamilies } from "../../../src/felix/sysctls.ts";
import { openHost } from "../../../src/host/bun/host.ts";
import { canOwnTables } from "../../../src/kernel/nftables/client.ts";

const [name = "", root = ""] = process.argv.slice(2);
const { sys, clock, processes, files } = openHost();
const object = (): Uint8Array => {
  throw new Error("nothing is loaded to remove something");
};
const backend = backendsOf({
  sys,
  clock,
  processes,
  families: readFamilies(sys),
  ownsTable: canOwnTables(sys),
  report: (text, fields) => console.error(text, fields),
  ebpf: { files, object, pins: nodePaths(root).pins },
}).find((each) => each.name === name);
if (backend === undefined) throw new Error(`no dataplane ${name}`);
const driver = backend.open();
await awaitSteps(driver.removing(false));
driver.close();
process.exit(0);
