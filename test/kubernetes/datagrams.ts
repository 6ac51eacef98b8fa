/** datagrams: a sender that never rests, and three places where what arrives is counted: the pod's kernel, its node's, a receiver's. */
import type { Cluster } from "./cluster/cluster.ts";
import { inNetns } from "./cluster/layout.ts";
import { run } from "./cluster/run.ts";

const SENDER = new URL("./sender.ts", import.meta.url).pathname;
/** Where the sender sends, and where `speaking` does: discard and TFTP. */
const SENDER_PORT = 9;
const SPEAKER_PORT = 69;

export interface Counts {
  readonly ipv4: number;
  readonly ipv6: number;
}

export const NONE: Counts = { ipv4: 0, ipv6: 0 };

/** Datagrams that reached a pod's stack since its birth, whether or not anyone listened. */
export async function received(cluster: Cluster, namespace: string, pod: string): Promise<Counts> {
  const { stdout } = await cluster.exec(namespace, pod, ["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
  const [, values] = [...stdout.matchAll(/^Udp: (.*)$/gm)].map((match) => match[1]?.split(" ").map(Number) ?? []);
  const six = (field: string): number => Number(new RegExp(`^${field}\\s+(\\d+)`, "m").exec(stdout)?.[1] ?? "NaN");
  return { ipv4: (values?.[0] ?? NaN) + (values?.[1] ?? NaN), ipv6: six("Udp6InDatagrams") + six("Udp6NoPorts") };
}

/** Sends from a node itself, one datagram per millisecond to each address, until it is stopped. */
export async function startSender(
  cluster: Cluster,
  node: string,
  addresses: readonly string[],
): Promise<{ stop(): Promise<void> }> {
  const child = Bun.spawn([...inNetns(cluster.node(node).netns, [process.execPath, SENDER, ...addresses])], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  for await (const chunk of child.stdout) if (new TextDecoder().decode(chunk).includes("sending")) break;
  return {
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** A pod's command: a datagram a second to each address, the first of a file transfer that nobody answers: the image's nc knows no UDP. */
export function speaking(addresses: readonly string[]): readonly string[] {
  return [
    "sh",
    "-c",
    `httpd -p 8080 -h /www; while :; do ${addresses.map((address) => `timeout 1 tftp -g -l /dev/null -r x ${address} & `).join("")} sleep 1; done`,
  ];
}

/**
 * Counts on a node what is forwarded to and from the addresses of two pools: after every filter, and whether or not the pod behind the
 * address is known to anybody. Ends with `stop`.
 */
export async function watchForwarding(
  cluster: Cluster,
  node: string,
  pools: readonly [string, string],
): Promise<{ counts(): Promise<{ readonly to: Counts; readonly from: Counts }>; stop(): Promise<void> }> {
  const at = (command: readonly string[], input?: string): Promise<string> =>
    run(inNetns(cluster.node(node).netns, command), input);
  const rules = pools.flatMap((pool, index) => {
    const [word, family] =
      [
        ["ip", 4],
        ["ip6", 6],
      ][index] ?? [];
    return [
      `${word} daddr ${pool} udp dport ${SENDER_PORT} counter name to${family}`,
      `${word} saddr ${pool} udp dport ${SPEAKER_PORT} counter name from${family}`,
    ];
  });
  const counters = ["to4", "to6", "from4", "from6"];
  await at(
    ["nft", "-f", "-"],
    `table inet watch {\n${counters.map((name) => `counter ${name} {}\n`).join("")}chain after { type filter hook postrouting priority 300;\n${rules.join("\n")}\n}\n}\n`,
  );
  return {
    async counts() {
      const text = await at(["nft", "list", "counters", "table", "inet", "watch"]);
      const packets = (name: string): number =>
        Number(new RegExp(`counter ${name} \\{\\s*packets (\\d+)`).exec(text)?.[1] ?? "NaN");
      return {
        to: { ipv4: packets("to4"), ipv6: packets("to6") },
        from: { ipv4: packets("from4"), ipv6: packets("from6") },
      };
    },
    async stop() {
      await at(["nft", "delete", "table", "inet", "watch"]);
    },
  };
}
