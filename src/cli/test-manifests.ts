/** Manifests for tests: small ones, and the question that is put to them. */
import { type CommandResult, runWhy } from "./why.ts";

export function why(
  manifests: string,
  source: string,
  destination: string,
  output: "text" | "json" = "text",
): Promise<CommandResult> {
  const stdin = async (): Promise<Uint8Array> => new TextEncoder().encode(manifests);
  return runWhy({
    source,
    destination,
    namespace: "shop",
    output,
    files: ["-"],
    recursive: false,
    stdin,
    kubeconfig: undefined,
    environment: {},
  });
}

export const NAMESPACE = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";

export function deployment(name: string, more = "", kind = "Deployment"): string {
  const apiVersion = kind.endsWith("Job") ? "batch/v1" : kind === "ReplicationController" ? "v1" : "apps/v1";
  const template = `{metadata: {labels: {app: ${name}}}, spec: {${more} containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}`;
  const spec = kind === "CronJob" ? `{jobTemplate: {spec: {template: ${template}}}}` : `{template: ${template}}`;
  return `---\n{apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: ${name}, namespace: shop}, spec: ${spec}}\n`;
}

export function policy(name: string, spec: string): string {
  return `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ${name}, namespace: shop}, spec: ${spec}}\n`;
}

export function pod(name: string, addresses: string, more = "", node = "n1"): string {
  const ips = addresses
    .split(" ")
    .map((ip) => `{ip: '${ip}'}`)
    .join(", ");
  return `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: shop, labels: {app: ${name}}}, spec: {nodeName: ${node}, ${more}}, status: {phase: Running, podIPs: [${ips}]}}\n`;
}

export const ONLY_FRONT = policy(
  "only-front",
  "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: http}]}]}",
);
