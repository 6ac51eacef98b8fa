/** rules: what a node's kernel has of ours on the dataplane that the labs run, as the dataplane's own tools print it. */
import { CALICO, DATAPLANE, type Lab, type LabNode } from "./fixture.ts";

/** Rules and counters, of both families; without a line of ours when there is nothing. eBPF has no rules. */
export async function printRules(lab: Lab, node: LabNode): Promise<string> {
  if (DATAPLANE === "nftables") return (await lab.inNode(node, "nft", "list", "table", "inet", "calico")).stdout;
  const variant = DATAPLANE.slice("iptables-".length);
  const saved = ["iptables", "ip6tables"].map((word) => lab.inNode(node, `${word}-${variant}-save`, "-c"));
  return (await Promise.all(saved)).map(({ stdout }) => stdout).join("");
}

/** Packets that rules with the comment have dropped: `unknown interface or spoofed source`. Throws when there is no such rule. */
export async function countDropped(lab: Lab, node: LabNode, comment: string): Promise<number> {
  if (DATAPLANE === "ebpf") {
    const { stdout } = await lab.inNode(node, CALICO, "node", "--counters", "-o", "json");
    const { drops } = JSON.parse(stdout) as { drops: { step: string; packets: number }[] };
    return drops.find(({ step }) => step === comment)?.packets ?? 0;
  }
  const pattern =
    DATAPLANE === "nftables"
      ? `counter packets (\\d+) bytes \\d+ drop comment "${comment}"`
      : `^\\[(\\d+):\\d+\\] -A cali-.* --comment "${comment}" -j DROP$`;
  const counts = [...(await printRules(lab, node)).matchAll(new RegExp(pattern, "gm"))];
  if (counts.length === 0) throw new Error(`no rule of ${node.name} drops with the comment "${comment}"`);
  return counts.reduce((sum, [, packets]) => sum + Number(packets), 0);
}
