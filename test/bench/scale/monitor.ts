/**
 * monitor: a process that prints each transaction of nf_tables in its network namespace, a line of JSON each, and nothing is polled.
 * Usage: bun monitor.ts NETNS-PATH; it prints a line when it listens.
 */
import { writeSync } from "node:fs";
import { openSys } from "../../../src/host/bun/sys.ts";
import { openWatcher } from "../../../src/host/bun/watcher.ts";
import { withNamespace } from "../../../src/kernel/netns.ts";
import { wallMs } from "./clock.ts";
import { CommitReader, openCommits } from "./notifications.ts";

const sys = openSys();
const fd = withNamespace(sys, process.argv[2] ?? "", () => openCommits(sys));
const reader = new CommitReader();
openWatcher().watch(fd, {
  received(datagram) {
    for (const commit of reader.take(datagram, wallMs())) writeSync(1, `${JSON.stringify(commit)}\n`);
  },
  lost(cause) {
    throw new Error(`notifications of the kernel were lost: ${cause}`);
  },
});
writeSync(1, '"listening"\n');
