/** pod-state: what the lab's kubelet remembers of a pod sandbox, on disk, so that pods survive the supervisor. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { CniResult, Sandbox } from "./cni.ts";
import type { ProcessId } from "./daemon.ts";

export interface PodState {
  readonly sandbox: Sandbox;
  readonly node: string;
  readonly netns: string;
  readonly cgroup: string;
  /** Absent until ADD has answered. */
  readonly result?: CniResult;
  readonly process?: ProcessId;
  readonly restarts: number;
  readonly startedAt: string;
}

export function loadPods(directory: string): PodState[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((file) => file.endsWith(".json"))
    .map((file) => JSON.parse(readFileSync(`${directory}/${file}`, "utf8")) as PodState);
}

export function savePod(directory: string, state: PodState): void {
  mkdirSync(directory, { recursive: true });
  const path = `${directory}/${state.sandbox.uid}.json`;
  writeFileSync(`${path}.new`, JSON.stringify(state));
  renameSync(`${path}.new`, path);
}

export function forgetPod(directory: string, uid: string): void {
  rmSync(`${directory}/${uid}.json`, { force: true });
}

/** Addresses without prefix lengths. */
export function addressesOf(state: PodState): string[] {
  return (state.result?.ips ?? []).map((ip) => ip.address.replace(/\/\d+$/, ""));
}

export function hostInterfaceOf(state: PodState): string | undefined {
  return state.result?.interfaces?.find((entry) => entry.sandbox === undefined)?.name;
}
