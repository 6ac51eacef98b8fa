/**
 * monitor: a process that prints each transaction of nf_tables in its network namespace, a line of JSON each, and nothing is polled.
 * Usage: bun monitor.ts NETNS-PATH; it prints a line when it listens.
 */
import { writeSync } from "node:fs";
import { openSys } from "../../../src/host/bun/sys.ts";
import { withNamespace } from "../../../src/kernel/netns.ts";
import { wallMs } from "./clock.ts";
import { CommitReader, openCommits } from "./notifications.ts";

const MSG_DONTWAIT = 0x40;
const ENOBUFS = 105;

const sys = openSys();
const fd = withNamespace(sys, process.argv[2] ?? "", () => openCommits(sys));
const reader = new CommitReader();
const buffer = new Uint8Array(1 << 20);
writeSync(1, '"listening"\n');
for (;;) {
  sys.poll([fd], -1);
  let text = "";
  for (;;) {
    const length = sys.receive(fd, buffer, MSG_DONTWAIT);
    if (length === -ENOBUFS) throw new Error("notifications of the kernel were lost");
    if (length <= 0) break;
    for (const commit of reader.take(buffer.subarray(0, length), wallMs())) text += `${JSON.stringify(commit)}\n`;
  }
  if (text !== "") writeSync(1, text);
}
