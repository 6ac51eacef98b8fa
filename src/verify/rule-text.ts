/** Rule text: a rule in short, for the operator: `deny tcp from 10.0.0.0/8 to has(role) ports 80, 8080-8090`. */
import type {
  CalicoSelector,
  WrittenIcmp,
  WrittenPeer,
  WrittenPort,
  WrittenRule,
  WrittenSide,
} from "../semantics/cluster.ts";
import { portOf } from "../semantics/match.ts";
import type { LabelSelector } from "kubernetes-types/meta/v1";
import { formatTraffic, icmpTraffic } from "./traffic.ts";

const MOST_NAMED = 3;

export function formatRule(rule: WrittenRule): string {
  const { action, ipVersion, protocol, notProtocol, icmp, notIcmp = [], source, destination } = rule;
  const words = [
    action,
    ...(ipVersion === undefined ? [] : [`IPv${ipVersion}`]),
    ...(icmp === undefined ? (protocol === undefined ? [] : [formatTraffic([{ protocol }])]) : [icmpText(icmp)]),
    ...(notProtocol === undefined ? [] : [`not ${formatTraffic([{ protocol: notProtocol }])}`]),
    ...(notIcmp.length === 0 ? [] : [`not ${notIcmp.map(icmpText).join(", ")}`]),
  ];
  const from = sideText(source);
  const to = sideText(destination);
  return [words.join(" "), ...(from === "" ? [] : [`from ${from}`]), ...(to === "" ? [] : [`to ${to}`])].join(" ");
}

function icmpText({ protocol, type, code }: WrittenIcmp): string {
  return formatTraffic([icmpTraffic(protocol, type, code)]);
}

function sideText({ among = [], notAmong = [], ports, notPorts }: WrittenSide): string {
  return [
    ...among.map((peers) => listed(peers.map(peerText))),
    ...(notAmong.length === 0 ? [] : [`not ${listed(notAmong.map(peerText))}`]),
    ...(ports === undefined ? [] : [`ports ${listed(ports.map(portText))}`]),
    ...(notPorts === undefined ? [] : [`not ports ${listed(notPorts.map(portText))}`]),
  ].join(" ");
}

function listed(texts: readonly string[]): string {
  const rest = texts.length > MOST_NAMED ? ` and ${texts.length - MOST_NAMED} more` : "";
  return texts.length === 0 ? "nothing" : `${texts.slice(0, MOST_NAMED).join(", ")}${rest}`;
}

function peerText(peer: WrittenPeer): string {
  if ("net" in peer) return peer.net;
  if ("service" in peer) return `Service ${peer.service}`;
  if ("selected" in peer) return selectorText(peer.selected);
  if (peer.ipBlock) return peer.ipBlock.cidr;
  const { podSelector, namespaceSelector } = peer;
  return [
    ...(podSelector ? [`pods ${labelsText(podSelector)}`] : ["pods"]),
    ...(namespaceSelector ? [`in namespaces ${labelsText(namespaceSelector)}`] : []),
  ].join(" ");
}

function selectorText(selected: CalicoSelector): string {
  const { selector, notSelector, namespace, namespaceSelector, serviceAccountSelector, serviceAccountNames } = selected;
  const words = [
    selector ? selector.trim() : "",
    notSelector ? `not (${notSelector.trim()})` : "",
    serviceAccountNames && serviceAccountNames.length > 0 ? `service accounts ${serviceAccountNames.join(", ")}` : "",
    serviceAccountSelector ? `service accounts ${serviceAccountSelector.trim()}` : "",
    namespaceSelector ? `in namespaces ${namespaceSelector.trim()}` : namespace ? `in namespace ${namespace}` : "",
  ];
  return words.filter((word) => word !== "").join(" ");
}

function labelsText({ matchLabels, matchExpressions }: LabelSelector): string {
  const labels = Object.entries(matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  const terms = (matchExpressions ?? []).map(({ key, operator, values }) =>
    values && values.length > 0 ? `${key} ${operator} ${values.join("|")}` : `${key} ${operator}`,
  );
  return [...labels, ...terms].join(",") || "(all)";
}

function portText(entry: WrittenPort): string {
  const { port, protocols } = portOf(entry);
  if (port === undefined) return protocols.map((protocol) => formatTraffic([{ protocol }])).join("/");
  if ("name" in port) return port.name;
  if ("service" in port) return `of Service ${port.service}`;
  return port.from === port.to ? String(port.from) : `${port.from}-${port.to}`;
}
