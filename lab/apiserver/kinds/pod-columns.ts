/** PodColumns: READY, STATUS and RESTARTS as kubectl shows them. Source: pkg/printers/internalversion/printers.go, printPod. */
import {
  arrayAt,
  fieldAt,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import type { Column } from "../resource-type.ts";
import { formatAge } from "../table/age.ts";
import { AGE_COLUMN, column, NAME_COLUMN, wide } from "./columns.ts";

function statuses(pod: ApiObject, list: string): JsonObject[] {
  return arrayAt(fieldAt(pod, "status", list)).filter(isJsonObject);
}

function readyText(pod: ApiObject): string {
  const total = arrayAt(fieldAt(pod, "spec", "containers")).length;
  const ready = statuses(pod, "containerStatuses").filter(
    (status) => status["ready"] === true && isJsonObject(fieldAt(status, "state", "running")),
  ).length;
  return `${ready}/${total}`;
}

function endedText(terminated: JsonObject): string {
  const reason = stringAt(terminated["reason"]);
  if (reason !== "") return reason;
  return typeof terminated["signal"] === "number" && terminated["signal"] !== 0
    ? `Signal:${terminated["signal"]}`
    : `ExitCode:${String(terminated["exitCode"] ?? 0)}`;
}

function statusText(pod: ApiObject): string {
  let text = stringAt(fieldAt(pod, "status", "reason")) || stringAt(fieldAt(pod, "status", "phase"));
  const initText = initStatus(pod);
  if (initText !== undefined) text = initText;
  else {
    let running = false;
    for (const status of statuses(pod, "containerStatuses").reverse()) {
      const waiting = stringAt(fieldAt(status, "state", "waiting", "reason"));
      const terminated = fieldAt(status, "state", "terminated");
      if (waiting !== "") text = waiting;
      else if (isJsonObject(terminated)) text = endedText(terminated);
      else if (status["ready"] === true && isJsonObject(fieldAt(status, "state", "running"))) running = true;
    }
    if (text === "Completed" && running) text = isReady(pod) ? "Running" : "NotReady";
  }
  if (pod.metadata.deletionTimestamp === undefined) return text;
  if (fieldAt(pod, "status", "reason") === "NodeLost") return "Unknown";
  const phase = fieldAt(pod, "status", "phase");
  return phase === "Succeeded" || phase === "Failed" ? text : "Terminating";
}

function isReady(pod: ApiObject): boolean {
  return arrayAt(fieldAt(pod, "status", "conditions")).some(
    (entry) => fieldAt(entry, "type") === "Ready" && fieldAt(entry, "status") === "True",
  );
}

/** `Init:…` while an init container has not ended well; undefined afterwards. */
function initStatus(pod: ApiObject): string | undefined {
  const list = statuses(pod, "initContainerStatuses");
  const total = arrayAt(fieldAt(pod, "spec", "initContainers")).length;
  for (const [index, status] of list.entries()) {
    const terminated = fieldAt(status, "state", "terminated");
    if (isJsonObject(terminated)) {
      if (terminated["exitCode"] === 0) continue;
      return `Init:${endedText(terminated)}`;
    }
    const waiting = stringAt(fieldAt(status, "state", "waiting", "reason"));
    return waiting !== "" && waiting !== "PodInitializing" ? `Init:${waiting}` : `Init:${index}/${total}`;
  }
  return undefined;
}

function restarts(pod: ApiObject, nowMs: number): string {
  let count = 0;
  let last = "";
  for (const status of statuses(pod, "containerStatuses")) {
    count += typeof status["restartCount"] === "number" ? status["restartCount"] : 0;
    const finished = stringAt(fieldAt(status, "lastState", "terminated", "finishedAt"));
    if (finished > last) last = finished;
  }
  return count > 0 && last !== "" ? `${count} (${formatAge(last, nowMs)} ago)` : String(count);
}

function gates(pod: ApiObject): JsonValue {
  const list = arrayAt(fieldAt(pod, "spec", "readinessGates"));
  if (list.length === 0) return "<none>";
  const conditions = arrayAt(fieldAt(pod, "status", "conditions")).map(objectAt);
  const met = list.filter((gate) =>
    conditions.some((entry) => entry["type"] === fieldAt(gate, "conditionType") && entry["status"] === "True"),
  ).length;
  return `${met}/${list.length}`;
}

export const podColumns: readonly Column[] = [
  NAME_COLUMN,
  column("Ready", "Containers that are ready, of all", readyText),
  column("Status", "State of the pod and its containers", statusText),
  column("Restarts", "How often containers were started again", restarts),
  AGE_COLUMN,
  wide(
    "IP",
    "First address",
    (pod) =>
      stringAt(fieldAt(arrayAt(fieldAt(pod, "status", "podIPs"))[0], "ip")) ||
      stringAt(fieldAt(pod, "status", "podIP")) ||
      "<none>",
  ),
  wide("Node", "Node of the pod", (pod) => stringAt(fieldAt(pod, "spec", "nodeName")) || "<none>"),
  wide(
    "Nominated Node",
    "Node that is being cleared for the pod",
    (pod) => stringAt(fieldAt(pod, "status", "nominatedNodeName")) || "<none>",
  ),
  wide("Readiness Gates", "Conditions that the pod waits for", gates),
];
