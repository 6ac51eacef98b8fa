/** Manifest endpoints: the endpoints of Services in manifests: those that are written, and those that the Services' selectors will select. */
import type { Resource } from "../model/resource.ts";
import { formatProtocol } from "../net/protocol.ts";
import { type Endpoints, type Service, type ServicePort, protocolOf } from "../verify/services.ts";
import { isPlaceholder } from "../verify/placeholders.ts";
import type { Addr } from "../net/addr.ts";

/** For Services without slices, one slice for each pod that is selected; for others, for each selected pod that does not run yet. */
export function endpointsInManifests(
  services: readonly Service[],
  slices: readonly Endpoints[],
  pods: readonly Resource<"Pod">[],
): Resource<"EndpointSlice">[] {
  const written = new Set(slices.map(({ namespace, service }) => `${namespace}/${service}`));
  return services.flatMap(({ namespace, name, selector, ports }) => {
    if (selector === undefined) return [];
    const terms = Object.entries(selector);
    const isWritten = written.has(`${namespace}/${name}`);
    const selected = pods.filter(
      (pod) =>
        (pod.metadata.namespace ?? "default") === namespace &&
        pod.status?.phase !== "Succeeded" &&
        pod.status?.phase !== "Failed" &&
        terms.every(([label, value]) => pod.metadata.labels?.[label] === value) &&
        (!isWritten || addressesOf(pod).some((text) => isPlaceholder(text as Addr))),
    );
    return selected.map((pod) => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: `${name}-${pod.metadata.name}`, namespace, labels: { "kubernetes.io/service-name": name } },
      addressType: "",
      endpoints: [{ addresses: addressesOf(pod) }],
      ports: ports.flatMap((port) => {
        const number = targetOf(pod, port);
        return number === undefined ? [] : [{ protocol: formatProtocol(port.protocol).toUpperCase(), port: number }];
      }),
    }));
  });
}

function addressesOf({ status }: Resource<"Pod">): string[] {
  const many = (status?.podIPs ?? []).map(({ ip }) => ip ?? "");
  return many.length > 0 ? many : status?.podIP === undefined ? [] : [status.podIP];
}

/** Each pod has its own number for a name. */
function targetOf({ spec }: Resource<"Pod">, { target, protocol }: ServicePort): number | undefined {
  if (typeof target === "number") return target;
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])];
  return containers
    .flatMap(({ ports }) => ports ?? [])
    .find((port) => port.name === target && protocolOf(port.protocol ?? "") === protocol)?.containerPort;
}

/** Endpoints of a Service that has slices repeat them. */
export function withoutMirrored(slices: readonly Endpoints[], endpoints: readonly Endpoints[]): Endpoints[] {
  const has = new Set(slices.map(({ namespace, service }) => `${namespace}/${service}`));
  return [...slices, ...endpoints.filter(({ namespace, service }) => !has.has(`${namespace}/${service}`))];
}
