/** What `calicoctl why` explains, pair by pair and class by class, is what the definition says about each packet in the whole cluster. */
import { expect, test } from "bun:test";
import { formatName } from "../../src/model/key.ts";
import type { FlowPacket } from "../../src/net/flow.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { clusterOf } from "../../src/semantics/read-cluster.ts";
import { decide } from "../../src/semantics/decide.ts";
import { journey } from "../../src/semantics/journey.ts";
import { type Answer, explainer, type Party } from "../../src/verify/explain.ts";
import { hasPorts, isIcmp, type Range, type Traffic } from "../../src/verify/traffic.ts";
import { randomCluster, randomPackets } from "./clusters.ts";

const CLUSTERS = 150;
const PACKETS = 60;
const FIRST_SEED = 5_000_000;

function isAbout({ traffic }: Answer, packet: FlowPacket): boolean {
  return traffic.some((each) => covers(each, packet));
}

function covers(traffic: Traffic, { protocol, sourcePort, destinationPort, icmp }: FlowPacket): boolean {
  const isIn = ({ from, to }: Range, value: number | undefined): boolean =>
    value !== undefined && from <= value && value <= to;
  if (traffic.protocol === undefined) return "except" in traffic && traffic.except?.includes(protocol) === false;
  if (traffic.protocol !== protocol) return false;
  if (hasPorts(traffic))
    return isIn(traffic, destinationPort) && (traffic.source === undefined || isIn(traffic.source, sourcePort));
  return !isIcmp(traffic) || (isIn(traffic.types, icmp?.type) && isIn(traffic.codes, icmp?.code));
}

test("every packet has the fate that its class and its pair are given", () => {
  let asked = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + CLUSTERS; seed++) {
    const resources = randomCluster(seed);
    const cluster = clusterOf(resources);
    const explain = explainer(cluster);
    const pods: Party[] = cluster.pods.map(({ key, addresses }) => ({ label: formatName(key), pod: key, addresses }));
    for (const { packet } of randomPackets(resources, PACKETS, seed)) {
      const partiesAt = (addr: FlowPacket["source"]): Party[] => [
        { label: addr, pod: undefined, addresses: [addr] },
        ...pods.filter(({ addresses }) => addresses.includes(addr)),
      ];
      for (const source of partiesAt(packet.source)) {
        for (const destination of partiesAt(packet.destination)) {
          const answer = explain({ source, destination, traffic: undefined }).find(
            (each) => each.source === packet.source && each.destination === packet.destination && isAbout(each, packet),
          );
          const { egress, ingress } = journey(cluster, packet, { source: source.pod, destination: destination.pod });
          expect({ seed, packet, egress: answer?.egress, ingress: answer?.ingress }).toEqual({
            seed,
            packet,
            egress,
            ingress,
          });
          asked++;
        }
      }
    }
  }
  expect(asked).toBeGreaterThan(CLUSTERS * PACKETS);
}, 290_000);

test("host endpoints on the way say what the definition says of them in the whole cluster", () => {
  let asked = 0;
  for (let seed = FIRST_SEED + 1; seed < FIRST_SEED + 2 * CLUSTERS; seed += 2) {
    const resources = randomCluster(seed);
    const cluster = clusterOf(resources);
    const interfaces = cluster.hostEndpoints.map((endpoint, index) => ({
      node: resources.hostEndpoints[index]?.spec.node ?? "",
      interfaceName: resources.hostEndpoints[index]?.spec.interfaceName,
      endpoint,
    }));
    if (interfaces.length === 0) continue;
    const explain = explainer(cluster, undefined, { interfaces, settingsOf: () => DEFAULT_SETTINGS });
    for (const { packet } of randomPackets(resources, PACKETS / 3, seed)) {
      const partyAt = (addr: FlowPacket["source"]): Party => ({ label: addr, pod: undefined, addresses: [addr] });
      const answers = explain({
        source: partyAt(packet.source),
        destination: partyAt(packet.destination),
        traffic: undefined,
      });
      const answer = answers.find((each) => isAbout(each, packet));
      for (const { hook, direction, verdicts } of answer?.hosts ?? [])
        for (const { endpoint: name, action, reason } of verdicts) {
          if (name === undefined) continue;
          const endpoint = { kind: "HostEndpoint", namespace: undefined, name } as const;
          const found = decide(cluster, packet, { endpoint, direction, hook, fromOwnNode: false });
          expect({ seed, packet, action, reason }).toEqual({
            seed,
            packet,
            action: found.action,
            reason: found.reason,
          });
          asked++;
        }
    }
  }
  expect(asked).toBeGreaterThan(500);
}, 290_000);
