/** watch: what others do to the programs, to interfaces and to the tables of the eBPF path, as the kernel tells of it. */
import type { Sys } from "../../host/sys.ts";
import type { Watch, Watcher } from "../../host/watcher.ts";
import { ATTACHMENT_GROUPS, readClassifierNews } from "../../kernel/bpf/monitor.ts";
import { ForeignTransactions, openNftablesNotifications } from "../../kernel/nftables/monitor.ts";
import type { Link } from "../../kernel/route/client.ts";
import { openRouteNotifications, readNews } from "../../kernel/route/monitor.ts";
import type { DriverEvents } from "../driver.ts";
import { GATE_TABLE } from "./gate.ts";
import { GUARD_TABLE } from "./guard.ts";

/** Row of the tables. */
export const GATE = "gate";

export interface WatchedEbpf {
  nameOf(index: number): string | undefined;
  /** What is known of the interface is not so any more. */
  isChanged(link: Pick<Link, "index" | "mtuBytes" | "up">): boolean;
  /** The port id is of a socket with which we attach. */
  isOwn(portId: number): boolean;
  /** Port ids of the sockets that change the tables. */
  readonly gatePort: () => number | undefined;
  readonly guardPort: () => number | undefined;
}

function rowOf(index: number): string {
  return `interface ${index}`;
}

/** Index of the interface whose row it is. */
export function touchedIndex(row: string): number {
  return Number(row.slice(row.indexOf(" ") + 1));
}

/** Throws KernelError. */
export function watchEbpf(sys: Sys, watcher: Watcher, events: DriverEvents, ours: WatchedEbpf): Watch {
  const gate = new ForeignTransactions(GATE_TABLE);
  const guard = new ForeignTransactions(GUARD_TABLE);
  let isLost = false;
  const watches: Watch[] = [];
  const lost = (cause: string): void => {
    if (isLost) return;
    isLost = true;
    for (const watch of watches) watch.close();
    events.lost(cause);
  };
  watches.push(
    watcher.watch(openRouteNotifications(sys, ATTACHMENT_GROUPS), {
      received: (datagram) => {
        const touched = new Set<string>();
        for (const news of readNews(datagram))
          // What is new, or has gone, or has another name or size of packets, or is up now, or down.
          if (
            news.type === "link" &&
            (ours.nameOf(news.link.index) !== (news.gone ? undefined : news.link.name) ||
              (!news.gone && ours.isChanged(news.link)))
          )
            touched.add(rowOf(news.link.index));
        for (const { index, by } of readClassifierNews(datagram)) if (!ours.isOwn(by)) touched.add(rowOf(index));
        if (touched.size > 0) events.changed("somebody else", touched);
      },
      lost,
    }),
    watcher.watch(openNftablesNotifications(sys), {
      received: (datagram) => {
        const found = [...gate.take(datagram, ours.gatePort()), ...guard.take(datagram, ours.guardPort())];
        for (const { by } of found) events.changed(by, new Set([GATE]));
      },
      lost,
    }),
  );
  return { close: () => watches.forEach((watch) => watch.close()) };
}
