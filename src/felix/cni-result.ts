/** cni-result: what ADD answers for an attachment; the same whenever it is asked. */
import { prefixOfAddr } from "../net/prefix.ts";
import { HOST_MAC } from "../podnet/names.ts";
import type { CniResult } from "../podnet/protocol.ts";
import type { Attachment } from "./journal.ts";

/** The host end first, then the pod's, to which the addresses belong: plugins that come after in a chain rely on both. */
export function resultOf(attachment: Attachment): CniResult {
  const { record, mtuBytes } = attachment;
  const ips = record.addresses.map((addr) =>
    attachment.wired ? { address: prefixOfAddr(addr), interface: 1 } : { address: prefixOfAddr(addr) },
  );
  const interfaces = attachment.wired
    ? [
        { name: record.interface, mac: HOST_MAC, mtu: mtuBytes },
        { name: record.podInterface, mac: record.mac, mtu: mtuBytes, sandbox: record.netns },
      ]
    : [];
  return { interfaces, ips, routes: [], dns: {} };
}
