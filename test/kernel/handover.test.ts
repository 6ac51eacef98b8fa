/**
 * A table of nftables goes, ours or what upstream's daemon left, while datagrams come as fast as a process can send them: none is lost that policy allows, so that a live node can
 * change to another dataplane, which judges them by then.
 */
import { expect, test } from "bun:test";
import { removeUpstreamTables } from "../../src/dataplane/backends.ts";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { nodeProgram, PODS, wholeOf, WORLD } from "./dataplane-node.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";
import { addAddress, connectPod, until } from "./flow-bench.ts";
import { makeRouter, routePod } from "./pods.ts";

/** One removal loses nothing by chance now and then. */
const REMOVALS = 20;
/** Where the pod may be called. */
const PORT = 80;

/** Nobody answers, so that no connection is established, and policy judges every datagram. */
const FLOOD = `
import socket, sys
end = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
end.connect((sys.argv[1], int(sys.argv[2])))
while True:
    try:
        end.send(b"x")
    except OSError:
        pass
`;

function watch(namespace: Namespace, hook: string, priority: number): void {
  const rule = `udp dport ${PORT} counter`;
  const chain = `chain seen {\ntype filter hook ${hook} priority ${priority};\n${rule}\n}`;
  namespace.run(["nft", "-f", "-"], `table inet watch {\n${chain}\n}\n`);
}

function counted(namespace: Namespace): number {
  const text = namespace.run(["nft", "list", "table", "inet", "watch"]);
  return Number(/counter packets (\d+)/.exec(text)?.[1]);
}

const CASES = Object.entries({ ours: removeOurs, "upstream's": removeUpstreams }).flatMap(([whose, removeOnce]) =>
  PODS.web.addresses.map((address, family) => ({ whose, removeOnce, address, family })),
);

for (const { whose, removeOnce, address, family } of CASES)
  test(`a table, ${whose}, goes ${REMOVALS} times under a flood to ${address}: every datagram arrives`, async () => {
    const namespaces = ["node", "world", "web"].map(makeNamespace);
    const [node, world, web] = namespaces as [Namespace, Namespace, Namespace];
    try {
      makeRouter(node);
      for (const [name, end, addr] of [
        ["world", world, WORLD[family] ?? ""],
        [PODS.web.interface, web, address],
      ] as const) {
        connectPod(node, name, end);
        routePod(node, name, addr);
        addAddress(end, addr);
      }
      watch(world, "postrouting", 400);
      watch(web, "prerouting", -400);
      const flood = Bun.spawn(["ip", "netns", "exec", world.name, "python3", "-c", FLOOD, address, `${PORT}`]);
      try {
        await until(() => counted(web) > 1_000, "for datagrams to arrive");
        for (let i = 0; i < REMOVALS; i++) removeOnce(node);
      } finally {
        flood.kill("SIGKILL");
        await flood.exited;
      }
      const sent = counted(world);
      await until(() => counted(web) >= sent, `for ${sent} datagrams: ${counted(web)} have arrived`);
      expect(counted(web)).toBe(sent);
    } finally {
      for (const namespace of namespaces) removeNamespace(namespace);
    }
  }, 60_000);

function removeOurs(node: Namespace): void {
  const driver = node.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
  try {
    const program = nodeProgram("nftables");
    driver.lower(program, wholeOf(program));
    driver.read();
    driver.commit();
    finishSteps(driver.removing());
  } finally {
    driver.close();
  }
  expect(node.run(["nft", "list", "tables"])).toBe("");
}

/** It finds endpoints by a map, and drops what goes to others. */
function removeUpstreams(node: Namespace): void {
  const table = `calico {
    map cali-to-wl { type ifname : verdict; elements = { "${PODS.web.interface}" : accept } }
    chain cali-forward { oifname "cali*" oifname vmap @cali-to-wl; oifname "cali*" drop; }
    chain filter-cali-FORWARD { type filter hook forward priority filter; jump cali-forward; }
  }\n`;
  node.run(["nft", "-f", "-"], ["ip", "ip6"].map((family) => `table ${family} ${table}`).join(""));
  node.enter(() => removeUpstreamTables(sys));
  expect(node.run(["nft", "list", "tables"])).toBe("");
}
