/**
 * Monitor: the kernel's notifications of classifiers and queueing disciplines, whoever changes them. One that is taken out with its queueing discipline is
 * not told by itself. Source: linux net/sched/cls_api.c, sch_api.c.
 */
import { eachMessage } from "../netlink/reader.ts";

const RTNLGRP_LINK = 1;
const RTNLGRP_TC = 4;
/** Of interfaces too, which come and go with their classifiers. */
export const ATTACHMENT_GROUPS: readonly number[] = [RTNLGRP_LINK, RTNLGRP_TC];

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const ABOUT_ATTACHMENTS: ReadonlySet<number> = new Set([RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER]);

/** Of a classifier, or of a queueing discipline. */
export interface ClassifierNews {
  /** Of the interface. */
  readonly index: number;
  /** Port id of the socket that asked for the change. */
  readonly by: number;
}

/** What one datagram tells of classifiers; messages of other kinds tell nothing. */
export function readClassifierNews(datagram: Uint8Array): ClassifierNews[] {
  const news: ClassifierNews[] = [];
  eachMessage(datagram, ({ type, body, portId: by }) => {
    if (!ABOUT_ATTACHMENTS.has(type)) return;
    const index = body.i32(4);
    if (index !== undefined) news.push({ index, by });
  });
  return news;
}
