/** places: paths and objects that the exchanges share. */
import type { Recorder } from "../recorder.ts";

export interface Places {
  readonly namespace: string;
  /** Kubectl's sessions have one of their own, so that plain exchanges depend on no client. */
  readonly kubectlNamespace: string;
  readonly group: string;
  /** Path of a collection in the namespace. */
  in(plural: string, group?: string): string;
  /** Path of a collection outside of namespaces. */
  all(plural: string, group?: string): string;
}

export function placesOf(recorder: Recorder): Places {
  const namespace = `contract-${recorder.suffix}`;
  const root = (group: string): string => (group === "" ? "/api/v1" : `/apis/${group}`);
  return {
    namespace,
    kubectlNamespace: `${namespace}-k`,
    group: `${namespace}.example.com`,
    in: (plural, group = "") => `${root(group)}/namespaces/${namespace}/${plural}`,
    all: (plural, group = "") => `${root(group)}/${plural}`,
  };
}

export interface Metadata {
  readonly [field: string]: unknown;
}

export function configMap(name: string, metadata: Metadata = {}, rest: object = {}): object {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, ...metadata }, ...rest };
}

/** A Pod that no scheduler takes, and that is given no token: its volume would have a random name. */
export function pod(name: string, spec: object = {}, metadata: Metadata = {}): object {
  const containers = [{ name: "main", image: "registry.example/app:1", ports: [{ name: "http", containerPort: 80 }] }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app: name }, ...metadata },
    spec: { schedulerName: "nobody", automountServiceAccountToken: false, containers, ...spec },
  };
}

export function service(name: string, spec: object): object {
  return { apiVersion: "v1", kind: "Service", metadata: { name }, spec };
}

export function policy(name: string, spec: unknown, metadata: Metadata = {}): object {
  return { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name, ...metadata }, spec };
}

export const NETWORKING = "networking.k8s.io/v1";
export const DISCOVERY = "discovery.k8s.io/v1";
export const DEFINITIONS = "apiextensions.k8s.io/v1";

export const MERGE = "application/merge-patch+json";
export const STRATEGIC = "application/strategic-merge-patch+json";
export const JSON_PATCH = "application/json-patch+json";
export const APPLY = "application/apply-patch+yaml";
export const TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io";
